"""Compare what the Trainer logged before each checkpoint: checkpoints of one training share their past.

A folder that is trained into again keeps the later checkpoints of the training before until they are overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from storage_schema.models.results import Finding
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import CheckpointRef
from trajsvc.sources.logs.entries import entries
from trajsvc.sources.logs.places import Readable
from trajsvc.sources.logs.training_log import finite

STATE: Final = "trainer_state.json"
TAIL: Final = 2**15
"""Bytes at the end of a state that are read; the last of what was logged is among them."""
_ENTRY: Final = re.compile(rb"\{[^{}]*\}")
_LOSS: Final = re.compile(rb'"loss":\s*(-?[\d.eE+-]+)')
_STEP: Final = re.compile(rb'"step":\s*(\d+)')


def histories_apart(files: Readable, checkpoints: Sequence[CheckpointRef]) -> Finding | None:
    """Report checkpoints whose last logged losses are others than those that the last checkpoint has at the same steps.

    None where there is no such, or no log. Of all states but the last the end alone is read.
    """
    states = [(c, f"{c.files[0].path.rpartition('/')[0]}/{STATE}") for c in checkpoints if c.files]
    states = [(c, path) for c, path in states if files.exists(path)]
    if len(states) < 2:
        return None
    last, path = states[-1]
    past: dict[int, float] = {}
    for entry in entries(files, path):
        step, loss = finite(entry.get("step")), finite(entry.get("loss"))
        if step is not None and loss is not None and step.is_integer():
            past[int(step)] = loss
    apart = []
    for checkpoint, path in states[:-1]:
        known = [(past[step], loss) for step, loss in _logged(files, path) if step in past]
        if known and all(one != other for one, other in known):
            apart.append(checkpoint)
    if not apart:
        return None
    labels = ", ".join(c.label for c in apart[:6]) + (" …" if len(apart) > 6 else "")
    return Finding(
        kind="two-trainings",
        message=f"{labels} logged other losses than {last.label} has at the same steps of its past ({STATE}): they are of two trainings, "
        "one of which was begun in the folder of the other. --steps says which to read",
        steps=tuple(c.step for c in apart),
        details={"unlike": last.step},
    )


def _logged(files: Readable, path: str) -> list[tuple[int, float]]:
    """Return steps and losses at the end of a state."""
    try:
        region = files.region(path)
        start = max(0, region.size - TAIL)
        text = region.bytes(start, region.size - start)
    except (TrajsvcError, OSError):
        return []
    found = []
    for entry in _ENTRY.findall(text):
        loss, step = _LOSS.search(entry), _STEP.search(entry)
        if loss and step:
            try:
                found.append((int(step[1]), float(loss[1])))
            except ValueError:
                continue
    return found
