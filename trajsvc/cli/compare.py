"""``compare``: runs side by side, as a table or a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.options import (
    FormatOption,
    GroupOption,
    OriginOption,
    OutputOption,
    QuietOption,
    StepsOption,
    StoreOption,
)
from trajsvc.cli.output import FIGURES, choose, csv_rows, emit, json_text, results_console, safe, save_figure
from trajsvc.cli.show import new_table, open_run
from trajsvc.cli.terminal import number, step_number
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from storage_schema.wire import CompareRow
    from trajsvc.run import Run

SHOWN = ("mds", "relative_mds", "path_length", "tortuosity", "mean_update_angle", "mu", "alpha")


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command("compare", epilog="Example:  trajsvc compare baseline no-decay no-momentum -o compare.pdf")(compare)


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Names of two or more runs.")],
    group: GroupOption = "network",
    by: Annotated[str | None, typer.Option("--by", metavar="layer", help="A row for every layer of every run.")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="With -o FILE.png|svg|pdf: the maps, on one scale.")] = False,
    origin: OriginOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Compare runs: directional similarity, length and straightness of the path, correlation of updates."""
    from storage_schema.wire import CompareRow
    from trajsvc import answers
    from trajsvc.cli import figures

    kind = choose(form, output, ("json", "csv", *FIGURES))
    if by not in (None, "layer"):
        raise UsageError("bad-by", f"cannot compare by {by!r}", hint="`--by layer` is what there is")
    if maps and kind not in FIGURES:
        raise UsageError("needs-figure", "--maps makes a figure", hint="add -o maps.png")
    opened = [open_run(store, name) for name in runs]
    if maps and output is not None:
        return save_figure(figures.maps_beside(opened, group, origin, steps), output, quiet)
    answer = answers.compare(opened, _groups(opened, group, by), steps)
    if kind in FIGURES and output is not None:
        return save_figure(figures.comparison(answer), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_rows([r.model_dump() for r in answer.rows], list(CompareRow.model_fields)), output, quiet)
    return results_console().print(_table(answer.rows))


def _groups(runs: Sequence[Run], group: str, by: str | None) -> list[str]:
    """The group asked for, or every layer that any of the runs has, in order of depth."""
    return [group] if by is None else list(dict.fromkeys(layer for run in runs for layer in run.layer_ids()))


def _table(rows: Sequence[CompareRow]) -> Any:
    table = new_table(
        ["run", "group", ">checkpoints", *(f">{name.replace('_', ' ')}" for name in SHOWN), ">settles at"]
    )
    for row in rows:
        values = (number(getattr(row, name)) for name in SHOWN)
        table.add_row(safe(row.run), safe(row.group), str(row.checkpoints), *values, step_number(row.settling_step))
    return table
