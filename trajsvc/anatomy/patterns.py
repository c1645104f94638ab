"""Shell patterns for names of tensors: which names a pattern means, and which patterns mean a set of names and no other.

``*`` stands for any text, dots included, ``?`` for one character; the whole name must match. Brackets stand for themselves, as names
may hold them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Final

from trajsvc.anatomy.linear_patterns import Glob

_DIGITS: Final = re.compile(r"(?<![A-Za-z0-9])[0-9]+(?![A-Za-z0-9])")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Glob:
    return Glob.of(pattern, sets=False)


def matches(pattern: str, name: str) -> bool:
    """Whether ``pattern`` means ``name``. Raises UsageError (``bad-pattern``) for a pattern that is too long."""
    return pattern == name or _compiled(pattern).meets(name)


def excluded(patterns: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """Name → the first of ``patterns`` that means it, for the names that one means."""
    found = ((name, next((p for p in patterns if matches(p, name)), None)) for name in names)
    return {name: pattern for name, pattern in found if pattern is not None}


def covering(wanted: Sequence[str], others: Collection[str]) -> list[str]:
    """Few patterns that mean all of ``wanted`` and none of ``others``: the names themselves where nothing shorter does."""
    left = list(dict.fromkeys(wanted))
    avoid = set(others) - set(left)
    found: list[str] = []
    while left:
        best, meant = left[0], [left[0]]
        for pattern in _candidates(left[0]):
            if any(matches(pattern, n) for n in avoid):
                continue
            now = [n for n in left if matches(pattern, n)]
            if len(now) > len(meant):
                best, meant = pattern, now
        found.append(best)
        left = [n for n in left if n not in meant]
    return found


def _candidates(name: str) -> Iterator[str]:
    """Patterns that mean ``name``, the narrow before the wide: its numbers free, then its end, its beginning, or both kept."""
    parts = name.split(".")
    if _DIGITS.search(name):
        yield _DIGITS.sub("*", name)
    for kept in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:kept]) + ".*"
    for kept in range(len(parts) - 1, 0, -1):
        yield "*." + ".".join(parts[-kept:])
    head = re.match(r"[A-Za-z]+[_-]?", parts[0])
    if head and head[0] != parts[0]:
        yield head[0] + "*"
    leaf = parts[-1]
    for word in dict.fromkeys(leaf.split("_")):
        if word and word != leaf:
            yield f"*{word}*"
