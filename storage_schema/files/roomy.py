"""Arrays that are too large for the memory budget: in a file without a name, whose pages are in memory while they are used.

The file's space is taken when it is made, so that a full disk is an error then and not a fault later. It is gone when the array is, or the
process.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.durable import make_dir, writing

Allocate = Callable[[tuple[int, ...]], NDArray[np.float64]]
"""shape → an array of zeros, float64"""


def on_disk(folder: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return zeros, float64, in an unnamed file of ``folder``. Raises DiskFull."""
    size = 8 * math.prod(shape)
    if not size:
        return np.zeros(shape)
    with writing(folder):
        make_dir(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            pages = mmap.mmap(file.fileno(), size)
    return np.frombuffer(pages, np.float64).reshape(shape)


def roomy(folder: Path, limit: int) -> Allocate:
    """Return what allocates arrays of up to ``limit`` bytes in memory, larger ones in files of ``folder``."""

    def allocate(shape: tuple[int, ...]) -> NDArray[np.float64]:
        return np.zeros(shape) if 8 * math.prod(shape) <= limit else on_disk(folder, shape)

    return allocate


def disk(folder: Path) -> Allocate:
    """Return what allocates every array in a file of ``folder``."""
    return partial(on_disk, folder)


def pages_of(values: NDArray[Any]) -> mmap.mmap | None:
    """Return the file that an array lies in; None for one in memory."""
    base: object = values
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base


def release(values: NDArray[Any]) -> None:
    """Take the pages of an array in a file out of this process's memory; its values stay. Does nothing for one in memory."""
    pages = pages_of(values)
    if pages is not None:
        pages.madvise(mmap.MADV_DONTNEED)


def each(values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the parts along the first axis, with one of them in memory at a time."""
    for part in values:
        yield part
        release(values)
