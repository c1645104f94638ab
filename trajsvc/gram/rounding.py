"""The rounding error of stored values: the spacing of stored numbers, and the type they really carry.

A value stored with m mantissa bits and exponent e is known to half a unit in the last place, ulp = 2^(e−m); its rounding error has variance
ulp²/12 when the lost digits are uniform. Published float32 files often hold exact float16 values: then ulp is float16's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.arrays import MANTISSA_BITS
from storage_schema.format.float8 import FLOAT8_MANTISSA_BITS

_EXPONENT = np.int32(0x7F800000)
_MANTISSA = np.int32(0x007FFFFF)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_HALF_MIN_NORMAL = 2.0**-14
_HALF_MAX = 65504.0
_BITS = {**MANTISSA_BITS, **FLOAT8_MANTISSA_BITS}
PIECE = 2**16
"""values that are looked at together"""


@dataclass
class ValueStatistics:
    """Per checkpoint, over the values seen: which mantissa bits are in use, the largest magnitude, and whether float32 is exact."""

    rows: int
    bits: NDArray[np.int32] = field(init=False)
    largest: NDArray[np.float64] = field(init=False)
    beyond_float32: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.bits = np.zeros(self.rows, np.int32)
        self.largest = np.zeros(self.rows)
        self.beyond_float32 = np.zeros(self.rows, np.bool_)

    def since(self, first: int) -> ValueStatistics:
        """Return those of the checkpoints from ``first`` on, which change with these."""
        part = ValueStatistics(0)
        part.rows, part.bits = self.rows - first, self.bits[first:]
        part.largest, part.beyond_float32 = self.largest[first:], self.beyond_float32[first:]
        return part

    def merge(self, other: ValueStatistics) -> None:
        self.bits |= other.bits
        np.maximum(self.largest, other.largest, out=self.largest)
        self.beyond_float32 |= other.beyond_float32

    def carried_type(self, stored: str, row: int) -> str:
        """Return the narrowest type that holds every value seen of a checkpoint stored as ``stored``."""
        if self.beyond_float32[row]:
            return stored
        if stored in ("float16", "bfloat16"):
            return stored
        if not self.bits[row] & 0x1FFF and self.largest[row] <= _HALF_MAX:
            return "float16"
        if not self.bits[row] & 0xFFFF:
            return "bfloat16"
        return "float32"


def observe(values: NDArray[np.floating], statistics: ValueStatistics) -> NDArray[np.float64]:
    """Record the types carried by ``values`` (T, n) and return (T, 2): Σ 4^e over values, and the same with e no less
    than float16's least normal exponent.

    Multiplied by 4^−m / 12 these are the expected squared norms of the rounding.
    """
    rows, n = values.shape
    sums = np.zeros((rows, 2))
    step = max(1, PIECE // max(1, rows))  # temporaries stay in the cache, and out of the memory budget
    for lo in range(0, n, step):
        sums += _observe(values[:, lo : lo + step], statistics)
    return sums


def _observe(values: NDArray[np.floating], statistics: ValueStatistics) -> NDArray[np.float64]:
    single = values.astype(np.float32) if values.dtype != np.float32 else values
    if values.dtype != np.float32 and not (single == values).all():
        statistics.beyond_float32 |= (single != values).any(axis=1) & np.isfinite(values).all(axis=1)
    word = single.view(np.int32)
    exponent = word & _EXPONENT
    if exponent.max(initial=0) == _EXPONENT:  # not finite: as if it were zero
        word = np.where(exponent == _EXPONENT, np.int32(0), word)
        exponent = word & _EXPONENT
    statistics.bits |= np.bitwise_or.reduce(word, axis=1) & _MANTISSA
    largest = (word & _MAGNITUDE).max(axis=1, initial=0).view(np.float32)  # in the order of the magnitudes
    np.maximum(statistics.largest, largest, out=statistics.largest)
    power = exponent.view(np.float32).astype(np.float64)
    sums = np.einsum("ij,ij->i", power, power)
    if power.min(initial=np.inf) >= _HALF_MIN_NORMAL:
        return np.stack([sums, sums], axis=1)
    np.maximum(power, _HALF_MIN_NORMAL, out=power)
    return np.stack([sums, np.einsum("ij,ij->i", power, power)], axis=1)


def expected_rounding(sums: NDArray[np.float64], carried: str) -> NDArray[np.float64]:
    """Return the expected squared norm of rounding from the sums of ``observe`` (…, 2) for values that carry type
    ``carried``.
    """
    power = sums[..., 1] if carried == "float16" else sums[..., 0]
    return np.asarray(power * 4.0 ** -_BITS[carried] / 12.0)
