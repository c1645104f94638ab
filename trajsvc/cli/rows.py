"""``trajsvc rows``: which rows (neurons) of the matrices moved, over training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
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
from trajsvc.cli.output import (
    FIGURES,
    choose,
    csv_text,
    emit,
    json_text,
    results_console,
    safe,
    save_figure,
    write_file,
)
from trajsvc.cli.terminal import new_table, number
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from storage_schema.models.rows import RowsAnswer, RowsOf
    from trajsvc.results.run import Run

EPILOG = "Example:  trajsvc rows pythia-nano --group layer/3/mlp.in --of ratio -o rows.png"


def register(app: typer.Typer) -> None:
    """Add ``rows`` to ``app``."""
    app.command(epilog=EPILOG)(rows)


def rows(
    run: RunArgument,
    group: GroupOption = "network",
    of: Annotated[
        str, typer.Option("--of", metavar="WHAT", help="update, ratio (to the row), angle, displacement, or weights.")
    ] = "update",
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=0,
            help="Only so many rows, the largest first; 0: all, in order. \\[20; all in files of arrays and figures]",
        ),
    ] = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show which rows (neurons) of a group's matrices moved, and when; a figure is an image of all of them."""
    from trajsvc.figures import of_rows
    from trajsvc.results.rows import rows_answer, rows_table

    kind = choose(form, output, ("json", "csv", "npz", *FIGURES))
    what = kind_named(of)
    opened = open_run(store, run)
    if kind in FIGURES and output is not None:
        return save_figure(of_rows.rows_of(opened, group, what, steps, top), output, quiet)
    if kind == "npz" and output is not None:
        return _write_arrays(opened, group, what, steps, top, output, quiet)
    answer = rows_answer(opened, group, what, steps, top)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(*rows_table(answer)), output, quiet)
    return _print(opened, answer, steps)


def kind_named(text: str) -> RowsOf:
    """Return what is said of rows. Raises UsageError (``bad-option``)."""
    from storage_schema.models.rows import ROWS_OF

    for known in ROWS_OF:
        if text == known:
            return known
    raise UsageError("bad-option", f"no {text!r} of rows", hint=f"--of is one of {', '.join(ROWS_OF)}.")


def _write_arrays(
    run: Run, group: str, of: RowsOf, steps: str | None, top: int | None, output: Path, quiet: bool
) -> None:
    from trajsvc.results.rows import row_trajectories, rows_arrays

    found = row_trajectories(run, group, of, steps)
    write_file(output, lambda out: _save(out, rows_arrays(found.largest(top) if top else found)), quiet=quiet)


def _save(out: object, arrays: Mapping[str, object]) -> None:
    import numpy as np

    np.savez(out, **arrays)  # type: ignore[arg-type]


def _print(run: Run, answer: RowsAnswer, steps: str | None) -> None:
    import numpy as np

    from trajsvc.figures.of_rows import LABELS
    from trajsvc.measures.registry import MEASURES

    console = results_console()
    console.print(f"[bold]{safe(answer.run)}[/bold]  {safe(answer.group)}: {LABELS[answer.of]}")
    values = np.array([row.values for row in answer.rows], np.float64).reshape(-1, len(answer.steps))
    first, last = (str(answer.steps[0]), str(answer.steps[-1])) if answer.steps else ("", "")
    table = new_table(["tensor", ">row", f">at {first}", f">at {last}", ">largest", f">at {answer.axis}"])
    for row, line in zip(answer.rows, values, strict=True):
        finite = np.isfinite(line).any()
        at = int(np.nanargmax(line)) if finite else 0
        most = [number(float(line[at])), str(answer.steps[at])] if finite else ["–", "–"]
        table.add_row(safe(row.tensor), str(row.row), number(row.values[0]), number(row.values[-1]), *most)
    console.print(table)
    console.print(f"{len(answer.rows)} of {answer.total:,} rows, those with the largest sum of squares first")
    gram = run.gram(answer.group, steps)
    shown = ("row_top_share", "row_participation", "row_still", "row_never_moved")
    table = new_table([f">{run.axis}", *(f">{name.removeprefix('row_').replace('_', ' ')}" for name in shown)])
    curves = [MEASURES[name].compute(gram) for name in shown]
    for place in sorted({0, len(gram.steps) // 2 - 1, len(gram.steps) - 2} & set(range(len(gram.steps) - 1))):
        table.add_row(str(gram.steps[place + 1]), *(number(float(curve[place])) for curve in curves))
    console.print(table)
    console.print(f"[dim]trajsvc rows {safe(answer.run)} -o rows.png makes the figure, -o rows.npz the numbers[/dim]")
