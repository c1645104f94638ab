"""How every bad input is judged: the right error, soon, in little memory, naming what it is about."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from trajsvc.errors import TrajsvcError

SECONDS = 20.0
"""ten times what a refusal may take on a quiet machine (2 s; the dearest here takes half a second): no slow or busy machine comes
near it, and work that grows with the square of a file's size is far above it"""
MEMORY = 64 * 2**20


def refused(
    attempt: Callable[[], object], kind: str, *, file: str | None = None, tensor: str | None = None
) -> TrajsvcError:
    """The error of ``attempt``, which must be of ``kind``, come in under ``SECONDS`` and 64 MiB, and name ``file`` and ``tensor``.

    The seconds are this thread's own: what else runs on the machine is none of the reader's doing.
    """
    started = time.thread_time()
    with pytest.raises(TrajsvcError):
        attempt()
    taken = time.thread_time() - started
    tracemalloc.start()
    try:
        with pytest.raises(TrajsvcError) as caught:
            attempt()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    error = caught.value
    assert error.kind == kind, str(error)
    assert taken < SECONDS, f"{taken:.1f} s"
    assert peak < MEMORY, f"{peak / 2**20:.0f} MiB"
    if file is not None:
        assert file in str(error)
        assert error.file is not None
    if tensor is not None:
        assert tensor in str(error)
        assert error.tensor == tensor
    assert error.hint
    return error
