"""The 8-bit floating types: what each of their 256 codes stands for.

A value is (−1)^s · 2^(e − bias) · (1 + m / 2^M), without the 1 and with e = 1 where e is 0. Every value is one of float16 too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class _Layout:
    exponent: int
    mantissa: int
    bias: int
    special: str
    """``ieee``: the largest exponent is infinity and NaN; ``all ones``: that code alone is NaN; ``minus zero``: that code is NaN"""


_LAYOUTS: Final = {
    "float8_e4m3fn": _Layout(4, 3, 7, "all ones"),
    "float8_e5m2": _Layout(5, 2, 15, "ieee"),
    "float8_e4m3fnuz": _Layout(4, 3, 8, "minus zero"),
    "float8_e5m2fnuz": _Layout(5, 2, 16, "minus zero"),
}
FLOAT8: Final = tuple(_LAYOUTS)
"""The 8-bit types whose values are read."""
FLOAT8_MANTISSA_BITS: Final[dict[str, int]] = {name: layout.mantissa for name, layout in _LAYOUTS.items()}
POWERS: Final = "float8_e8m0fnu"
"""The type of scales that are powers of two: 2^(code − 127), NaN at 255."""


@lru_cache(maxsize=8)
def table(dtype: str) -> NDArray[np.float64]:
    """Return the value of each of the 256 codes of an 8-bit floating type, or of ``POWERS``, as a read-only array of
    shape (256,).
    """
    code = np.arange(256)
    values = np.where(code == 255, np.nan, 2.0 ** (code - 127.0)) if dtype == POWERS else _values(_LAYOUTS[dtype], code)
    values.setflags(write=False)
    return values


def _values(layout: _Layout, code: NDArray[np.int64]) -> NDArray[np.float64]:
    sign = np.where(code & 0x80, -1.0, 1.0)
    exponent = code >> layout.mantissa & (2**layout.exponent - 1)
    fraction = (code & (2**layout.mantissa - 1)) / 2.0**layout.mantissa
    power = 2.0 ** (np.maximum(exponent, 1) - layout.bias)
    values: NDArray[np.float64] = sign * power * (fraction + (exponent > 0))
    if layout.special == "ieee":
        top = exponent == 2**layout.exponent - 1
        values[top] = np.where(fraction[top] == 0, sign[top] * np.inf, np.nan)
    elif layout.special == "all ones":
        values[code & 0x7F == 0x7F] = np.nan
    else:
        values[code == 0x80] = np.nan
    return values
