"""Measures of a set of gradients as a table: one group, one value a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from storage_schema.models.gradients import GradientMeasuresAnswer
from trajsvc.results.gradient_methods import GradientMethods
from trajsvc.results.labels import plain
from trajsvc.results.measure_methods import Steps

LONG = ("measure", "step", "axis", "at", "value")
"""columns of ``long_rows``"""


def default_measures(found: GradientMethods) -> list[str]:
    """Return the measures of a set that are one number a step, except clustering, which takes long."""
    return [m.name for m in found.measures_available() if not m.dims and "clusters" not in m.parameters]


def measures(
    found: GradientMethods, group: str, names: Sequence[str] | None, steps: Steps, **parameters: Any
) -> GradientMeasuresAnswer:
    """Compute the named measures of ``group``, one value a step; by default all that the set can answer with one
    number.

    Raises NotFound (``measure-not-found``, ``group-not-found``, ``step-not-found``, ``gradients-not-found``).
    """
    chosen, wanted = found.selection(steps), list(names) if names is not None else default_measures(found)
    for name in wanted:
        found.checked(name)
    samples = [found.sample(step, group) for step in chosen]
    values = {name: [plain(v) for v in found.values(name, group, chosen, **parameters)] for name in wanted}
    nowhere = {name: _undefined_at(chosen, v) for name, v in values.items()}
    return GradientMeasuresAnswer(
        run=found.run.name,
        set=found.name,
        group=group,
        parameters=samples[0].gram.parameters,
        n=found.n,
        steps=chosen,
        measures=values,
        undefined={
            "zero_vectors": [sample.gram.zero_vectors for sample in samples],
            "stale_steps": found.stale,
            **{name: at for name, at in nowhere.items() if at},
        },
    )


def _undefined_at(steps: Sequence[int], values: Iterable[Any]) -> list[int]:
    return [step for step, value in zip(steps, values, strict=True) if value is None]


def long_rows(answer: GradientMeasuresAnswer) -> list[tuple[Any, ...]]:
    """Return measures as rows (measure, step, axis, at, value): one for every number; one number a step has no axis."""
    from trajsvc.measures.gradients.registry import GRADIENT_MEASURES

    rows: list[tuple[Any, ...]] = []
    for name, values in answer.measures.items():
        dims = GRADIENT_MEASURES[name].dims
        for step, value in zip(answer.steps, values, strict=True):
            if not isinstance(value, list):
                rows.append((name, step, None, None, value))
                continue
            first = 1 if dims == ("component",) else 0
            rows += [(name, step, dims[0], at, number) for at, number in enumerate(value, start=first)]
    return rows
