"""Round float64 values once to a stored type, to nearest and ties to even."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE

Values = NDArray[np.float64]


def stored_bytes(values: Values, dtype: str) -> memoryview:
    """Return ``values`` as stored bytes of ``dtype``, each rounded once.

    For bfloat16 by way of a float32 that is rounded to odd: its last digit is 1 where digits were lost, so that the second rounding,
    which has two digits less at least, is that of the float64 value (Boldo and Melquiond, 2008).
    """
    with np.errstate(all="ignore"):  # what is too large becomes infinite
        if dtype != "bfloat16":
            return np.ascontiguousarray(values.astype(f"<f{ITEMSIZE[dtype]}")).view(np.uint8).data
        bits = _to_odd(values).view("<u4").astype(np.uint64)
    nan = np.isnan(values)
    rounded = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    kept = np.where(nan, (bits >> np.uint64(16)) | np.uint64(0x40), rounded).astype("<u2")
    return kept.view(np.uint8).data


def _to_odd(values: Values) -> NDArray[np.float32]:
    """Round to float32 towards zero, with the last bit set where digits were lost."""
    nearest = values.astype("<f4")
    back = nearest.astype(np.float64)
    bits = nearest.view("<u4").copy()
    beyond = np.abs(back) > np.abs(values)
    bits[beyond] -= 1  # towards zero: the pattern before, also from infinity
    lost = (bits.view("<f4").astype(np.float64) != values) & np.isfinite(values)
    bits[lost] |= 1
    return bits.view("<f4")
