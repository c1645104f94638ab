"""Everything that was logged over training, one series a quantity, at the steps of the logs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from storage_schema.models.results import LoggedSeries
from storage_schema.models.training_log import TrainingLog
from trajsvc.sources.base import CheckpointRef
from trajsvc.sources.logs.entries import Entry, entries
from trajsvc.sources.logs.hyperparameters import hyperparameters
from trajsvc.sources.logs.learning_rate import RATES, learning_rate
from trajsvc.sources.logs.places import Readable, logs_of

MOST_POINTS: Final = 256
"""points of a series that are kept beside those at the checkpoints' steps"""
MOST_SERIES: Final = 16
MOST_NAMES: Final = 10_000
"""quantities of a log that are looked at, the first ones: each entry may have names of its own"""
STEPS: Final = (
    "step",
    "global_step",
    "current_steps",
    "iteration",
    "iter",
    "trainer/global_step",
    "train/global_step",
    "_step",
    "Step",
)
_NO_QUANTITY: Final = {
    *STEPS,
    "epoch",
    "_timestamp",
    "_runtime",
    "time",
    "wall_time",
    "timestamp",
    "total_flos",
    "total_steps",
}
_FIRST: Final = ("loss", "grad", "acc", "perplexity", "reward", "score")
_MOST: Final = 2**53


def training_log(files: Readable, root: str | None, checkpoints: Sequence[CheckpointRef]) -> TrainingLog:
    """Read the logs beside the checkpoints of a run, each once. ``root`` is the run's folder.

    A quantity of several logs is that of the first. What is kept: at most ``MOST_SERIES`` quantities, losses, gradient norms and
    scores first, each at the checkpoints' steps and at ``MOST_POINTS`` others, evenly; the learning rate of the first log that has one;
    and the hyperparameters of the trainer's files.
    """
    epochs, found = epoch_steps(checkpoints), dict[str, LoggedSeries]()
    kept, rate = {c.step for c in checkpoints}, None
    for path in logs_of(files, root, checkpoints):
        logged = quantities(entries(files, path), epochs)
        rate = rate or learning_rate(logged)
        for name, points in logged.items():
            if name not in found and name not in RATES and len(points) > 1:
                at = _thinned(sorted(points), kept)
                values, file = [points[s] for s in at], path.rpartition("/")[2]
                found[name] = LoggedSeries(name=name, step=at, value=values, file=file)
    ordered = sorted(found.values(), key=lambda s: (_rank(s.name), s.name))[:MOST_SERIES]
    own = hyperparameters(files, root, checkpoints)
    return TrainingLog(series=ordered, learning_rate=rate, hyperparameters=own)


def epoch_steps(checkpoints: Sequence[CheckpointRef]) -> dict[int, int]:
    """Return the step of every epoch that ended with a checkpoint; one that is numbered by its epoch alone has that as its step."""
    return {
        int(c.extra.get("epoch", c.step)): c.step
        for c in checkpoints
        if "epoch" in c.extra or "epoch" in c.label.lower()
    }


def quantities(logged: Iterable[Entry], epochs: Mapping[int, int]) -> dict[str, dict[int, float]]:
    """Return by name what was logged as finite numbers, by step; the last of several at a step."""
    found: dict[str, dict[int, float]] = {}
    for entry in logged:
        step = step_of(entry, epochs)
        if step is None:
            continue
        for name, value in entry.items():
            if name not in _NO_QUANTITY and (number := finite(value)) is not None:
                if name in found:
                    found[name][step] = number
                elif len(found) < MOST_NAMES:
                    found[name] = {step: number}
    return found


def step_of(entry: Entry, epochs: Mapping[int, int]) -> int | None:
    """Return the step an entry is of, by its step or its whole epoch."""
    for name in STEPS:
        if (number := finite(entry.get(name))) is not None:
            return int(number) if number.is_integer() and number >= 0 else None
    epoch = finite(entry.get("epoch"))
    return epochs.get(int(epoch)) if epoch is not None and epoch.is_integer() else None


def finite(value: Any) -> float | None:
    """Return a value that is a finite number below 2^53."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and abs(value) < _MOST and not math.isnan(value) else None


def _rank(name: str) -> int:
    low = name.lower()
    return next((i for i, word in enumerate(_FIRST) if word in low), len(_FIRST))


def _thinned(steps: list[int], kept: set[int]) -> list[int]:
    if len(steps) <= MOST_POINTS:
        return steps
    even = {steps[round(i * (len(steps) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)}
    return [s for s in steps if s in even or s in kept]
