"""Where the bytes of theta lie: one row a checkpoint, cut into files of equal column ranges.

Below ``THETA_SHARD_ABOVE`` parameters a file is one zarr chunk, (1, 2^20) values. Above it a file is one zarr shard of
(1, 2^26) values: its chunks one after the other, then the index that the sharding codec keeps at the end. Both are raw
little-endian values at fixed places, so any column range can be written or read with one pwrite or pread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.format import arrays

CRC_BYTES = 4
ENTRY_BYTES = 16


@dataclass(frozen=True)
class ThetaLayout:
    """Shape, stored type and cutting of a theta of ``rows`` checkpoints and ``columns`` parameters."""

    rows: int
    columns: int
    dtype: str
    """stored type (``bfloat16`` too)"""
    chunk: int
    """columns in a zarr chunk"""
    shard: int
    """columns in a zarr shard, 0 where chunks are files themselves"""

    @classmethod
    def of(cls, rows: int, columns: int, dtype: str) -> ThetaLayout:
        if rows < 1 or columns < 1:
            raise ValueError(f"theta needs rows and columns, not {rows} x {columns}")
        sharded = columns > arrays.THETA_SHARD_ABOVE
        chunk = min(arrays.THETA_CHUNK, columns)
        return cls(rows, columns, dtype, chunk, arrays.THETA_SHARD if sharded else 0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def itemsize(self) -> int:
        return arrays.ITEMSIZE[self.dtype]

    @property
    def span(self) -> int:
        """Columns in one file."""
        return self.shard or self.chunk

    @property
    def files_in_row(self) -> int:
        return -(-self.columns // self.span)

    def key(self, row: int, file: int, array: str = arrays.THETA) -> str:
        return f"{array}/c/{row}/{file}"

    def keys(self, array: str = arrays.THETA) -> Iterator[str]:
        return (self.key(row, file, array) for row in range(self.rows) for file in range(self.files_in_row))

    def data_bytes(self, file: int) -> int:
        """Return the bytes of values in a file: whole chunks, the last one padded beyond the last column."""
        columns = min(self.span, self.columns - file * self.span)
        return -(-columns // self.chunk) * self.chunk * self.itemsize

    def tail(self, file: int) -> bytes:
        """Return the bytes that follow the values: none, or the index of a shard."""
        if not self.shard:
            return b""
        step = self.chunk * self.itemsize
        return shard_index(self.data_bytes(file) // step, self.shard // self.chunk, step)

    def pieces(self, lo: int, hi: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (file, byte in the file, byte in [lo, hi), length in bytes) of columns [lo, hi) of a row."""
        at = lo
        while at < hi:
            file, within = divmod(at, self.span)
            end = min(hi, (file + 1) * self.span)
            yield file, within * self.itemsize, (at - lo) * self.itemsize, (end - at) * self.itemsize
            at = end


def shard_index(present: int, total: int, step: int) -> bytes:
    """Return the index of a shard whose first ``present`` of ``total`` chunks lie one after the other, ``step`` bytes
    each.

    Offset and length as little-endian uint64 a chunk, 2^64 - 1 twice for a chunk beyond the array, then their CRC-32C
    (zarr v3, sharding codec 1.0).
    """
    from google_crc32c import value

    entries = np.full((total, 2), 2**64 - 1, "<u8")
    entries[:present, 0] = np.arange(present, dtype="<u8") * step
    entries[:present, 1] = step
    raw = entries.tobytes()
    return raw + int(value(raw)).to_bytes(CRC_BYTES, "little")


def shard_offsets(shard: memoryview, total: int) -> NDArray[np.uint64]:
    """Return the byte offset of each chunk of a shard, from the index at its end; 2^64 - 1 for a chunk that is absent."""
    end = len(shard) - CRC_BYTES
    return np.frombuffer(shard[end - total * ENTRY_BYTES : end], "<u8").reshape(total, 2)[:, 0]
