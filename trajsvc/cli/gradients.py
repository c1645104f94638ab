"""``trajsvc gradients``: compute sets of gradients at checkpoints of a run, and answer from those that are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.gradient_options import (
    GRADIENTS,
    BatchOption,
    ClustersOption,
    SeedOption,
    SetOption,
    StepOption,
    make_gradient_options,
)
from trajsvc.cli.gradient_submit import register_submit
from trajsvc.cli.gradient_tables import (
    print_clusters,
    print_forecasts,
    print_layers,
    print_map,
    print_measures,
    print_sets,
    say_stale,
)
from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import (
    FormatOption,
    GroupOption,
    OutputOption,
    QuietOption,
    RunArgument,
    StepsOption,
    StoreOption,
    takes,
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

EPILOG = """Examples:

  trajsvc gradients compute RUN --probe causal-lm --data text.txt --sets example,batch --examples 64 --batch 16 --steps every:4

  trajsvc gradients measures RUN --set example --group layer/3 -o curves.png
"""
COMPUTE = """Example:

  trajsvc gradients compute pythia-nano --probe causal-lm --data text.txt --sets example,batch --examples 64 --batch 16 --length 64

Every checkpoint is kept as soon as it is done; stopped with ^C, or killed, the same command goes on at the next one.
"""
PLAN = """Example:

  trajsvc gradients plan pythia-nano --probe causal-lm --data text.txt --sets example,weights --examples 64
"""


def register(app: typer.Typer) -> None:
    """Add ``gradients`` to ``app``."""
    gradients = typer.Typer(
        help="Gradients at checkpoints: variance, conditioning, correlation, clustering, layer by layer.",
        no_args_is_help=True,
        epilog=EPILOG,
    )
    gradients.command("compute", epilog=COMPUTE)(compute)
    gradients.command("plan", epilog=PLAN)(plan)
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
    register_submit(gradients)
    app.add_typer(gradients, name="gradients")


@takes(GRADIENTS)
def compute(
    run: RunArgument,
    store: StoreOption = None,
    *,
    chosen: dict[str, Any],
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Keep the set under this name instead of its kind; of several sets, NAME-KIND."
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Compute anew sets that are stored with other options, which are then lost."),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="SOURCE", help="Where the checkpoints lie, where that is not what the run says."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Where the network is evaluated: cpu, cuda, cuda:1. \\[cpu]")
    ] = "cpu",
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Compute sets of gradients at checkpoints of a stored run, with a network and data, and keep their Grams with the run."""
    from trajsvc.cli.gradient_progress import run_gradients
    from trajsvc.results.run import default_store

    kind = choose(form, None, ())
    options = make_gradient_options(chosen)
    where = store or default_store()
    outcome = run_gradients(
        where, run, options, name=name, overwrite=replace, source=source, device=device, quiet=quiet or kind == "json"
    )
    rows = [{"set": found, "computed": list(outcome.computed), "there": list(outcome.there)} for found in outcome.sets]
    if kind == "json":
        return emit(json_text({"run": run, "store": str(where), "sets": rows}), None)
    if kind == "csv":
        cells = [{**row, "computed": len(outcome.computed), "there": len(outcome.there)} for row in rows]
        return emit(csv_rows(cells, ["set", "computed", "there"]), None)
    if not quiet:
        from trajsvc.results import gradient_answers as answers

        opened = open_run(store, run)
        print_sets(results_console(), [answers.set_row(opened.gradients(found)) for found in outcome.sets])
    return None


@takes(GRADIENTS)
def plan(
    run: RunArgument,
    store: StoreOption = None,
    *,
    chosen: dict[str, Any],
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Forecast what `compute` with the same options takes: vectors, evaluations, memory, and bytes that are kept."""
    from dataclasses import asdict

    from trajsvc.gradients.forecast import forecast_run, refusal

    kind = choose(form, output, ("json", "csv"))
    options = make_gradient_options(chosen)
    rows = forecast_run(open_run(store, run), options)
    cells = [{**asdict(row), "refused": refusal(row, options)} for row in rows]
    if kind == "json":
        return emit(json_text({"run": run, "sets": cells}), output)
    if kind == "csv":
        return emit(csv_rows(cells, list(cells[0])), output)
    return print_forecasts(results_console(), rows, [cell["refused"] for cell in cells])


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
        return emit(csv_text(["measure", "step", "axis", "at", "value"], answers.long_rows(answer)), output, quiet)
    return print_measures(results_console(), answer, each_step=chosen is not None)


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
    return print_map(results_console(), answer)


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
    return print_layers(results_console(), answer)


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
    return print_clusters(results_console(), answer)


def axis_of(found: Any) -> str:
    """Return what the numbers of the run's checkpoints count."""
    return str(getattr(found.run, "axis", "step"))
