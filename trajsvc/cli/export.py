"""``trajsvc export``: everything of a run as tables in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import QuietOption, RunArgument, StepsOption, StoreOption
from trajsvc.cli.output import results_console, safe, wrote

EPILOG = """
Examples:

  trajsvc export pythia-70m -o tables

  trajsvc export pythia-70m -o tables --format parquet --groups 'layer/*' --groups network
"""
GroupsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--groups",
        metavar="GLOB",
        help="Groups of measures and maps: 'layer/*'. May be given again. \\[all but single tensors]",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(epilog=EPILOG)(export)


def export(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder, or an empty one.")],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv, parquet or npz.")] = "csv",
    groups: GroupsOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write everything of a run as tables: measures, maps, layers, Q/K/V, losses, gradients, spectra; a manifest has columns and units."""
    from trajsvc.cli.terminal import new_table
    from trajsvc.export import export_run

    manifest = export_run(open_run(store, run), output, form, groups or None, steps)
    wrote(output, quiet)
    table = new_table(["file", ">rows", ">columns", "~what"])
    for one in manifest["tables"]:
        table.add_row(one["file"], f"{one['rows']:,}", str(len(one["columns"])), safe(one["description"]))
    results_console().print(table)
