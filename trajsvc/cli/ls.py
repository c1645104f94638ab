"""``trajsvc ls``: the runs of a store, filtered, sorted, and with the columns that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajsvc.cli.options import FormatOption, OutputOption, QuietOption, StoreOption
from trajsvc.cli.output import choose, csv_rows, csv_text, emit, errors_console, json_text, results_console, safe
from trajsvc.cli.progress import size
from trajsvc.cli.terminal import _span, estimate_mark, new_table, number

if TYPE_CHECKING:
    from storage_schema.models.results import RunRow
    from trajsvc.results.listing import Listed

EPILOG = """
Examples:

  trajsvc ls --where 'lr>0.01' --where optimizer=adamw

  trajsvc ls --columns name,steps,lr,mds --sort=-mds --tag sweep:lr

  trajsvc ls --format json | jq -r '.[].run'
"""
WIDE = 100
"""columns of a terminal from which the architecture is shown too"""


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command("ls", epilog=EPILOG)(ls)


def ls(
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Only runs for which it holds: a fact (name, steps, parameters, tag …), measure or hyperparameter, one of "
            "= != < <= > >= ~ (contains), and a value. Given again: all of them.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Only runs with this tag; given again: with all of them."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="FIELD", help="Sort by a field; -FIELD: the largest first.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Show these fields, separated by commas.")
    ] = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """List the runs of a store."""
    from storage_schema.runs.store import RunStore
    from trajsvc.results import listing
    from trajsvc.results.run import default_store, names
    from trajsvc.results.run import open as open_stored

    kind = choose(form, output, ("json", "csv"))
    root = store or default_store()
    RunStore(root).check()
    every = listing.listed(open_stored(root, name) for name in names(root))
    chosen = listing.columns_in(columns)
    listing.check_fields(every, chosen or ())
    found = listing.select(every, where or (), sort, tag or ())
    if kind in ("json", "csv"):
        return emit(_for_programs(kind, found, chosen), output, quiet)
    if not found:
        return _say_none(root, [*(where or ()), *(f"tag={word}" for word in tag or ())])
    return _print_columns(found, chosen) if chosen else _print_rows([one.row for one in found])


def _for_programs(kind: str, found: Sequence[Listed], chosen: Sequence[str] | None) -> str:
    from storage_schema.models.results import RunRow
    from trajsvc.results.listing import cells

    rows = [one.row.model_dump() if chosen is None else dict(cells(one, chosen)) for one in found]
    if kind == "json":
        return json_text(rows)
    if chosen is None:
        return csv_rows(
            [{k: _field(v) for k, v in row.items()} for row in rows],
            [name for name in RunRow.model_fields if name != "columns"],
        )
    return csv_text(chosen, ([_field(row[name]) for name in chosen] for row in rows))


def _field(value: object) -> object:
    """Write a field of several words or values in one."""
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return " ".join(value) if isinstance(value, list) else value


def _say_none(root: Path, asked: Sequence[str]) -> None:
    said = f" for which {' and '.join(asked)}" if asked else "; `trajsvc analyze SOURCE` makes one"
    errors_console().print(f"no runs in {root}{said}", markup=False, highlight=False)


def _print_columns(found: Sequence[Listed], chosen: Sequence[str]) -> None:
    from trajsvc.results.listing import cells

    rows = [cells(one, chosen) for one in found]
    numeric = {n for n in chosen if all(_is_number(row[n]) or row[n] is None for row in rows)}
    table = new_table([f">{name}" if name in numeric else name for name in chosen])
    for row in rows:
        table.add_row(*(_shown(name, row[name]) for name in chosen))
    results_console().print(table)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(name: str, value: object) -> str:
    from trajsvc.results.listing import MEASURED

    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return safe(", ".join(value))
    if name in ("bytes", "size") and isinstance(value, int):
        return size(value)
    if isinstance(value, int):
        return f"{value:,}" if name in ("parameters", "checkpoints", "steps") else str(value)
    if isinstance(value, float):
        return number(value) if name in MEASURED else str(value)
    return safe(str(value).partition("\n")[0])


def _print_rows(rows: Sequence[RunRow]) -> None:
    console, tagged = results_console(), any(row.tags for row in rows)
    wide = console.width >= WIDE
    names = ["run", ">checkpoints", ">steps", ">parameters", ">size", "updated"]
    table = new_table([*names, *(["architecture"] if wide else []), *(["tags"] if tagged else [])])
    for row in rows:
        table.add_row(
            safe(row.run) + (estimate_mark(row.fraction) if row.estimate else ""),
            str(row.checkpoints),
            _span(row.first_step, row.last_step),
            f"{row.parameters:,}",
            size(row.bytes),
            safe(row.updated[:10]),
            *([safe(row.architecture)] if wide else []),
            *([", ".join(row.tags)] if tagged else []),
        )
    console.print(table)
    if not wide and any(row.architecture for row in rows):
        console.print(f"[dim]architecture: from {WIDE} columns on, or --columns name,architecture[/dim]")
