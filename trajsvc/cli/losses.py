"""``trajsvc losses``: what the trainer logged, at the checkpoints and beside a measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
from trajsvc.cli.output import FIGURES, choose, csv_text, emit, json_text, results_console, safe, save_figure
from trajsvc.cli.terminal import new_table, number

if TYPE_CHECKING:
    from storage_schema.models.training_log import LossesAnswer

EPILOG = "Example: trajsvc losses pythia-nano --beside update_norm -o losses.pdf"


def register(app: typer.Typer) -> None:
    app.command(epilog=EPILOG)(losses)


def losses(
    run: RunArgument,
    names: Annotated[
        str | None, typer.Option("--names", help="Quantities, between commas, as the log names them. \\[all]")
    ] = None,
    beside: Annotated[
        str | None, typer.Option("--beside", help="A measure over training to correlate them with, at lags.")
    ] = None,
    group: GroupOption = "network",
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show what the trainer logged (losses, gradient norms, scores) at the checkpoints, beside a measure."""
    from trajsvc.figures import of_losses
    from trajsvc.measures.registry import names_in
    from trajsvc.results.losses import losses as answer_of
    from trajsvc.results.losses import table_of

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    wanted = names_in(names)
    if kind in FIGURES and output is not None:
        return save_figure(of_losses.losses_of(opened, wanted, beside, group, steps), output, quiet)
    answer = answer_of(opened, wanted, beside, group, steps)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(*table_of(answer)), output, quiet)
    return _print(answer)


def _print(answer: LossesAnswer) -> None:
    console = results_console()
    files = ", ".join(dict.fromkeys(q.file for q in answer.quantities.values()))
    console.print(f"[bold]{safe(answer.run)}[/bold]  as logged in {safe(files)}")
    beside = [f">{answer.beside}"] if answer.beside else []
    table = new_table([f">{answer.axis}", *(f">{safe(name)}" for name in answer.quantities), *beside])
    for i, step in enumerate(answer.steps):
        cells = [
            ("" if q.logged[i] or q.values[i] is None else "~") + number(q.values[i])
            for q in answer.quantities.values()
        ]
        table.add_row(str(step), *cells, *([number(answer.measure[i])] if answer.measure else []))
    console.print(table)
    if any(
        v is not None and not at for q in answer.quantities.values() for v, at in zip(q.values, q.logged, strict=True)
    ):
        console.print("[dim]~ was not logged at that checkpoint: interpolated between the entries beside it[/dim]")
    if answer.correlations:
        console.print(
            f"correlation of {answer.beside} of {safe(answer.group)} with what was logged so many checkpoints later"
        )
        lags = sorted({row.lag for rows in answer.correlations.values() for row in rows})
        table = new_table([">lag", *(f">{safe(name)}" for name in answer.correlations), ">pairs"])
        for i, lag in enumerate(lags):
            rows = [rows[i] for rows in answer.correlations.values()]
            table.add_row(str(lag), *(number(row.value, 3) for row in rows), str(min(row.pairs for row in rows)))
        console.print(table)
