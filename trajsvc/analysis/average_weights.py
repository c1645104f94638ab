"""Which checkpoints an average takes, and with what weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.regular import read_given
from trajsvc.errors import NotFound, UsageError
from trajsvc.measures.averages import ema_weights, last_weights

SUM_ERROR: Final = 1e-6
"""how far the sum of given weights may be from 1"""


@dataclass(frozen=True)
class Weights:
    """Weights of checkpoints by step, in order; ``equal`` ones are summed first and divided once."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    equal: bool = False

    def over(self, steps: Sequence[int]) -> NDArray[np.float64]:
        """Return the weights of all of ``steps``, (T,)."""
        given = dict(zip(self.steps, self.values, strict=True))
        return np.array([given.get(step, 0.0) for step in steps])


def chosen_weights(
    steps: Sequence[int],
    last: int | None = None,
    ema: float | None = None,
    given: Mapping[int, float] | None = None,
) -> Weights | None:
    """Return the weights of a run with checkpoints ``steps``: of the ``last`` ones, a moving average, or ``given`` by step.

    None where nothing is chosen. Raises UsageError (``bad-weights``) for more than one choice, a number out of range, weights that
    do not sum to 1; NotFound (``step-not-found``).
    """
    if sum(choice is not None for choice in (last, ema, given)) > 1:
        raise UsageError(
            "bad-weights", "an average has one choice of weights", hint="Give one of --last, --ema, --weights."
        )
    try:
        if last is not None:
            return _of(f"last {last}", steps, last_weights(len(steps), last), equal=True)
        if ema is not None:
            return _of(f"ema {ema:g}", steps, ema_weights(len(steps), ema))
    except ValueError as error:
        raise UsageError("bad-weights", str(error), hint="`trajsvc average RUN` shows what there is.") from None
    return None if given is None else _given(steps, given)


def _given(steps: Sequence[int], given: Mapping[int, float]) -> Weights:
    unknown = sorted(set(given) - set(steps))
    if unknown:
        shown = ", ".join(map(str, unknown[:6]))
        raise NotFound(
            "step-not-found", f"the run has no checkpoint of step {shown}", hint="`trajsvc checkpoints RUN` lists them."
        )
    total = float(sum(given.values()))
    if not abs(total - 1.0) <= SUM_ERROR:
        raise UsageError("bad-weights", f"the weights sum to {total:g}, not to 1", hint="Divide each by the sum.")
    return _of("given", steps, np.array([given.get(step, 0.0) for step in steps]))


def _of(name: str, steps: Sequence[int], weights: NDArray[np.float64], *, equal: bool = False) -> Weights:
    used = np.flatnonzero(weights).tolist()
    return Weights(name, tuple(int(steps[i]) for i in used), tuple(float(weights[i]) for i in used), equal)


def read_weights(path: Path) -> dict[int, float]:
    """Read weights by step: a JSON object {"step": weight}, or CSV lines ``step,weight`` with or without a header.

    Raises UsageError (``bad-weights``), NotFound (``file-missing``).
    """
    try:
        text = read_given(path)
    except FileNotFoundError:
        raise NotFound("file-missing", f"there is no file {path}", hint="Name a file of weights.", file=path) from None
    except UnicodeDecodeError:
        text = ""
    try:
        pairs = _pairs(text)
        found = {int(step): float(weight) for step, weight in pairs}
    except (ValueError, TypeError):
        pairs, found = [], {}
    if not found or len(found) < len(pairs) or not np.isfinite(list(found.values())).all():
        hint = 'Write {"1000": 0.5, "2000": 0.5}, or lines "1000,0.5", each step once.'
        raise UsageError("bad-weights", f"{path} does not hold weights of steps", hint=hint)
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    if text.lstrip().startswith("{"):
        return [(str(step), weight) for step, weight in json.loads(text).items()]
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if rows and not rows[0][0].strip().lstrip("-").isdigit():
        rows = rows[1:]
    return [(row[0], row[1]) for row in rows]
