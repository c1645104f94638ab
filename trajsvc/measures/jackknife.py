"""Standard errors of numbers computed from a sample, by the delete-one-group jackknife (Quenouille, Tukey)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the jackknife standard error of numbers computed with each replicate left out, R along the first axis:
    sqrt((R − 1)/R · Σ_r (v_r − v̄)²).
    """
    r = len(values)
    return np.asarray(np.sqrt((r - 1) / r * np.sum((values - values.mean(axis=0)) ** 2, axis=0)))


def with_error(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64] | float],
    gram: NDArray[np.float64],
    left_out: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``function`` of the estimated Gram and its standard error."""
    return np.asarray(function(gram)), standard_error(np.stack([np.asarray(function(g)) for g in left_out]))
