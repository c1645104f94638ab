"""``trajsvc average``: what averages of checkpoints would be, and one written as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    emit,
    errors_console,
    json_text,
    results_console,
    safe,
    save_figure,
)
from trajsvc.cli.terminal import new_table, number
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from storage_schema.models.averages import AveragesAnswer

EPILOG = """Examples:

  trajsvc average pythia-70m                              what each window and decay would give, from the Gram alone

  trajsvc average pythia-70m -o averages.pdf              the curves

  trajsvc average pythia-70m --last 5 -o averaged/        a folder that transformers loads

  trajsvc average pythia-70m --ema 0.9 -o averaged/

  trajsvc average pythia-70m --weights weights.json -o averaged/      {"2000": 0.5, "3000": 0.5}
"""


def register(app: typer.Typer) -> None:
    app.command("average", epilog=EPILOG)(average)


def average(
    run: RunArgument,
    last: Annotated[int | None, typer.Option("--last", metavar="K", help="Average the last K checkpoints.")] = None,
    ema: Annotated[
        float | None, typer.Option("--ema", metavar="D", help="Moving average over the checkpoints, of this decay.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Weights by step that sum to 1, as JSON or CSV.")
    ] = None,
    group: GroupOption = "network",
    steps: StepsOption = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", "--budget", metavar="SIZE", help="Memory for a piece of a tensor. \\[512MiB]"),
    ] = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show what averages of a run's checkpoints would be; with weights and -o DIR write one as a checkpoint."""
    from trajsvc.analysis.average_weights import chosen_weights, read_weights
    from trajsvc.cli.open_run import open_run
    from trajsvc.results.averages import averages

    chosen = sum(choice is not None for choice in (last, ema, weights)) > 0
    if chosen and output is not None and output.suffix.lower() not in (".json", ".csv", *(f".{f}" for f in FIGURES)):
        if steps is not None:
            raise UsageError(
                "bad-weights", "--steps and weights both choose checkpoints", hint="Use --weights for others."
            )
        return _write(run, output, store, last, ema, weights, memory, quiet)
    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    if kind in FIGURES and output is not None:
        from trajsvc.figures.averages import averages_of

        return save_figure(averages_of(opened, group, steps), output, quiet)
    at = opened.gram(group, steps).steps.tolist()
    given = chosen_weights(at, last, ema, None if weights is None else read_weights(weights))
    answer = averages(opened, group, steps, None if given is None else given.over(at))
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        rows = [row.model_dump() for row in answer.averages]
        return emit(csv_rows(rows, list(rows[0])), output, quiet)
    return _print(answer)


def _write(
    run: str,
    folder: Path,
    store: Path | None,
    last: int | None,
    ema: float | None,
    weights: Path | None,
    memory: str | None,
    quiet: bool,
) -> None:
    from trajsvc.analysis.average_runs import average as write
    from trajsvc.cli.interrupts import stop_on_interrupt
    from trajsvc.errors import Cancelled

    with stop_on_interrupt() as stop:
        try:
            done = write(run, folder, last=last, ema=ema, weights=weights, store=store, memory=memory, stop=stop.is_set)
        except Cancelled:
            raise KeyboardInterrupt from None
    if quiet:
        return
    taken = done.weights.steps
    console = errors_console()
    span = f"steps {taken[0]} … {taken[-1]}" if len(taken) > 1 else f"step {taken[0]}"
    console.print(f"averaged {len(taken)} checkpoints ({span}, {done.weights.name})", markup=False, highlight=False)
    kept = f", {len(done.kept)} as in the last checkpoint" if done.kept else ""
    console.print(
        f"wrote {folder}: {len(done.averaged)} tensors averaged{kept}; {', '.join(done.files)}",
        markup=False,
        highlight=False,
    )


def _print(answer: AveragesAnswer) -> None:
    console = results_console()
    console.print(f"[bold]{safe(answer.run)}[/bold]  {safe(answer.group)}  averages of {len(answer.steps)} checkpoints")
    table = new_table(
        [
            "weights",
            f">from\n{answer.axis}",
            ">distance\nfrom last",
            ">share of\nthe way",
            ">variance\nremoved",
            ">norm",
        ]
    )
    for row in answer.averages:
        table.add_row(
            row.weights, str(row.from_step), number(row.distance), number(row.relative_distance), number(row.variance_removed),
            number(row.norm),
        )  # fmt: skip
    console.print(table)
    console.print(
        "[dim]share of the way: of the last checkpoint's distance from the first. --last K -o DIR writes one[/dim]"
    )
