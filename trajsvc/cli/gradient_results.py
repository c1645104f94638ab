"""``trajsvc gradients ls | measures | map | layers | clusters``: answers from the sets of gradients that are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.gradient_options import BatchOption, ClustersOption, SeedOption, SetOption, StepOption
from trajsvc.cli.gradient_tables import print_clusters, print_layers, print_map, print_measures, print_sets, say_stale
from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import (
    FormatOption,
    GroupOption,
    OutputOption,
    QuietOption,
    RunArgument,
    StepsOption,
    StoreOption,
)
from trajsvc.cli.output import (
    FIGURES,
    choose,
    csv_rows,
    csv_text,
    emit,
    json_text,
    results_console,
    save_figure,
    write_file,
)
from trajsvc.cli.results import NamesOption

if TYPE_CHECKING:
    from storage_schema.models.gradients import GradientMapAnswer


def register_answers(gradients: typer.Typer) -> None:
    """Add the commands that answer from what is stored to those of ``gradients``."""
    gradients.command("ls", epilog="Example:  trajsvc gradients ls pythia-nano")(ls)
    gradients.command(
        "measures", epilog="Example:  trajsvc gradients measures pythia-nano --set example --names coherence,mu"
    )(measures)
    gradients.command("map", epilog="Example:  trajsvc gradients map pythia-nano --set batch --step 1000 -o map.png")(
        map_
    )
    gradients.command(
        "layers", epilog="Example:  trajsvc gradients layers pythia-nano --set example --names coherence -o layers.csv"
    )(layers)
    gradients.command(
        "clusters", epilog="Example:  trajsvc gradients clusters pythia-nano --step 1000 --clusters 8 -o clusters.png"
    )(clusters)


def ls(
    run: RunArgument,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """List the sets of gradients of a run."""
    from storage_schema.models.gradients import GradientSetRow
    from trajsvc.results import gradient_answers as answers

    kind = choose(form, output, ("json", "csv"))
    rows = answers.sets(open_run(store, run))
    if kind == "json":
        return emit(json_text([row.model_dump() for row in rows]), output, quiet)
    if kind == "csv":
        cells = [
            {**r.model_dump(), "steps": len(r.steps), "stale": len(r.stale), "options": json_text(r.options).strip()}
            for r in rows
        ]
        return emit(csv_rows(cells, list(GradientSetRow.model_fields)), output, quiet)
    return print_sets(results_console(), rows)


def measures(
    run: RunArgument,
    set_: SetOption = "example",
    group: GroupOption = "network",
    names: NamesOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    clusters: ClustersOption = None,
    seed: SeedOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show measures of a set of gradients over training, for any group of parameters."""
    from trajsvc.figures import of_gradients as figures
    from trajsvc.measures.registry import names_in
    from trajsvc.results import gradient_answers as answers

    kind = choose(form, output, ("json", "csv", *FIGURES))
    found = open_run(store, run).gradients(set_)
    chosen = names_in(names)
    say_stale(found, quiet)
    answer = answers.measures(found, group, chosen, steps, batch=batch, clusters=clusters, seed=seed)
    if kind in FIGURES and output is not None:
        return save_figure(figures.measures_of(answer, axis_of(found), chosen), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(answers.LONG, answers.long_rows(answer)), output, quiet)
    return print_measures(results_console(), answer, axis=axis_of(found), each_step=chosen is not None)


def map_(
    run: RunArgument,
    set_: SetOption = "example",
    step: StepOption = None,
    group: GroupOption = "network",
    clusters: Annotated[
        int | None,
        typer.Option("--clusters", min=1, help="Order the vectors by this many clusters, the largest first."),
    ] = None,
    seed: SeedOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show the cosines between the gradients of a set at one checkpoint."""
    from trajsvc.figures import of_gradients as figures
    from trajsvc.results import gradient_answers as answers

    kind = choose(form, output, ("json", "csv", "npy", "npz", *FIGURES))
    found = open_run(store, run).gradients(set_)
    say_stale(found, quiet)
    answer = answers.gradient_map(found, step, group, clusters=clusters, seed=seed or 0)
    if kind in FIGURES and output is not None:
        return save_figure(figures.map_of(answer, axis_of(found)), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        named = answer.labels or [str(i) for i in range(answer.n)]
        rows = ([label, norm, *row] for label, norm, row in zip(named, answer.norms, answer.map, strict=True))
        return emit(csv_text(["vector", "norm", *named], rows), output, quiet)
    if output is not None:
        return _write_arrays(answer, kind, output, quiet)
    return print_map(results_console(), answer, axis_of(found))


def _write_arrays(answer: GradientMapAnswer, kind: str, output: Path, quiet: bool) -> None:
    import numpy as np

    values = np.array(answer.map, dtype=np.float64).reshape(answer.n, answer.n)
    if kind == "npy":
        return write_file(output, lambda out: np.save(out, values), quiet=quiet)
    norms = np.array(answer.norms, dtype=np.float64)
    return write_file(output, lambda out: np.savez(out, map=values, norms=norms), quiet=quiet)


def layers(
    run: RunArgument,
    set_: SetOption = "example",
    names: NamesOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    seed: SeedOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show a measure of gradients for every layer: one row a layer, one column a step."""
    from trajsvc.figures import of_gradients as figures
    from trajsvc.measures.registry import names_in
    from trajsvc.results import gradient_answers as answers

    kind = choose(form, output, ("json", "csv", *FIGURES))
    found = open_run(store, run).gradients(set_)
    say_stale(found, quiet)
    answer = answers.layers(found, names_in(names), steps, batch=batch, seed=seed)
    if kind in FIGURES and output is not None:
        return save_figure(figures.layers_of(answer, axis_of(found)), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(*answers.layer_rows(answer)), output, quiet)
    return print_layers(results_console(), answer, axis_of(found))


def clusters(
    run: RunArgument,
    set_: SetOption = "example",
    step: StepOption = None,
    group: GroupOption = "network",
    count: ClustersOption = None,
    seed: SeedOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Cluster the gradients of a checkpoint, and say what the clusters save there and at later checkpoints."""
    from storage_schema.models.gradients import ClusteredVariance
    from trajsvc.figures import of_gradients as figures
    from trajsvc.measures.gradients.clustering import CLUSTERS
    from trajsvc.results import gradient_answers as answers

    kind = choose(form, output, ("json", "csv", *FIGURES))
    found = open_run(store, run).gradients(set_)
    say_stale(found, quiet)
    answer = answers.clusters(found, count or CLUSTERS, step, group, seed=seed or 0)
    if kind in FIGURES and output is not None:
        ordered = answers.gradient_map(found, answer.step, group, clusters=answer.clusters, seed=seed or 0)
        return save_figure(figures.clusters_of(answer, ordered, axis_of(found)), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(
            csv_rows([r.model_dump() for r in answer.variance], list(ClusteredVariance.model_fields)), output, quiet
        )
    return print_clusters(results_console(), answer, axis_of(found))


def axis_of(found: Any) -> str:
    """Return what the numbers of the run's checkpoints count."""
    return str(getattr(found.run, "axis", "step"))
