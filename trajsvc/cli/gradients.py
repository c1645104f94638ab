"""``trajsvc gradients``: its commands; those that compute sets of gradients at checkpoints of a run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trajsvc.cli.gradient_options import GRADIENTS, make_gradient_options
from trajsvc.cli.gradient_results import register_answers
from trajsvc.cli.gradient_submit import register_submit
from trajsvc.cli.gradient_tables import print_forecasts, print_sets
from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import FormatOption, OutputOption, QuietOption, RunArgument, StoreOption, takes
from trajsvc.cli.output import choose, csv_rows, emit, json_text, results_console

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
    register_answers(gradients)
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
