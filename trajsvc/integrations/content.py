"""What is sent to a tracker of experiments: a run's numbers, its curves by step, its figures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from trajsvc.results.run import Run

CURVES: Final = (
    "norm", "distance_from_init", "update_norm", "update_ratio", "update_angle", "apex_angle_init", "cosine_to_final",
)  # fmt: skip
NUMBERS: Final = ("mds", "mds_by_length", "relative_mds", "path_length", "tortuosity", "mu", "alpha")
GROUPS: Final = ("network", "layer/*")
DPI: Final = 160


@dataclass(frozen=True)
class Content:
    """A run as trackers know runs. Undefined values are left out; names are ``GROUP/MEASURE``."""

    run: str
    axis: str
    """what the numbers of the steps count"""
    facts: Mapping[str, str | int]
    """what a tracker calls configuration or parameters"""
    numbers: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    pictures: Mapping[str, bytes]
    """PNG"""
    last_step: int

    def by_step(self) -> list[tuple[int, dict[str, float]]]:
        """Return the values of all curves step by step, in order."""
        found: dict[int, dict[str, float]] = {}
        for name, points in self.curves.items():
            for step, value in points:
                found.setdefault(step, {})[name] = value
        return sorted(found.items())


def content_of(run: Run, groups: Sequence[str] | None = None, names: Sequence[str] | None = None) -> Content:
    """Return what is sent of ``run``: of the ``groups`` (ids or globs, by default the network and the layers) the measures ``names``.

    Raises NotFound (``group-not-found``, ``measure-not-found``) and UsageError (``no-curve``) for a measure that is a map, or runs
    along lags or components.
    """
    from trajsvc.errors import UsageError
    from trajsvc.measures.registry import measure_named
    from trajsvc.results.group_globs import chosen_groups
    from trajsvc.results.labels import axis

    known = [group for group in GROUPS if group == "network" or run.layer_ids()]
    measures = [measure_named(name) for name in names or (*CURVES, *NUMBERS)]
    for measure in measures:
        if measure.dims not in ((), ("step",), ("update",)):
            hint = "Its picture is sent with the others; curves over training and single numbers can be named."
            raise UsageError("no-curve", f"{measure.name} is no curve over training and no number", hint=hint)
    numbers: dict[str, float] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for group in chosen_groups(run, groups or known):
        gram = run.gram(group)
        for measure in measures:
            values = np.atleast_1d(np.asarray(measure.compute(gram), dtype=np.float64))
            name = f"{group}/{measure.name}"
            if not measure.dims and np.isfinite(values[0]):
                numbers[name] = float(values[0])
            elif measure.dims:
                at = axis(measure.dims[0], len(values), gram.steps).tolist()
                curves[name] = [(s, v) for s, v in zip(at, values.tolist(), strict=True) if np.isfinite(v)]
    facts: dict[str, Any] = {
        "source": run.source,
        "architecture": run.architecture,
        "parameters": run.parameters,
        "checkpoints": len(run.steps),
    }
    last = int(run.steps[-1]) if len(run.steps) else 0
    return Content(run.name, run.axis, facts, numbers, curves, _pictures(run), last)


def _pictures(run: Run) -> dict[str, bytes]:
    from trajsvc.figures.of_run import run_figures
    from trajsvc.figures.style import write

    found = {}
    for name, figure in run_figures(run):
        out = io.BytesIO()
        write(figure, out, "png", dpi=DPI)
        found[name] = out.getvalue()
    return found
