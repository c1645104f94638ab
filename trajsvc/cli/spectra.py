"""``trajsvc spectra``: decompose the matrices of a run at its checkpoints, and answer from what is stored."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import (
    FormatOption,
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
    errors_console,
    json_text,
    results_console,
    save_figure,
)
from trajsvc.cli.results import NamesOption
from trajsvc.cli.spectrum_options import (
    SPECTRA,
    HeadsOption,
    OfOption,
    TensorOption,
    kind_named,
    make_spectrum_options,
)
from trajsvc.cli.spectrum_submit import register_submit

EPILOG = """Examples:

  trajsvc spectra compute RUN

  trajsvc spectra measures RUN --tensor gpt_neox.layers.0.attention.dense.weight -o spectrum.pdf

  trajsvc spectra layers RUN --of updates --names stable_rank -o depth.png
"""
COMPUTE = """Example:

  trajsvc spectra compute pythia-nano --of weights,updates --groups layer/0,layer/1 --heads

Every matrix is kept as soon as it is done; stopped with ^C, or killed, the same command goes on at the next one.
"""


def register(app: typer.Typer) -> None:
    """Add ``spectra`` to ``app``."""
    spectra = typer.Typer(
        help="Singular values of every matrix over training: norms, ranks, power laws, heads.",
        no_args_is_help=True,
        epilog=EPILOG,
    )
    spectra.command("compute", epilog=COMPUTE)(compute)
    spectra.command("plan", epilog="Example:  trajsvc spectra plan pythia-nano --budget 1GiB")(plan)
    spectra.command("ls", epilog="Example:  trajsvc spectra ls pythia-nano")(ls)
    spectra.command("measures", epilog="Example:  trajsvc spectra measures RUN --tensor NAME --of updates")(measures)
    spectra.command("values", epilog="Example:  trajsvc spectra values RUN --tensor NAME -o values.csv")(values)
    spectra.command("layers", epilog="Example:  trajsvc spectra layers RUN --names stable_rank")(layers)
    spectra.command("qkv", epilog="Example:  trajsvc spectra qkv RUN -o sigma.pdf")(qkv)
    register_submit(spectra)
    app.add_typer(spectra, name="spectra")


@takes(SPECTRA)
def compute(
    run: RunArgument,
    store: StoreOption = None,
    *,
    chosen: dict[str, Any],
    replace: Annotated[bool, typer.Option("--replace", help="Compute anew what is there.")] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", metavar="SOURCE", help="Where the checkpoints lie, where that is not what the run says."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Where matrices are decomposed: cpu, torch:cpu, cuda, cuda:1. \\[cpu]")
    ] = "cpu",
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Decompose the matrices of a stored run at its checkpoints, and keep their singular values with the run."""
    from trajsvc.cli.interrupts import stop_on_interrupt
    from trajsvc.cli.spectrum_tables import LiveSpectra, print_rows, say_left_out
    from trajsvc.errors import Cancelled
    from trajsvc.results.run import default_store
    from trajsvc.spectra.compute import SpectrumObserver, compute_spectra

    kind = choose(form, None, ())
    options, where = make_spectrum_options(chosen), store or default_store()
    silent = quiet or kind == "json"
    with stop_on_interrupt() as stop:
        try:
            done = compute_spectra(
                where, run, options, overwrite=replace, source=source, device=device, stop=stop.is_set,
                observer=SpectrumObserver() if silent else LiveSpectra(),
            )  # fmt: skip
        except (Cancelled, KeyboardInterrupt):
            if not quiet:
                errors_console().print("stopped; the same command goes on where it was", highlight=False)
            raise KeyboardInterrupt from None
    if not silent:
        say_left_out(done.left_out, errors_console())
    answer = {
        "run": run, "store": str(where), "of": list(done.of), "matrices": done.matrices, "computed": list(done.computed),
        "there": list(done.there), "left_out": dict(done.left_out),
    }  # fmt: skip
    if kind == "json":
        return emit(json_text(answer), None)
    if kind == "csv":
        cells = [{"of": of, "computed": len(done.computed), "there": len(done.there)} for of in done.of]
        return emit(csv_rows(cells, ["of", "computed", "there"]), None)
    if not quiet:
        print_rows(results_console(), open_run(store, run).spectrum_answers().rows())
    return None


@takes(SPECTRA)
def plan(
    run: RunArgument,
    store: StoreOption = None,
    *,
    chosen: dict[str, Any],
    source: Annotated[str | None, typer.Option("--source", metavar="SOURCE", help="Where the checkpoints lie.")] = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Forecast what `compute` with the same options takes: method, memory and arithmetic of every matrix."""
    from dataclasses import asdict

    from trajsvc.cli.spectrum_tables import print_forecasts, say_left_out
    from trajsvc.spectra.compute import make_plan
    from trajsvc.spectra.forecast import forecast

    kind = choose(form, output, ("json", "csv"))
    options = make_spectrum_options(chosen)
    made = make_plan(open_run(store, run), options, source)
    rows = [forecast(made.matrices.found[i], options.budget) for i in made.chosen]
    cells = [asdict(row) for row in rows]
    times = sum(len(pairs) for pairs in made.pairs.values())
    if kind == "json":
        facts = {"run": run, "decompositions": times, "matrices": cells, "left_out": dict(made.matrices.left_out)}
        return emit(json_text(facts), output)
    if kind == "csv":
        return emit(csv_rows(cells, list(cells[0])), output)
    print_forecasts(results_console(), rows, times)
    return say_left_out(made.matrices.left_out, results_console())


def ls(
    run: RunArgument,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """List what the run has spectra of."""
    from storage_schema.models.spectra import SpectrumRow
    from trajsvc.cli.spectrum_tables import print_rows

    kind = choose(form, output, ("json", "csv"))
    rows = open_run(store, run).spectrum_answers().rows()
    if kind == "json":
        return emit(json_text([row.model_dump() for row in rows]), output, quiet)
    if kind == "csv":
        cells = [{**row.model_dump(), "steps": len(row.steps), "stale": len(row.stale)} for row in rows]
        return emit(csv_rows(cells, list(SpectrumRow.model_fields)), output, quiet)
    return print_rows(results_console(), rows)


def measures(
    run: RunArgument,
    tensor: TensorOption,
    of: OfOption = "weights",
    names: NamesOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show the measures of one matrix over training; as a figure those named, else its singular values and ranks."""
    from trajsvc.figures.of_spectra import RANKS, measures_figure, tensor_figure
    from trajsvc.measures.registry import names_in
    from trajsvc.results.stored_spectra import measure_table

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    found, what, chosen = opened.spectrum_answers(), kind_named(of), names_in(names)
    if kind in FIGURES and output is not None:
        if chosen is not None:
            named = found.measures(tensor, what, chosen, steps)
            return save_figure(measures_figure(named, opened.axis), output, quiet)
        ranks = found.measures(tensor, what, RANKS, steps)
        return save_figure(tensor_figure(found.values(tensor, what, steps), ranks, opened.axis), output, quiet)
    answer = found.measures(tensor, what, chosen, steps)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(*measure_table(answer)), output, quiet)
    from trajsvc.cli.spectrum_tables import print_measures

    shown = found.values(tensor, what, steps)
    return print_measures(results_console(), answer, shown, axis=opened.axis, each_step=chosen is not None)


def values(
    run: RunArgument,
    tensor: TensorOption,
    of: OfOption = "weights",
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show the singular values of one matrix over training."""
    from trajsvc.cli.spectrum_tables import print_measures
    from trajsvc.figures.of_spectra import RANKS, tensor_figure
    from trajsvc.results.stored_spectra import value_table

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    found, what = opened.spectrum_answers(), kind_named(of)
    answer = found.values(tensor, what, steps)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(*value_table(answer)), output, quiet)
    ranks = found.measures(tensor, what, RANKS, steps)
    if output is not None:
        return save_figure(tensor_figure(answer, ranks, opened.axis), output, quiet)
    return print_measures(results_console(), ranks, answer, axis=opened.axis, each_step=False)


def layers(
    run: RunArgument,
    of: OfOption = "weights",
    names: NamesOption = None,
    steps: StepsOption = None,
    heads: HeadsOption = False,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show measures of every matrix: one row a matrix, in the order of the network; as a figure by depth."""
    from trajsvc.cli.spectrum_tables import print_layers
    from trajsvc.figures.of_spectra import layers_figure
    from trajsvc.measures.registry import names_in

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    answer = opened.spectrum_answers().layers(kind_named(of), names_in(names), steps, heads=heads)
    if kind in FIGURES and output is not None:
        return save_figure(layers_figure(answer, opened.axis, heads=heads), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(*layer_cells(answer)), output, quiet)
    return print_layers(results_console(), answer, opened.axis)


def layer_cells(answer: Any) -> tuple[list[str], list[list[Any]]]:
    """Return the header and rows of a table of matrices: one row a matrix, measure and step."""
    from trajsvc.results.stored_spectra import LAYER_COLUMNS, layer_rows

    return list(LAYER_COLUMNS), layer_rows(answer)


def qkv(
    run: RunArgument,
    of: OfOption = "weights",
    name: Annotated[str, typer.Option("--name", metavar="MEASURE", help="The measure.")] = "sigma_1",
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show a measure of Q, K and V, by default σ_1, over training in every layer."""
    from trajsvc.cli.spectrum_tables import print_layers
    from trajsvc.figures.of_spectra import PARTS, qkv_figure

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    answer = opened.spectrum_answers().layers(kind_named(of), [name], steps)
    answer = answer.model_copy(update={"matrices": [row for row in answer.matrices if row.component in PARTS]})
    if kind in FIGURES and output is not None:
        return save_figure(qkv_figure(answer, opened.axis), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(*layer_cells(answer)), output, quiet)
    return print_layers(results_console(), answer, opened.axis)
