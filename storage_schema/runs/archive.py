"""Rewrite a run's theta for cold storage, and back, each in one commit: at every instant the run has one form or the
other, complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.errors import StoreDamaged
from storage_schema.format import arrays
from storage_schema.format.delta_codec import decode, encode
from storage_schema.format.theta import ThetaLayout
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.staging import BITS

if TYPE_CHECKING:
    import zarr

    from storage_schema.runs.writer import RunWriter

ARCHIVE_SHARD: Final = 2**24
"""Columns in a file of a sharded archive: a file is compressed in memory, so it is smaller than one of theta"""


@dataclass(frozen=True)
class ArchiveReport:
    """The sizes before and after archiving."""

    run: StoredRun
    raw_bytes: int
    archived_bytes: int

    @property
    def gain(self) -> float:
        """Bytes of theta over bytes of its archive."""
        return self.raw_bytes / self.archived_bytes


def archive_theta(writer: RunWriter) -> ArchiveReport:
    """Commit the run with ``theta_archive`` in place of theta. Every file is decoded again and compared before the commit.

    Raises LookupError where the run keeps no theta.
    """
    run = writer.current
    if run is None or run.theta is None:
        raise LookupError(f"run {writer.name} keeps no copy of its checkpoints to archive")
    theta = run.theta
    layout = replace(theta, shard=min(theta.shard, ARCHIVE_SHARD))
    raw = _bytes_of(run, arrays.THETA)
    done = writer.commit_archive(run.contents(), layout, lambda folder: _encode_all(run, theta, layout, folder))
    return ArchiveReport(done, raw, _bytes_of(done, arrays.THETA_ARCHIVE))


def restore_theta(writer: RunWriter) -> StoredRun:
    """Commit the run with theta as it was before ``archive_theta``. Raises LookupError where there is no archive."""
    run = writer.current
    if run is None or run.archive is None:
        raise LookupError(f"run {writer.name} has no archive to restore")
    layout = run.archive
    writer.theta_begin(layout.columns, layout.dtype, range(layout.rows), key=f"restore {run.generation}")
    archive = _array(run.group)
    for lo, hi in _ranges(layout):
        for row, bits in _decoded(archive, layout, lo, hi):
            writer.write_theta(row, lo, bits.data)
    return writer.commit(run.contents())


def _encode_all(run: StoredRun, theta: ThetaLayout, layout: ThetaLayout, folder: Path) -> None:
    import zarr
    from zarr.storage import LocalStore

    archive = _array(zarr.open_group(LocalStore(folder), mode="r+", zarr_format=3, use_consolidated=False))
    for lo, hi in _ranges(layout):
        before = None
        for row in range(layout.rows):
            bits = _read(run, theta, row, lo, hi)
            archive[row, lo:hi] = encode(bits, before)
            before = bits
        for row, bits in _decoded(archive, layout, lo, hi):
            if not np.array_equal(bits, _read(run, theta, row, lo, hi)):
                raise StoreDamaged(
                    folder, f"row {row} of the archive does not decode to theta", "Nothing was changed; try again."
                )


def _decoded(archive: zarr.Array[Any], layout: ThetaLayout, lo: int, hi: int) -> Iterator[tuple[int, NDArray[Any]]]:
    before = None
    for row in range(layout.rows):
        before = decode(np.asarray(archive[row, lo:hi]), before)
        yield row, before


def _ranges(layout: ThetaLayout) -> Iterator[tuple[int, int]]:
    """Yield the columns [lo, hi) of each file of the archive."""
    for lo in range(0, layout.columns, layout.span):
        yield lo, min(layout.columns, lo + layout.span)


def _read(run: StoredRun, theta: ThetaLayout, row: int, lo: int, hi: int) -> NDArray[Any]:
    bits = np.empty(hi - lo, BITS[theta.dtype])
    run.read_theta(row, lo, hi, bits.data.cast("B"))
    return bits


def _array(group: zarr.Group) -> zarr.Array[Any]:
    import zarr

    array = group[arrays.THETA_ARCHIVE]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{arrays.THETA_ARCHIVE} is a group")
    return array


def _bytes_of(run: StoredRun, array: str) -> int:
    return sum(entry.size for key, entry in run.entries.items() if key.startswith(f"{array}/c/"))
