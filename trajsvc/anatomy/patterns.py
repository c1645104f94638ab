"""Match shell patterns against names of tensors, and find patterns that match a set of names and no other.

``*`` stands for any text, dots included, ``?`` for one character; the whole name must match. Brackets stand for
themselves, as names may hold them.
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
    """Return whether ``pattern`` matches ``name``.

    Raises UsageError (``bad-pattern``) for a pattern that is too long.
    """
    return pattern == name or _compiled(pattern).meets(name)


def excluded(patterns: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """Return name → the first of ``patterns`` that matches it, for the names that one matches."""
    found = ((name, next((p for p in patterns if matches(p, name)), None)) for name in names)
    return {name: pattern for name, pattern in found if pattern is not None}


def covering(wanted: Sequence[str], others: Collection[str]) -> list[str]:
    """Find few patterns that match all of ``wanted`` and none of ``others``; the names themselves if nothing shorter
    does.
    """
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
    """Yield patterns that match ``name``, narrow ones first: any number in it, then its end, its beginning, or both
    kept.
    """
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
