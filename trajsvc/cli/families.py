"""``trajsvc families``: list those of the store, and those on the Hub whose naming of checkpoints is built in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from trajsvc.cli.options import FormatOption, OutputOption, QuietOption, StoreOption
from trajsvc.cli.output import choose, csv_rows, emit, errors_console, json_text, results_console, safe

if TYPE_CHECKING:
    from storage_schema.models.families import StoredFamilyRow

COLUMNS = ("name", "repositories", "where", "revisions", "expected", "example", "note")


def register(app: typer.Typer) -> None:
    """Add ``families`` to ``app``."""
    families = typer.Typer(
        help="Families of runs: those of the store, and those on the Hub whose checkpoints are recognised automatically.",
        no_args_is_help=True,
    )
    families.callback()(_nothing)
    families.command("ls", epilog="Example:  trajsvc families ls --format json | jq -r '.[].family'")(ls)
    families.command("known", epilog="Example:  trajsvc families known --format json | jq '.[].example'")(known)
    app.add_typer(families, name="families")


def ls(
    store: StoreOption = None, form: FormatOption = None, output: OutputOption = None, quiet: QuietOption = False
) -> None:
    """List the families of a store, as `trajsvc batch` kept them."""
    from storage_schema.models.families import StoredFamilyRow
    from storage_schema.runs.store import RunStore
    from storage_schema.runs.trash import removed_runs
    from trajsvc.cli.terminal import new_table
    from trajsvc.families.file import family_names, open_family
    from trajsvc.results.run import default_store, names

    kind = choose(form, output, ("json", "csv"))
    root = store or default_store()
    RunStore(root).check(missing=True)
    stored, removed, rows = set(names(root)), removed_runs(RunStore(root)), []
    for name in family_names(root):
        family = open_family(root, name)
        missing = [m.name for m in family.runs if m.name not in stored]
        count = len(family.runs)
        rows.append(
            StoredFamilyRow(
                family=name,
                title=family.title,
                members=count,
                present=count - len(missing),
                missing=missing,
                removed={member: removed[member] for member in missing if member in removed},
                tags=family.tags,
            )
        )
    if kind == "json":
        return emit(json_text([row.model_dump() for row in rows]), output, quiet)
    if kind == "csv":
        flat = [
            {
                **row.model_dump(),
                "missing": " ".join(row.missing),
                "removed": " ".join(row.removed),
                "tags": " ".join(row.tags),
            }
            for row in rows
        ]
        return emit(csv_rows(flat, list(StoredFamilyRow.model_fields)), output, quiet)
    if not rows:
        said = f"no families in {root}; `trajsvc batch FAMILY.toml` makes one"
        errors_console().print(said, markup=False, highlight=False)
        return None
    table = new_table(["family", ">members", ">analysed", "tags", "~title"])
    for row in rows:
        table.add_row(safe(row.family), str(row.members), str(row.present), safe(" ".join(row.tags)), safe(row.title))
    results_console().print(table)
    for row in rows if not quiet else ():
        _say_missing(row)
    return None


def _say_missing(row: StoredFamilyRow) -> None:
    """Name the members that are not in the store: those removed with what brings them back, the others as not analysed or renamed."""
    console = errors_console()
    for member, trashed in row.removed.items():
        said = f"{row.family}: {member} was removed; trajsvc trash restore {trashed} brings it back"
        console.print(said, style="yellow", markup=False, highlight=False)
    others = [member for member in row.missing if member not in row.removed]
    if others:
        shown = ", ".join(others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
        said = f"{row.family}: {shown} not in the store: not analysed, or under another name (trajsvc mv)"
        console.print(said, style="yellow", markup=False, highlight=False)


def known(form: FormatOption = None, output: OutputOption = None, quiet: QuietOption = False) -> None:
    """List the families on the Hub whose checkpoints are found without further options."""
    from trajsvc.cli.terminal import new_table
    from trajsvc.sources.hub.known_families import FAMILIES

    kind = choose(form, output, ("json", "csv"))
    rows: list[dict[str, Any]] = [
        {
            "name": f.name, "repositories": f.repositories, "where": f.where, "revisions": f.revisions,
            "expected": len(f.expected) or None, "example": f.example, "note": f.note,
        }
        for f in FAMILIES
    ]  # fmt: skip
    if kind == "json":
        return emit(json_text(rows), output, quiet)
    if kind == "csv":
        return emit(csv_rows(rows, list(COLUMNS)), output, quiet)
    table = new_table(["family", ">checkpoints", "example"])
    for row in rows:
        table.add_row(safe(row["name"]), str(row["expected"] or ""), safe(row["example"]))
    console = results_console()
    console.print(table)
    console.print(
        "\n[dim]Other repositories: branches or tags that name a step, folders on main, or --revisions, --commits.[/dim]"
    )
    return None


def _nothing() -> None:
    """Do nothing; makes ``families`` a group of commands."""
