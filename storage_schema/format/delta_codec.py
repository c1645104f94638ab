"""Theta for cold storage: each checkpoint as the difference of its ordered bits from the checkpoint before, lossless.

The bits of a floating-point number, ordered, are an unsigned integer that grows with the number: the sign bit flipped for a
positive one, all bits flipped for a negative one. Numbers that are close differ by a small integer there, whatever
their exponent, so the difference of two checkpoints has its high bits zero. The difference is taken modulo 2^n, folded so
that small negative ones are small too (0, -1, 1, -2 … become 0, 1, 2, 3 …), and left to blosc: bit-shuffle, then zstd.
Every step is a bijection of n-bit words, so NaN payloads and signed zeros come back as they were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]
"""unsigned words, uint16, uint32 or uint64"""


def ordered(bits: Words) -> Words:
    """Map the bits of floating-point numbers to unsigned words that compare as the numbers do (-0.0 just below 0.0)."""
    top = _top(bits)
    words: Words = np.where(bits & top, ~bits, bits | top)
    return words


def unordered(words: Words) -> Words:
    """Invert ``ordered``."""
    top = _top(words)
    bits: Words = np.where(words & top, words ^ top, ~words)
    return bits


def fold(difference: Words) -> Words:
    """Fold a difference modulo 2^n, read as a signed number d, to 2d where d >= 0 and -2d - 1 where d < 0."""
    negative = difference >> _shift(difference)
    folded: Words = (difference << _one(difference)) ^ (~negative + _one(difference))
    return folded


def unfold(folded: Words) -> Words:
    """Invert ``fold``."""
    difference: Words = (folded >> _one(folded)) ^ (~(folded & _one(folded)) + _one(folded))
    return difference


def encode(bits: Words, before: Words | None) -> Words:
    """Encode one row from its bits and those of the row before; ``before`` is None for the first row, which is taken
    against zero bits.
    """
    return fold(ordered(bits) - ordered(np.zeros_like(bits) if before is None else before))


def decode(coded: Words, before: Words | None) -> Words:
    """Return the bits of one row: the inverse of ``encode``."""
    return unordered(unfold(coded) + ordered(np.zeros_like(coded) if before is None else before))


def _one(words: Words) -> Any:
    return words.dtype.type(1)


def _shift(words: Words) -> Any:
    return words.dtype.type(8 * words.dtype.itemsize - 1)


def _top(words: Words) -> Any:
    return _one(words) << _shift(words)
