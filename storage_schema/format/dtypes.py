"""Stored types side by side: which type holds several without loss, and the widening itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.errors import ThetaTypes
from storage_schema.format.arrays import FLOAT_TYPES, ITEMSIZE

if TYPE_CHECKING:
    from typing_extensions import Buffer

_WIDER: Final[dict[str, tuple[str, ...]]] = {
    "float16": ("float16", "float32", "float64"),
    "bfloat16": ("bfloat16", "float32", "float64"),
    "float32": ("float32", "float64"),
    "float64": ("float64",),
}
"""the types that hold every value of a type, narrowest first"""


def holds(wide: str, narrow: str) -> bool:
    """Return whether every value of ``narrow`` is a value of ``wide``."""
    return wide in _WIDER.get(narrow, ())


def common_type(dtypes: Iterable[str]) -> str:
    """Return the narrowest stored type that holds all of ``dtypes`` without loss: float32 for float16 and bfloat16
    together.

    Raises ThetaTypes if there is none.
    """
    found = sorted(set(dtypes))
    for wide in ("float16", "bfloat16", "float32", "float64"):
        if found and all(holds(wide, narrow) for narrow in found):
            return wide
    unknown = [d for d in found if d not in FLOAT_TYPES] or found
    raise ThetaTypes(
        "theta",
        f"no stored type holds {', '.join(unknown) or 'nothing'} without loss",
        f"A self-contained run keeps {', '.join(FLOAT_TYPES)}; analyze without a copy.",
    )


def widen(data: Buffer, narrow: str, wide: str) -> memoryview:
    """Convert ``data`` (little-endian ``narrow`` values) to the bytes of ``wide`` values, exactly for every number.

    Infinities and signed zeros keep their value; a NaN stays a NaN. Raises ThetaTypes if ``wide`` does not hold
    ``narrow``.
    """
    if narrow == wide:
        return memoryview(data).cast("B")
    if not holds(wide, narrow):
        raise ThetaTypes("theta", f"{wide} does not hold {narrow} without loss", "Analyze the run anew.")
    raw = memoryview(data).cast("B")
    if narrow == "bfloat16":
        values: NDArray[np.floating] = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(raw, f"<f{ITEMSIZE[narrow]}")
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one; no warning is needed
        return np.ascontiguousarray(values.astype(f"<f{ITEMSIZE[wide]}")).data.cast("B")


def narrow_back(data: Buffer, wide: str, narrow: str) -> memoryview:
    """Invert ``widen``: return the bits that were widened, except that a NaN's payload may differ."""
    raw = memoryview(data).cast("B")
    if narrow == wide:
        return raw
    values = np.frombuffer(raw, f"<f{ITEMSIZE[wide]}")
    if narrow == "bfloat16":
        return np.ascontiguousarray((values.astype("<f4").view("<u4") >> 16).astype("<u2")).data.cast("B")
    with np.errstate(all="ignore"):  # what was widened comes back without loss
        return np.ascontiguousarray(values.astype(f"<f{ITEMSIZE[narrow]}")).data.cast("B")
