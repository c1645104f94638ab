"""What tests of spectra share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices are decomposed sooner by one thread, on a busy machine many times."""
    with threadpool_limits(1):
        yield
