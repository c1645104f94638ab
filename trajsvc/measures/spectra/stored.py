"""What is kept of every matrix at a checkpoint: its numbers, and its first singular values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import Array
from trajsvc.measures.spectra.registry import COLUMNS

KEPT: Final = 1024
"""Singular values of a matrix that are kept: all up to this number, the largest beyond."""
Method = Literal["svd", "qr", "lanczos"]
METHODS: Final[Mapping[Method, int]] = {"svd": 1, "qr": 2, "lanczos": 3}
"""How the status of a matrix says which method made it; 0: it was not computed, 4: it holds NaN or infinite values."""
NOT_FINITE: Final = 4
NUMBERS: Final = ("status", "rows", "columns", *COLUMNS)
"""What is kept of every matrix beside its singular values."""
STATUS, ROWS, WIDTH = range(3)
SAID: Final = {0: "", **{status: method for method, status in METHODS.items()}, NOT_FINITE: "not-finite"}


def kept_of(rows: Array, columns: Array, most: int = KEPT) -> NDArray[np.int64]:
    """Return how many singular values of matrices of these shapes are kept."""
    return np.minimum(np.minimum(rows, columns), most).astype(np.int64)
