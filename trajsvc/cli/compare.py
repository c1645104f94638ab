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
    from storage_schema.wire import CompareAnswer, CompareRow
    from trajsvc.run import Run

SHOWN = ("mds", "relative_mds", "path_length", "tortuosity", "mean_update_angle", "mu", "alpha", "settling_step")


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

    kind = choose(form, output, ("json", "csv", *FIGURES))
    if by not in (None, "layer"):
        raise UsageError("bad-by", f"cannot compare by {by!r}", hint="`--by layer` is what there is")
    if maps and kind not in FIGURES:
        raise UsageError("needs-figure", "--maps makes a figure", hint="add -o maps.png")
    opened = [open_run(store, name) for name in runs]
    if maps and output is not None:
        return save_figure(_maps(opened, group, origin, steps), output, quiet)
    answer = answers.compare(opened, _groups(opened, group, by), steps)
    if kind in FIGURES and output is not None:
        return save_figure(_bars(answer), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_rows([r.model_dump() for r in answer.rows], list(CompareRow.model_fields)), output, quiet)
    return results_console().print(_table(answer.rows))


def _groups(runs: Sequence[Run], group: str, by: str | None) -> list[str]:
    """The group asked for, or every layer that any of the runs has, in order of depth."""
    return [group] if by is None else list(dict.fromkeys(layer for run in runs for layer in run.layer_ids()))


def _table(rows: Sequence[CompareRow]) -> Any:
    table = new_table(["run", "group", ">checkpoints", *(f">{name.replace('_', ' ')}" for name in SHOWN)])
    for row in rows:
        values = (number(getattr(row, name)) for name in SHOWN[:-1])
        table.add_row(safe(row.run), safe(row.group), str(row.checkpoints), *values, step_number(row.settling_step))
    return table


def _bars(answer: CompareAnswer) -> Any:
    """Bars of the runs, for one group; several groups have a bar each, in the order of the rows."""
    from trajsvc.figures import compare_figure

    one = len({row.group for row in answer.rows}) == 1
    names = [row.run if one else f"{row.run} {row.group.removeprefix('layer/')}" for row in answer.rows]
    return compare_figure(names, {name: [getattr(row, name) for row in answer.rows] for name in SHOWN})


def _maps(runs: Sequence[Run], group: str, origin: int | None, steps: str | None) -> Any:
    from trajsvc.figures import Panel, map_figure

    panels = []
    for run in runs:
        values = run.trajectory_map(group, origin, steps)
        panels.append(Panel(values.values, values["step"].values.tolist(), run.name))
    return map_figure(panels, title=group if origin is None else f"{group}, relative to step {origin}")
