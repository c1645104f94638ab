"""Read the learning rate over training from a log that the trainer left beside the checkpoints.

Read are ``trainer_state.json`` of the last checkpoint (Hugging Face Trainer: ``log_history`` with ``step`` and
``learning_rate``) and files of JSON lines in the run's folder (``LOGS``) whose lines have a step or an epoch and a
rate. A log is optional: if it is missing, cut short, too large or malformed, there is no learning rate, and never an
error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Protocol

from storage_schema.models.results import LearningRate
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import CheckpointRef
from trajsvc.sources.files import Region

TRAINER_STATE: Final = "trainer_state.json"
LOGS: Final = ("train_log.jsonl", "trainer_log.jsonl", "log.jsonl", "metrics.jsonl")
MOST_BYTES: Final = 64 * 2**20
MOST_POINTS: Final = 4096
FALL: Final = 0.7
"""a drop is a fall to this share of the rate or below"""
STEADY: Final = 0.95
"""between entries that are no drop the rate falls less than to this share: a warm-up or a cosine has no drops"""

_MOST: Final = 2**53
_STEPS: Final = ("step", "global_step", "current_steps", "iteration", "iter")
_RATES: Final = ("learning_rate", "lr")


class Readable(Protocol):
    """Files that may be there."""

    def exists(self, path: str) -> bool: ...
    def region(self, path: str) -> Region: ...


def learning_rate(files: Readable, root: str | None, checkpoints: Sequence[CheckpointRef]) -> LearningRate | None:
    """Return the rate at the steps that the logs of a run name; None if there is none. ``root`` is the run's folder."""
    if not checkpoints:
        return None
    # A checkpoint that is numbered by its epoch alone has that as its step.
    epochs = {
        int(c.extra.get("epoch", c.step)): c.step
        for c in checkpoints
        if "epoch" in c.extra or "epoch" in c.label.lower()
    }
    for path in places(root, checkpoints):
        points = sorted(_points(_entries(files, path), epochs).items())
        if len(points) >= 2 and any(rate for _, rate in points):
            kept = _thinned(points)
            return LearningRate(step=[s for s, _ in kept], rate=[r for _, r in kept], drops=drops(points))
    return None


def places(root: str | None, checkpoints: Sequence[CheckpointRef]) -> list[str]:
    """Return the paths at which a log may be; the first that is one is used."""
    last = checkpoints[-1].files[0].path.rpartition("/")[0]
    return [f"{last}/{TRAINER_STATE}", *(f"{root}/{name}" for name in LOGS if root)]


def drops(points: Sequence[tuple[int, float]]) -> list[int]:
    """Return the last step of each plateau that ends in a drop.

    A drop is to at most ``FALL`` of the rate, where the rate falls neither before nor after.
    """
    ratios = [after / before if before > 0 else 1.0 for (_, before), (_, after) in pairwise(points)]
    found = []
    for i, ratio in enumerate(ratios):
        around = [ratios[j] for j in (i - 1, i + 1) if 0 <= j < len(ratios)]
        if ratio <= FALL and points[i + 1][1] > 0 and all(r >= STEADY for r in around):
            found.append(points[i][0])
    return found


def _entries(files: Readable, path: str) -> list[Mapping[str, Any]]:
    try:
        if not files.exists(path) or (region := files.region(path)).size > MOST_BYTES:
            return []
        text = region.bytes(0, region.size)
    except (TrajsvcError, OSError):
        return []
    if path.endswith(".jsonl"):
        found = [_parsed(line) for line in text.splitlines()]
    else:
        state = _parsed(text)
        history = state.get("log_history") if isinstance(state, dict) else None
        found = history if isinstance(history, list) else []
    return [e for e in found if isinstance(e, dict)]


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _points(entries: Iterable[Mapping[str, Any]], epochs: Mapping[int, int]) -> dict[int, float]:
    points = {}
    for entry in entries:
        rate, step = _first(entry, _RATES), _whole(_first(entry, _STEPS))
        if step is None and (epoch := _whole(_first(entry, ("epoch",)))) is not None:
            step = epochs.get(epoch)
        if rate is not None and rate >= 0 and step is not None:
            points[step] = rate
    return points


def _first(entry: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """Return the first of the named values that is a finite number."""
    for name in names:
        value = entry.get(name)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) < _MOST
            and not math.isnan(value)
        ):
            return float(value)
    return None


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and value.is_integer() and value >= 0 else None


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Drop points between two of the same rate, and then evenly down to at most ``MOST_POINTS``."""
    ends = {0, len(points) - 1}
    kept = [
        p for i, p in enumerate(points) if i in ends or not points[i - 1][1] == p[1] == points[i + 1][1]
    ]  # fmt: skip
    if len(kept) <= MOST_POINTS:
        return kept
    return [kept[round(i * (len(kept) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]
