"""Answers about a run's gradients in the shapes of machine output, the same for every interface: command line, HTTP and
Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from storage_schema.models.gradients import (
    ClusteredVariance,
    GradientBlockRow,
    GradientClustersAnswer,
    GradientLayerRow,
    GradientLayersAnswer,
    GradientMapAnswer,
    GradientSetAnswer,
    GradientSetRow,
)
from trajsvc.measures.gradients.clustering import CLUSTERS, Clustering, cluster_by_iteration
from trajsvc.measures.gradients.estimators import average_variance, average_variance_svrg
from trajsvc.measures.gradients.vector_gram import VectorGram
from trajsvc.results.gradient_tables import LONG, default_measures, long_rows, measures
from trajsvc.results.labels import plain
from trajsvc.results.measure_methods import Steps

__all__ = [
    "LONG",
    "clusters",
    "gradient_map",
    "layer_rows",
    "layers",
    "long_rows",
    "measures",
    "set_details",
    "set_row",
    "sets",
]

if TYPE_CHECKING:
    from trajsvc.results.gradients import RunGradients
    from trajsvc.results.run import Run


def sets(run: Run) -> list[GradientSetRow]:
    """Return the sets of gradients of ``run``, by name."""
    return [set_row(run.gradients(name)) for name in run.gradient_sets()]


def set_row(found: RunGradients) -> GradientSetRow:
    return GradientSetRow(
        run=found.run.name,
        set=found.name,
        kind=found.kind,
        n=found.n,
        blocks=len(found.stored.blocks.name),
        parameters=found.parameters,
        steps=found.steps.tolist(),
        stale=found.stale,
        options=found.options,
    )


def set_details(found: RunGradients) -> GradientSetAnswer:
    """Describe one set, and what it is made of."""
    table = found.stored.blocks
    columns = (table.name, table.tensor, table.part, table.layer, table.component, table.size.tolist())
    names = ("name", "tensor", "part", "layer", "component", "size")
    return GradientSetAnswer(
        **set_row(found).model_dump(),
        labels=list(found.stored.labels),
        scalars=list(found.stored.scalars),
        measures=[m.name for m in found.measures_available()],
        digest=found.stored.digest,
        block_table=[GradientBlockRow(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)],
    )


def gradient_map(
    found: RunGradients, step: int | None, group: str, *, clusters: int | None = None, seed: int = 0
) -> GradientMapAnswer:
    """Return cosines between the vectors of ``group`` at a step, by default the first, and their norms.

    With ``clusters`` the vectors come cluster by cluster, the largest first, named by their own names or numbers.
    """
    at = found.selection(None if step is None else [step])[0]
    gram, labels, bounds = found.gram(at, group), list(found.stored.labels), None
    if clusters is not None:
        best = found.clusters(clusters, at, group, seed=seed)
        labels = [found.labels[i] for i in best.order]
        bounds = np.cumsum(np.sort(best.sizes)[::-1])[:-1].tolist()
        gram = replace(gram, labels=()).select(best.order)
    return GradientMapAnswer(
        run=found.run.name,
        set=found.name,
        group=group,
        step=at,
        parameters=gram.parameters,
        n=found.n,
        labels=labels,
        map=plain(gram.cosines),
        norms=plain(np.sqrt(gram.squares)),
        bounds=bounds,
    )


def layers(found: RunGradients, names: Sequence[str] | None, steps: Steps, **parameters: Any) -> GradientLayersAnswer:
    """Return measures of every layer over training: by default ``coherence``, or the first that the set can answer.

    Raises UsageError (``bad-option``) for a measure that is more than one number a step.
    """
    chosen, available = found.selection(steps), default_measures(found)
    wanted = list(names) if names is not None else ["coherence"] if "coherence" in available else available[:1]
    groups = found.groups()
    values = found.by_layer(wanted, chosen, **parameters)
    rows = [
        GradientLayerRow(
            layer=layer.removeprefix("layer/"),
            group=layer,
            parameters=groups[layer].parameters,
            measures={name: plain(values[name][row]) for name in wanted},
        )
        for row, layer in enumerate(found.layer_ids())
    ]
    return GradientLayersAnswer(run=found.run.name, set=found.name, n=found.n, steps=chosen, layers=rows)


def clusters(
    found: RunGradients,
    count: int = CLUSTERS,
    step: int | None = None,
    group: str = "network",
    *,
    seed: int = 0,
) -> GradientClustersAnswer:
    """Compute Gradient Clustering at a step (by default the first), and evaluate its clusters there and at the later
    steps.

    Raises UsageError (``bad-option``) for a number of clusters that is not 1 … n.
    """
    chosen = found.selection(None if step is None else [step])
    at = chosen[0]
    best = found.clusters(count, at, group, seed=seed)
    gram = found.gram(at, group)
    anchored = found.beside_of("anchored")
    later = [s for s in found.selection(None) if s >= at]
    return GradientClustersAnswer(
        run=found.run.name,
        set=found.name,
        group=group,
        step=at,
        parameters=gram.parameters,
        n=found.n,
        clusters=count,
        assignment=best.assignment.tolist(),
        order=best.order.tolist(),
        sizes=best.sizes.tolist(),
        traces=plain(best.traces),
        duplicates=_duplicates(gram),
        iteration_objective=plain(cluster_by_iteration(gram, count, seed=seed).objective),
        variance=[_variance(found, anchored, s, group, best, count) for s in later],
    )


def _variance(
    found: RunGradients, anchored: RunGradients | None, step: int, group: str, best: Clustering, count: int
) -> ClusteredVariance:
    gram = found.gram(step, group)
    kept = Clustering.of(gram, best.assignment)
    svrg = None
    if anchored is not None and step in anchored.stored.steps:
        svrg = average_variance_svrg(anchored.gram(step, group), count)
    return ClusteredVariance(
        step=step,
        objective=plain(kept.objective),
        sg_b=plain(average_variance(gram, count)),
        sg_2b=plain(average_variance(gram, 2 * count)),
        svrg=plain(svrg),
        gc=plain(kept.average_variance),
    )


def _duplicates(gram: VectorGram) -> int:
    return 0 if gram.same is None else len(gram) - len(np.unique(gram.same))


def layer_rows(answer: GradientLayersAnswer) -> tuple[list[str], list[list[Any]]]:
    """Return the header and rows of a table of layers: one row a layer, one column a step; of several measures a column names them."""
    names = list(answer.layers[0].measures) if answer.layers else []
    several = ["measure"] if len(names) > 1 else []
    rows = [
        [row.layer, row.group, row.parameters, *([name] if several else []), *row.measures[name]]
        for name in names
        for row in answer.layers
    ]
    return ["layer", "group", "parameters", *several, *map(str, answer.steps)], rows
