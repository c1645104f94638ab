"""Selections of steps: ``0,1,2``, ``1000..5000``, ``every:4``, ``first:10``, ``last:5``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from trajsvc.errors import NotFound, UsageError

STEP_LIMIT: Final = 2**53
"""Steps are stored as int64 and shown as JSON numbers; nothing trains this long."""


GRAMMAR: Final = (
    "Steps are written as numbers (0,1,2), ranges with both ends included (1000..5000, ..5000, 1000..), every:4 (every fourth "
    "checkpoint, beginning with the first), first:10, last:5, or several of these with commas between them."
)


def select_steps(spec: str | Sequence[int] | None, steps: Sequence[int]) -> list[int]:
    """Return indices into ``steps`` of the checkpoints that ``spec`` means, ascending, each once; all of them for None.

    ``spec`` is a sequence of steps or text: ``0,1,2``; ``1000..5000``, ``..5000``, ``1000..`` (both ends included); ``every:4`` (every
    fourth checkpoint, the first kept, the last not forced); ``first:10``; ``last:5``; a union of these by comma.
    Raises UsageError (``bad-steps``) for another spelling, NotFound (``step-not-found``) for a part that no checkpoint meets.

    >>> steps = [0, 1, 4, 16, 64, 256, 512, 1000, 5000]
    >>> [steps[i] for i in select_steps("16..512", steps)]
    [16, 64, 256, 512]
    >>> [steps[i] for i in select_steps("first:2,every:4,last:1", steps)]
    [0, 1, 64, 5000]
    """
    if spec is None:
        return list(range(len(steps)))
    chosen: set[int] = set()
    if isinstance(spec, str):
        for part in spec.split(","):
            chosen.update(_select_part(part.strip(), spec, steps))
    else:
        for step in spec:
            chosen.update(_at(int(step), steps))
    return sorted(chosen)


def check_spec(spec: str) -> None:
    """Check that ``select_steps`` can parse ``spec``, whatever steps there are. Raises UsageError (``bad-steps``)."""
    for part in spec.split(","):
        try:
            _select_part(part.strip(), spec, [0])
        except NotFound:
            continue


def _select_part(part: str, spec: str, steps: Sequence[int]) -> Sequence[int]:
    if part.isascii() and part.isdigit() and len(part) < 19:
        return _at(int(part), steps)
    if match := re.fullmatch(r"(every|first|last):(\d{1,18})", part, re.ASCII):
        count = int(match[2])
        if count > 0:
            pick: Mapping[str, Callable[[], range]] = {
                "every": lambda: range(0, len(steps), count),
                "first": lambda: range(min(count, len(steps))),
                "last": lambda: range(max(0, len(steps) - count), len(steps)),
            }
            return pick[match[1]]()
    if match := re.fullmatch(r"(\d{0,18})\.\.(\d{0,18})", part, re.ASCII):
        low, high = (int(match[1]) if match[1] else 0), (int(match[2]) if match[2] else STEP_LIMIT)
        if part != ".." and low <= high:
            return _between(low, high, part, steps)
    raise UsageError("bad-steps", f"cannot read {part!r} in the steps {spec!r}", hint=GRAMMAR)


def _at(step: int, steps: Sequence[int]) -> list[int]:
    found = [i for i, s in enumerate(steps) if s == step]
    if not found:
        near = sorted(sorted(set(map(int, steps)), key=lambda s: abs(s - step))[:4])
        raise NotFound(
            "step-not-found",
            f"there is no step {step}",
            hint=f"The nearest are {', '.join(map(str, near))}." if near else "There are no checkpoints.",
        )
    return found


def _between(low: int, high: int, part: str, steps: Sequence[int]) -> list[int]:
    found = [i for i, s in enumerate(steps) if low <= s <= high]
    if not found:
        span = f"The steps run from {min(steps)} to {max(steps)}." if len(steps) else "There are no checkpoints."
        raise NotFound("step-not-found", f"there is no step in {part}", hint=span)
    return found
