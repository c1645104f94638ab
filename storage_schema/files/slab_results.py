"""Results of slabs as one file each, so that a worker's results remain when the runner that requested them dies.

A file is one record of the resume journal, named by the job's key and the slab's number, written whole or not at all.
Two processes may write the same slab: the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from storage_schema.files.durable import make_dir, replace_file, writing
from storage_schema.files.journal import Arrays, decode_record, encode_record
from storage_schema.files.regular import read_file


class SlabFiles:
    """Slabs of the job ``key`` below ``directory``."""

    def __init__(self, directory: str | Path, key: str) -> None:
        self.base = Path(directory)
        self.directory = self.base / "slabs" / key[:32]
        self.key = key

    def _path(self, slab: int) -> Path:
        return self.directory / f"{slab:07d}.slab"

    def put(self, slab: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a slab's results; when this returns they survive a crash. Raises DiskFull."""
        path = self._path(slab)
        with writing(path):
            make_dir(path.parent)
            replace_file(path, *encode_record(slab, arrays, {"key": self.key}), writers=True)

    def get(self, slab: int) -> Arrays | None:
        """Return the results kept for a slab; None if there is no whole file of this job and slab."""
        try:
            data = read_file(self._path(slab))
        except FileNotFoundError:
            return None
        record = decode_record(data)
        if record is None or record[0] != slab or record[2].get("key") != self.key:
            return None
        return record[1]

    def has(self, slab: int) -> bool:
        """Return whether there is a file for the slab, without checking that it is whole (``get`` does)."""
        return self._path(slab).is_file()

    def remove(self, slab: int) -> None:
        self._path(slab).unlink(missing_ok=True)

    def blob(self, data: bytes | None = None) -> Path:
        """Return the path of the file that describes the job, after writing ``data`` to it if given."""
        path = self.directory / "job.pickle"
        if data is not None:
            with writing(path):
                make_dir(path.parent)
                replace_file(path, data, writers=True)
        return path

    def clear(self) -> None:
        """Remove everything of the job."""
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                path.unlink(missing_ok=True)
            self.directory.rmdir()
