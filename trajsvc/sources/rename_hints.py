"""Suggest renames that would map a checkpoint's names to those of the others.

They are only suggested, never applied without a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import islice
from typing import Final

from trajsvc.errors import UsageError
from trajsvc.sources.renames import apply_renames, read_renames

Shapes = Mapping[str, tuple[int, ...]]

LOOKED_AT: Final = 200
"""Names that are compared with those that are missing."""
MOST: Final = 12
"""Renames that are suggested at most: where more are needed the checkpoints are of another model."""
_DIGITS: Final = re.compile(r"[0-9]+")
_NUMBER: Final = re.compile(r"(?<![^.])[0-9]+(?![^.])")


def suggested_renames(mine: Shapes, target: Shapes) -> tuple[str, ...]:
    """Return texts for ``--rename`` that turn the names of ``mine`` into all of ``target``, with equal shapes, and
    leave ``target`` as it is.

    Empty if there are none, or if two readings are as good.
    """
    chosen: list[str] = []
    while len(chosen) < MOST:
        now = _renamed(chosen, mine)
        if now is None:
            return ()
        if all(now.get(n) == shape for n, shape in target.items()):
            return tuple(chosen)
        best = _best(chosen, mine, target, now)
        if best is None:
            return ()
        chosen.append(best)
    now = _renamed(chosen, mine)
    return tuple(chosen) if now is not None and all(now.get(n) == s for n, s in target.items()) else ()


def _best(chosen: list[str], mine: Shapes, target: Shapes, now: Shapes) -> str | None:
    """Return the next rename, by which most missing names are found; None if no rename is better than all others."""
    left = {n: s for n, s in now.items() if n not in target}
    free = {n: s for n, s in target.items() if n not in now}
    before = sum(now.get(n) == s for n, s in target.items())
    found: list[tuple[int, float, str]] = []
    for text in dict.fromkeys(_candidates(left, free)):
        then = _renamed([*chosen, text], mine)
        if then is None or _renamed([*chosen, text], target) != dict(target):
            continue
        gained = sum(then.get(n) == s for n, s in target.items()) - before
        old, _, new = text.rpartition("=")
        if gained > 0:
            found.append((gained, SequenceMatcher(None, old, new).ratio(), text))
    found.sort(key=lambda f: (-f[0], -f[1], f[2]))
    tie = (
        len(found) > 1
        and found[0][:2] == found[1][:2]
        and found[0][2].rpartition("=")[0] == found[1][2].rpartition("=")[0]
    )
    return found[0][2] if found and not tie else None


def _renamed(texts: list[str], names: Shapes) -> dict[str, tuple[int, ...]] | None:
    try:
        new, _ = apply_renames(read_renames(texts), names)
    except UsageError:
        return None
    return {new[n]: shape for n, shape in names.items()}


def _candidates(left: Shapes, free: Shapes) -> Iterator[str]:
    """Yield renames by which at least one name becomes a missing one: numbers stay, and what differs is one run of
    parts; or modules are counted otherwise, in the same order.
    """
    for number, renames in ((_NUMBER, _between), (_DIGITS, _inside)):
        missing: dict[tuple[object, ...], list[str]] = {}
        for name, shape in free.items():
            missing.setdefault((shape, *number.findall(name)), []).append(name)
        for name, shape in islice(left.items(), LOOKED_AT):
            for other in missing.get((shape, *number.findall(name)), ())[: LOOKED_AT // 4]:
                yield from renames(name.split("."), other.split("."))
    yield from _counted(left, free)


def _inside(old: list[str], new: list[str]) -> Iterator[str]:
    """Yield the rename by an expression where numbers stand inside of parts, as ``layer1`` and ``layers.1``."""
    tail = 0
    while tail < min(len(old), len(new)) - 1 and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    before, after = (".".join(parts[: len(parts) - tail]) for parts in (old, new))
    if _DIGITS.findall(before) != _DIGITS.findall(after) or _NUMBER.findall(before) == _NUMBER.findall(after):
        return
    numbers = iter(range(1, len(after)))
    source = r"(\d+)".join(re.escape(part) for part in _DIGITS.split(before))
    to = _DIGITS.sub(lambda _: rf"\{next(numbers)}", after)
    yield f"^{source}\\.={to}." if tail else f"^{source}\\Z={to}"


def _counted(left: Shapes, free: Shapes) -> Iterator[str]:
    """Yield the renames of modules by number where as many are missing, of the same tensors, as in a sequence that was given another
    layer without parameters.
    """
    mine, theirs = _modules(left), _modules(free)
    for stem in mine.keys() & theirs.keys():
        one, other = mine[stem], theirs[stem]
        if len(one) == len(other):
            pairs = list(zip(sorted(one), sorted(other), strict=True))
            if all(one[a] == other[b] for a, b in pairs):
                yield from (f"{stem}{a}.={stem}{b}." for a, b in pairs)


def _modules(names: Shapes) -> dict[str, dict[int, dict[str, tuple[int, ...]]]]:
    """Return stem → number → what is below it, by the first number of each name."""
    found: dict[str, dict[int, dict[str, tuple[int, ...]]]] = {}
    for name, shape in names.items():
        parts = name.split(".")
        k = next((k for k, part in enumerate(parts[:-1]) if part.isascii() and part.isdigit() and len(part) < 7), None)
        if k is not None:
            module = found.setdefault("".join(f"{p}." for p in parts[:k]), {}).setdefault(int(parts[k]), {})
            module[".".join(parts[k + 1 :])] = shape
    return found


def _between(old: list[str], new: list[str]) -> Iterator[str]:
    """Yield the renames of whole parts that turn ``old`` into ``new``."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    before, after = old[head : len(old) - tail], new[head : len(new) - tail]
    if not before and tail:
        before, after, tail = [old[head]], [*after, old[head]], tail - 1
    elif not after and tail:
        before, after, tail = [*before, old[len(old) - tail]], [new[len(new) - tail]], tail - 1
    if not before or not after:
        return
    if any(part.isdigit() for part in before):
        if head == 0:
            yield _expression(before, after, tail)
        return
    first, last = "*." if head else "", ".*" if tail else ""
    if not head:
        last = "." if tail else ""
    yield f"{first}{'.'.join(before)}{last}={first}{'.'.join(after)}{last}"


def _expression(before: list[str], after: list[str], tail: int) -> str:
    """Return a rename with the numbers between the parts as groups."""
    numbers = iter(range(1, len(before) + 1))
    source = r"\.".join(r"(\d+)" if p.isdigit() else re.escape(p) for p in before)
    to = ".".join(rf"\{next(numbers)}" if p.isdigit() else p for p in after)
    end = (r"\.", ".") if tail else (r"\Z", "")
    return f"^{source}{end[0]}={to}{end[1]}"
