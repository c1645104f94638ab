"""Prepare values in float64 where a kernel cannot take the stored bytes: round them to a type, replace those that are
not finite.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_EXACT: Final = {("float16", "float32"), ("bfloat16", "float32")}


def is_exact(stored: str, dtype: str | None) -> bool:
    """Return whether values of type ``stored`` are not changed by rounding to ``dtype`` (None: no rounding)."""
    return dtype is None or stored == dtype or (stored, dtype) in _EXACT


def rounded(values: Values, dtype: str) -> Values:
    """Round float64 ``values`` to float16, bfloat16 or float32, to nearest and ties to even.

    The 16-bit types are reached by way of float32, as PyTorch does when it saves a model in them.
    """
    single = values.astype(np.float32)
    if dtype == "float16":
        return np.asarray(single.astype(np.float16), dtype=np.float64)
    if dtype == "bfloat16":  # the upper half of a float32, rounded by the lower half
        bits = single.view(np.uint32)
        whole = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16 << 16).view(np.float32)
        single = np.where(np.isnan(single), single, whole)
    return np.asarray(single, dtype=np.float64)


def hold(values: Values) -> NDArray[np.int64]:
    """Set elements of (T, n) values that are not finite to the last finite value of their column, 0 before the first; returns (T)
    how many there were."""
    bad = ~np.isfinite(values)
    values[0, bad[0]] = 0.0
    for t in range(1, len(values)):
        values[t, bad[t]] = values[t - 1, bad[t]]
    return np.asarray(bad.sum(axis=1), dtype=np.int64)
