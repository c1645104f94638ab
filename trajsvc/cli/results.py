"""The commands that print numbers and figures: ``map``, ``measures``, ``layers`` and ``qkv``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.completion import complete_measures
from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import (
    FormatOption,
    GroupOption,
    OriginOption,
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
    safe,
    save_figure,
    write_file,
)
from trajsvc.cli.terminal import CELLS, NUMBERS_UP_TO, cells_noted, heat, limits, new_table, number
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from storage_schema.models.results import MapAnswer, MeasuresAnswer
    from trajsvc.results.run import Run

ByLayer = Annotated[
    bool, typer.Option("--layers", help="With -o FILE.png|svg|pdf: a map for every layer, on one scale.")
]
Several = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="ID,GLOB",
        help="Of several groups, separated by commas: with -o FILE.npz an array for each, and steps; or --format json.",
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null", help="With -o FILE.png|svg|pdf: beside it the map of a random walk with the same updates' norms."
    ),
]
NamesOption = Annotated[
    str | None,
    typer.Option(
        "--names", metavar="A,B", help="Only these measures, separated by commas.", autocompletion=complete_measures
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command("map", epilog="Example:  trajsvc map pythia-70m --group layer/3/attention.q --origin 0 -o q3.pdf")(map_)
    app.command("measures", epilog="Example:  trajsvc measures pythia-70m --names mds,update_angle --format csv")(
        measures
    )
    app.command("layers", epilog="Example:  trajsvc layers pythia-70m -o layers.csv")(layers)
    app.command("qkv", epilog="Example:  trajsvc qkv pythia-70m -o attention.pdf")(qkv)


def map_(
    run: RunArgument,
    group: GroupOption = "network",
    origin: OriginOption = None,
    steps: StepsOption = None,
    by_layer: ByLayer = False,
    null: Null = False,
    several: Several = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show the trajectory map of a group: cosines between its checkpoints, or relative to an --origin."""
    from trajsvc.figures import of_run as figures
    from trajsvc.results import answers

    kind = choose(form, output, ("json", "csv", "npy", "npz", *FIGURES))
    opened = open_run(store, run)
    if several is not None:
        if by_layer or null or group != "network":
            raise UsageError(
                "bad-option", "--groups takes the place of --group, --layers and --null", hint="Leave these out."
            )
        return _several(opened, several, origin, steps, kind, output, quiet)
    if by_layer and kind not in FIGURES:
        raise UsageError("needs-figure", "--layers makes a figure", hint=f"trajsvc map {run} --layers -o layers.png")
    if null and (by_layer or kind not in FIGURES):
        hint = f"trajsvc map {run} --null -o map.png; `trajsvc measures {run} --names random_walk --format json` has numbers."
        raise UsageError("needs-figure", "--null draws one group's map beside a random walk's", hint=hint)
    if kind in FIGURES and output is not None:
        if by_layer:
            return save_figure(figures.layers_of(opened, origin, steps), output, quiet)
        return save_figure(figures.map_of(opened, group, origin, steps, null=null), output, quiet)
    answer = answers.trajectory_map(opened, group, origin, steps)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        rows = ([step, *row] for step, row in zip(answer.steps, answer.map, strict=True))
        return emit(csv_text([answer.axis, *map(str, answer.steps)], rows), output, quiet)
    if output is not None:
        return _write_arrays(answer, kind, output, quiet)
    return _print_map(opened, answer, steps)


def _several(
    run: Run, several: str, origin: int | None, steps: str | None, kind: str, output: Path | None, quiet: bool
) -> None:
    import numpy as np

    from trajsvc.results.labels import plain

    patterns = [pattern.strip() for pattern in several.split(",") if pattern.strip()]
    if not patterns or not (kind == "json" or (kind == "npz" and output is not None)):
        hint = f"trajsvc map {run.name} --groups 'layer/*' -o maps.npz, or --format json"
        raise UsageError("bad-format", "Maps of several groups are written as npz or json", hint=hint)
    found = run.maps(patterns, origin, steps)
    groups, numbers = found["group"].values.tolist(), found["step"].values
    if kind == "npz" and output is not None:
        arrays = dict(zip(groups, found.values, strict=True))
        return write_file(output, lambda out: np.savez(out, steps=numbers, **arrays), quiet=quiet)
    maps = dict(zip(groups, plain(found.values), strict=True))
    body = {"run": run.name, "origin": origin, "axis": run.axis, "steps": numbers.tolist(), "maps": maps}
    return emit(json_text(body), output, quiet)


def _write_arrays(answer: MapAnswer, kind: str, output: Path, quiet: bool) -> None:
    import numpy as np

    values = np.array(answer.map, dtype=np.float64).reshape(len(answer.steps), len(answer.steps))
    numbers = np.array(answer.steps, dtype=np.int64)
    if kind == "npy":
        return write_file(output, lambda out: np.save(out, values), quiet=quiet)
    return write_file(output, lambda out: np.savez(out, map=values, steps=numbers), quiet=quiet)


def _print_map(run: Run, answer: MapAnswer, steps: str | None) -> None:
    import numpy as np

    from trajsvc.results.labels import numbers_of

    values = np.array(answer.map, dtype=np.float64).reshape(len(answer.steps), len(answer.steps))
    console = results_console()
    relative = "" if answer.origin is None else f", relative to {answer.axis} {answer.origin}"
    console.print(f"[bold]{safe(run.name)}[/bold]  {safe(answer.group)}{relative}")
    if len(values):
        console.print(heat(values, colours=console.color_system is not None and console.is_terminal), end="")
        low, high = limits(values)
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else None
        count = len(values)
        console.print(
            f"{count} × {count}, {numbers_of(answer.axis)} {answer.steps[0]} … {answer.steps[-1]}, colours from {low:g} to {high:g}"
            f"\n{'MDS' if answer.origin is None else 'relative MDS'} {number(mean, 6)}"
        )
    if 0 < len(values) <= NUMBERS_UP_TO:
        table = new_table([answer.axis, *(f">{step}" for step in answer.steps)])
        for step, row in zip(answer.steps, answer.map, strict=True):
            table.add_row(str(step), *(number(v) for v in row))
        console.print(table)
    console.print(f"[dim]trajsvc map {safe(run.name)} -o map.png makes the figure, -o map.npz the numbers[/dim]")


def measures(
    run: RunArgument,
    group: GroupOption = "network",
    names: NamesOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show the measures of a group: scalars, and curves against the step."""
    from trajsvc.figures import of_run as figures
    from trajsvc.measures.registry import names_in
    from trajsvc.results import tables

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    chosen = names_in(names)
    if kind in FIGURES and output is not None:
        return save_figure(figures.curves_of(opened, group, steps, chosen), output, quiet)
    answer = tables.measures(opened, group, chosen, steps)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_text(tables.LONG, tables.long_rows(answer)), output, quiet)
    return _print_measures(answer)


def _print_measures(answer: MeasuresAnswer) -> None:
    from trajsvc.measures.registry import MEASURES
    from trajsvc.results.labels import called

    console = results_console()
    console.print(f"[bold]{safe(answer.run)}[/bold]  {safe(answer.group)}  {answer.parameters:,} parameters")
    scalars = new_table(["=measure", ">value", "unit", "~definition"])
    curves: dict[str, list[tuple[str, list[Any]]]] = {}
    for name, value in answer.measures.items():
        about = MEASURES[name]
        if not about.dims:
            unit = "" if about.units == "1" else called(about.units, answer.axis)
            scalars.add_row(name, number(value, 6), unit, safe(about.definition))  # type: ignore[arg-type]
        elif len(about.dims) == 1 and isinstance(value, list):
            axis = "lag" if about.dims[0] == "lag" else "component" if "component" in about.dims[0] else "step"
            curves.setdefault(axis, []).append((name, value))
        else:
            console.print(f"[dim]{name} is a map: --format json or csv prints it[/dim]")
    if scalars.row_count:
        console.print(scalars)
    for axis, columns in curves.items():
        console.print(_curve_table(axis, columns, answer))
    notes = {k: v for k, v in answer.undefined.items() if v}
    for note in cells_noted(notes, len(answer.steps)):
        console.print(f"[yellow]{note}[/yellow]")
    for name, count in notes.items():
        if name in CELLS:
            continue
        shown = ", ".join(map(str, count)) if isinstance(count, list) else str(count)
        console.print(f"[yellow]{name.replace('_', ' ')}[/yellow]: {shown}")


def _curve_table(axis: str, columns: list[tuple[str, list[Any]]], answer: MeasuresAnswer) -> Any:
    """Make a table with a row a step (or lag, component), the columns aligned by that number."""
    import numpy as np

    from trajsvc.results.labels import axis as numbers
    from trajsvc.results.labels import called

    steps = np.array(answer.steps)
    placed = {name: dict(zip(numbers(axis, len(v), steps).tolist(), v, strict=True)) for name, v in columns}
    table = new_table([f">{called(axis, answer.axis)}", *(f">{name}" for name in placed)])
    for at in sorted({at for values in placed.values() for at in values}):
        table.add_row(str(at), *(number(values[at]) if at in values else "" for values in placed.values()))
    return table


def layers(
    run: RunArgument,
    origin: OriginOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show the table of layers; as a figure, a map for every layer."""
    from storage_schema.models.results import LayerRow
    from trajsvc.cli.summary import layer_table
    from trajsvc.figures import of_run as figures
    from trajsvc.results import tables

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    if kind in FIGURES and output is not None:
        return save_figure(figures.layers_of(opened, origin, steps), output, quiet)
    rows = tables.layers(opened, steps)
    if kind == "json":
        return emit(json_text([row.model_dump() for row in rows]), output, quiet)
    if kind == "csv":
        return emit(csv_rows([r.model_dump() for r in rows], list(LayerRow.model_fields)), output, quiet)
    first, last = tables.around(opened, steps)
    return results_console().print(layer_table([*first, *rows, *last]))


def qkv(
    run: RunArgument,
    origin: OriginOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show how differently Q, K and V move, layer by layer, by two distances between their maps."""
    from storage_schema.models.results import QkvRow
    from trajsvc.cli.summary import qkv_table
    from trajsvc.figures import of_run as figures
    from trajsvc.results import tables

    kind = choose(form, output, ("json", "csv", *FIGURES))
    opened = open_run(store, run)
    answer = tables.qkv(opened, steps, origin)
    if kind in FIGURES and output is not None:
        return save_figure(figures.qkv_of(opened, answer, steps), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_rows([r.model_dump() for r in answer.layers], list(QkvRow.model_fields)), output, quiet)
    return results_console().print(qkv_table(answer.layers))
