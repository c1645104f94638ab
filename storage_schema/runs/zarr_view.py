"""A read-only zarr store over a committed run: what zarr reads through it is what was committed, or an error.

zarr takes a chunk that is not there for a chunk of fill values. Here every chunk is in the manifest, so one that is
missing on disk, altered, or asked for and never committed raises StoreDamaged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Never

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.buffer.core import default_buffer_prototype

from storage_schema.runs.snapshot import Snapshot


class VerifiedStore(Store):
    """The files of a :class:`Snapshot`, for zarr."""

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(read_only=True)
        self._snapshot = snapshot

    def __eq__(self, value: object) -> bool:
        return isinstance(value, VerifiedStore) and value._snapshot is self._snapshot

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"VerifiedStore({str(self._snapshot.run)!r}, generation={self._snapshot.manifest.generation})"

    def with_read_only(self, read_only: bool = False) -> VerifiedStore:
        if not read_only:
            raise ValueError("a committed run is read-only; RunStore.writer writes")
        return self

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if not self._has(key) and "/c/" not in key:
            return None  # zarr asks for metadata of other formats this way
        start, stop = self._span(key, byte_range)
        data = await asyncio.to_thread(self._snapshot.read_range, key, start, stop)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    def _span(self, key: str, byte_range: ByteRequest | None) -> tuple[int, int]:
        size = self._snapshot.entry(key).size
        match byte_range:
            case None:
                return 0, size
            case RangeByteRequest(start, stop):
                return start, stop
            case OffsetByteRequest(offset):
                return offset, size
            case SuffixByteRequest(suffix):
                return max(0, size - suffix), size
        raise TypeError(f"unknown byte range {byte_range!r}")

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return await asyncio.gather(*(self.get(key, prototype, byte_range) for key, byte_range in key_ranges))

    def _has(self, key: str) -> bool:
        return key in self._snapshot.manifest.files

    async def exists(self, key: str) -> bool:
        return self._has(key)

    async def set(self, key: str, value: Buffer) -> None:
        self._refuse()

    async def delete(self, key: str) -> None:
        self._refuse()

    def _refuse(self) -> Never:
        raise ValueError("a committed run is read-only; RunStore.writer writes")

    async def list(self) -> AsyncIterator[str]:
        for key in self._snapshot.manifest.files:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self._snapshot.manifest.files:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        files = self._snapshot.manifest.files
        for name in dict.fromkeys(k[len(below) :].split("/", 1)[0] for k in files if k.startswith(below)):
            yield name
