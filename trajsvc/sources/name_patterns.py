"""Suggest a pattern for ``--step-pattern`` for names that differ in a number."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trajsvc.sources.patterns import LONGEST, StepPattern


def pattern_of(names: Sequence[str]) -> str | None:
    r"""Return a pattern by which every one of ``names`` has a step of its own; None if their numbers give none, or several.

    >>> pattern_of(["run-v1-final", "run-v2-final", "run-v10-final"])
    '^run\\-v(?P<step>\\d+)\\-final'
    """
    parts = [re.split(r"(\d+)", name) for name in names]
    first = parts[0] if parts else []
    if len(names) < 2 or any(p[::2] != first[::2] for p in parts):
        return None
    varying = [i for i in range(1, len(first), 2) if len({p[i] for p in parts}) > 1]
    telling = [i for i in varying if len({int(p[i]) for p in parts}) == len(names)]
    if len(telling) != 1 or len(varying) != 1:
        return None
    text = "^" + "".join(r"(?P<step>\d+)" if i in telling else re.escape(part) for i, part in enumerate(first))
    if len(text) > LONGEST or "'" in text:
        return None
    pattern = StepPattern.of(text)
    steps = {found.step for name in names if (found := pattern.read(name)) is not None}
    return text if len(steps) == len(names) else None
