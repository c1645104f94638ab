"""Read rows of a theta that another process is writing, from the location of its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from storage_schema.files.durable import read_all
from storage_schema.files.regular import open_regular
from storage_schema.format.theta import ThetaLayout

if TYPE_CHECKING:
    from storage_schema.runs.reader import StoredRun


def read_columns(folder: Path, layout: ThetaLayout, row: int, lo: int, out: memoryview) -> None:
    """Fill ``out`` (bytes) with stored values of a row from column ``lo`` on, from the files below ``folder``.

    Raises EOFError if they are too short, FileNotFoundError if one is missing.
    """
    for number, at, start, length in layout.pieces(lo, lo + len(out) // layout.itemsize):
        fd = open_regular(folder / layout.key(row, number))
        try:
            read_all(fd, out[start : start + length], at)
        finally:
            os.close(fd)


@dataclass(frozen=True)
class ThetaFiles:
    """Rows ``first`` and later lie in ``folder``, where they were written; those before them in the committed run at ``committed``."""

    layout: ThetaLayout
    folder: Path
    first: int
    committed: Path | None

    @cached_property
    def _stored(self) -> StoredRun:
        from storage_schema.runs.reader import StoredRun

        if self.committed is None:
            raise LookupError(f"{self.folder}: no rows before {self.first}")
        return StoredRun(self.committed)

    def read_theta(self, row: int, lo: int, out: memoryview) -> None:
        """Fill ``out`` with stored values of a row from column ``lo`` on.

        Raises EOFError where they were not written.
        """
        view = memoryview(out).cast("B")
        hi = lo + len(view) // self.layout.itemsize
        if row < self.first:
            self._stored.read_theta(row, lo, hi, view)
            return
        read_columns(self.folder, self.layout, row, lo, view)

    def portable(self) -> ThetaFiles:
        return self
