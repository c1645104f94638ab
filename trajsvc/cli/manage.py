"""The commands that keep a store in order: ``rm``, ``mv``, ``trash`` and ``du``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.completion import complete_runs
from trajsvc.cli.options import FormatOption, OutputOption, QuietOption, StoreOption
from trajsvc.cli.output import Commands, choose, csv_rows, emit, errors_console, json_text, results_console, safe
from trajsvc.cli.progress import size
from trajsvc.cli.terminal import new_table

if TYPE_CHECKING:
    from storage_schema.runs.garbage import Garbage
    from storage_schema.runs.store import RunStore

NameArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name in the store.", autocompletion=complete_runs)
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command(epilog="Example:  trajsvc rm pythia-70m && trajsvc trash restore pythia-70m")(rm)
    app.command(epilog="Example:  trajsvc mv checkpoints pythia-70m-seed2")(mv)
    app.command(epilog="Example:  trajsvc du --format json | jq '.runs[].bytes'")(du)
    app.command(epilog="Example:  trajsvc gc --yes --older-than 1")(gc)
    trash = typer.Typer(
        cls=Commands, no_args_is_help=True, help="Removed runs: list them, bring them back, or delete them for good."
    )
    trash.command("ls")(trash_ls)
    trash.command("restore", epilog="Example:  trajsvc trash restore pythia-70m --name pythia-70m-old")(trash_restore)
    trash.command("empty")(trash_empty)
    app.add_typer(trash, name="trash")


def rm(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Names of runs in the store.", autocompletion=complete_runs)
    ],
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Remove runs: they go to the store's trash, from which `trajsvc trash restore` brings them back."""
    from storage_schema.runs.trash import discard

    opened = _store(store)
    for name in runs:
        opened.open(name)
    for name in runs:
        gone = discard(opened, name)
        if not quiet:
            errors_console().print(
                f"removed {name} ({size(gone.bytes)}); `trajsvc trash restore {gone.id}` brings it back",
                markup=False,
                highlight=False,
            )


def mv(
    run: NameArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    store: StoreOption = None,
) -> None:
    """Give a run another name. Families name their members: change their files too."""
    from storage_schema.runs.trash import rename

    rename(_store(store), run, name)


def trash_ls(store: StoreOption = None, form: FormatOption = None, output: OutputOption = None) -> None:
    """List the removed runs."""
    from dataclasses import asdict

    from storage_schema.runs.trash import Trashed, trashed

    kind = choose(form, output, ("json", "csv"))
    rows = [asdict(one) for one in trashed(_store(store))]
    if kind == "json":
        return emit(json_text(rows), output)
    if kind == "csv":
        return emit(csv_rows(rows, list(Trashed.__dataclass_fields__)), output)
    if not rows:
        errors_console().print("the trash is empty")
        return None
    table = new_table(["id", "run", "removed", ">size"])
    for row in rows:
        table.add_row(safe(row["id"]), safe(row["run"]), row["removed"][:19].replace("T", " "), size(row["bytes"]))
    results_console().print(table)
    return None


def trash_restore(
    removed: Annotated[str, typer.Argument(metavar="ID", help="An id of `trajsvc trash ls`, or a run's name.")],
    name: Annotated[str | None, typer.Option("--name", help="Another name for it.")] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Bring a removed run back."""
    from storage_schema.runs.trash import restore

    back = restore(_store(store), removed, name)
    if not quiet:
        errors_console().print(f"restored {back}", markup=False, highlight=False)


def trash_empty(
    removed: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these; all of the trash by default.")
    ] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Delete removed runs for good."""
    from storage_schema.runs.trash import empty

    gone = empty(_store(store), removed or ())
    if not quiet:
        total = size(sum(one.bytes for one in gone))
        errors_console().print(f"deleted {len(gone)} runs, {total}", markup=False, highlight=False)


def du(store: StoreOption = None, form: FormatOption = None, output: OutputOption = None) -> None:
    """Say what every run takes on the disk, and what unfinished jobs and the trash do."""
    from storage_schema.files.durable import size_of
    from storage_schema.runs.trash import FOLDER

    kind = choose(form, output, ("json", "csv"))
    opened = _store(store)
    rows: list[dict[str, Any]] = [
        {"run": name, "bytes": size_of(opened.path(name)), "copy": opened.open(name).has_theta}
        for name in opened.names()
    ]
    work, trash = size_of(opened.root / "work"), size_of(opened.root / FOLDER)
    if kind == "json":
        return emit(json_text({"runs": rows, "unfinished": work, "trash": trash}), output)
    if kind == "csv":
        return emit(csv_rows(rows, ["run", "bytes", "copy"]), output)
    table = new_table(["run", ">size", "holds"])
    for row in sorted(rows, key=lambda row: -row["bytes"]):
        table.add_row(safe(row["run"]), size(row["bytes"]), "checkpoints and Grams" if row["copy"] else "Grams")
    for what, count in (("unfinished jobs", work), ("trash", trash)):
        if count:
            table.add_row(f"[dim]{what}[/dim]", size(count), "")
    results_console().print(table)
    return None


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this it is listed only.")] = False,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than", metavar="DAYS", min=0, help="Only leftovers of jobs that have not changed for so long."
        ),
    ] = 7.0,
    trash: Annotated[
        float | None,
        typer.Option(
            "--trash", metavar="DAYS", min=0, help="Removed runs too that have been in the trash for so long."
        ),
    ] = None,
    caches: Annotated[
        bool,
        typer.Option(
            "--caches", help="Compiled kernels too that this version does not use, of the user's cache folder."
        ),
    ] = False,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List what nothing in the store refers to any more, and remove it: leftovers of jobs, and pairs of runs of which one is gone."""
    from dataclasses import asdict

    from storage_schema.runs.garbage import Garbage, collect, garbage

    kind = choose(form, output, ("json", "csv"))
    opened = _store(store)
    found = garbage(opened, older_than, trash)
    kernels = _kernels() if caches else []
    if yes:
        found = collect(opened, found)
        for one in kernels:
            Path(one.name).unlink(missing_ok=True)
    found += kernels
    rows = [{**asdict(one), "removed": yes} for one in found]
    if kind == "json":
        return emit(json_text(rows), output)
    if kind == "csv":
        return emit(csv_rows(rows, [*Garbage.__dataclass_fields__, "removed"]), output)
    if rows:
        table = new_table(["kind", "name", ">size", ">days", "~why"])
        for one in found:
            table.add_row(one.kind, safe(one.name), size(one.bytes), f"{one.days:.1f}", safe(one.why))
        results_console().print(table)
    total = size(sum(one.bytes for one in found))
    said = f"removed {total}" if yes else f"{total} in all; --yes removes it" if rows else "there is nothing to remove"
    errors_console().print(said, markup=False, highlight=False)
    return None


def _kernels() -> list[Garbage]:
    """Return the compiled kernels that this version does not use on this machine."""
    from storage_schema.runs.garbage import Garbage
    from trajsvc.gram.kernels.native import stale

    found = []
    for path in stale():
        status = path.stat()
        days = max(0.0, (time.time() - status.st_mtime) / 86400)
        found.append(Garbage("kernel", str(path), status.st_size, days, "of another version or processor"))
    return found


def _store(root: Path | None) -> RunStore:
    from storage_schema.runs.store import RunStore
    from trajsvc.results.run import default_store

    found = RunStore(root or default_store())
    found.check()
    return found
