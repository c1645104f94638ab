"""Names shared by the compiled routines and their callers: codes of types, functions, parameters."""

from __future__ import annotations

from typing import Final

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = KINDS = range(4)
"""Stored types, in the order of ``storage_schema.format.arrays.FLOAT_TYPES``."""
SIZES: Final = (2, 2, 4, 8)
RUN: Final = 256
"""Columns whose products are summed in the type of the panels; in float64 from there on."""

PARAMETERS: Final = (
    "rows", "total", "new", "size", "columns", "first", "window", "forced",
    "panels", "width", "gram", "padded", "updates", "places", "zeros", "sums", "pairs",
    "pack", "subtract", "dots",
)  # fmt: skip
"""What ``products`` finds, one integer each, at the address that it is given:

``rows`` the address of the addresses of the ``total`` rows, of whose products with the rows up to them those of the last ``new`` are
wanted, ``size`` bytes a value; ``columns`` a multiple of the lanes, the first window ends after ``first`` of them; ``forced``: add up what
is not finite too; ``panels`` padded × width, ``gram`` padded × padded, ``updates`` new × width or 0 for panels, ``places`` lanes + 1
integers, ``zeros`` width × 8 bytes of them; ``sums`` 2 × pairs. ``pack``, ``subtract`` and ``dots``: the functions for the stored type.
"""


EXPORTED: Final = {
    "products": 1,
    "widen_rows": 6,
    **{f"changed_{size}": 5 for size in (2, 4, 8)},
    **{f"rows_{kind}": 7 for kind in KINDS},
    **{f"{name}_{kind}": n for kind in KINDS for name, n in (("pack", 3), ("subtract", 4), ("dots", 4), ("widen", 3))},
}
"""The functions and how many integers each takes."""


def lanes_of(wide: bool) -> int:
    """Return the rows in a panel: elements in a vector of 512 bits.

    Narrower machines use several registers for one vector.
    """
    return 8 if wide else 16
