"""The list of experiments, beside what a store has of them."""

from __future__ import annotations

import os

from storage_schema.models.experiments import ExperimentResult, ExperimentRow
from trajsvc.experiments.base import Experiment
from trajsvc.experiments.kept import open_result, result_names


def rows_of(store: str | os.PathLike[str]) -> list[ExperimentRow]:
    """Describe every experiment that is built in, installed, or has a result in the store, with the verdict of that result.

    Raises DamagedStore (``experiment-damaged``).
    """
    from trajsvc.experiments.registry import experiments  # the recipes import analyses, gradients and figures

    known = experiments()
    results = {name: open_result(store, name) for name in result_names(store)}
    about: list[Experiment | ExperimentResult] = [*known.values()]
    about += [result for name, result in results.items() if name not in known]
    return [_row(each, results.get(each.name)) for each in about]


def _row(about: Experiment | ExperimentResult, result: ExperimentResult | None) -> ExperimentRow:
    return ExperimentRow(
        name=about.name,
        title=about.title,
        paper=about.paper,
        figure=about.figure,
        claim=about.claim,
        verdict=None if result is None else result.verdict,
        seeds=None if result is None else result.seeds,
        scale=None if result is None else result.scale,
        made=None if result is None else result.made,
    )
