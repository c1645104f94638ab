"""``trajsvc audit``: what is wrong with a published run, from listings, digests and headers alone."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from trajsvc.cli.interrupts import stop_on_interrupt
from trajsvc.cli.options import FormatOption, OutputOption, QuietOption, SourceArgument, StoreOption, takes_options
from trajsvc.cli.output import choose, csv_rows, emit, json_text, results_console, safe
from trajsvc.cli.running import make_options
from trajsvc.errors import EXIT_PARTLY

if TYPE_CHECKING:
    from storage_schema.models.audit import AuditAnswer, AuditRow

STYLES = {"error": "red", "warning": "yellow", "info": "blue"}
EPILOG = """Examples:

  trajsvc audit hf://EleutherAI/pythia-2.8b

  trajsvc audit hf://EleutherAI/pythia-12b -o pythia-12b.json     a report to be linked from an issue

Exit codes: 0 nothing is wrong, 3 something is."""


def register(app: typer.Typer) -> None:
    """Add ``audit`` to ``app``."""
    app.command("audit", epilog=EPILOG)(audit)


@takes_options(
    "preview", "copy_parameters", "archive", "memory", "threads", "device", "precision", "dtype", "recompute", "replace"
)
def audit(
    source: SourceArgument,
    store: StoreOption = None,
    *,
    chosen: dict[str, Any],
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Report what is wrong with a published run, without reading its weights: copies, stray shards, missing or empty
    revisions, dead links, names, shapes and types that change.
    """
    from storage_schema.models.audit import AuditRow
    from trajsvc.analysis.audit import audit as examine
    from trajsvc.analysis.selected import source_of
    from trajsvc.errors import Cancelled

    kind = choose(form, output, ("json", "csv"))
    options = make_options(chosen)
    with (
        stop_on_interrupt() as stop,
        contextlib.closing(source_of(source, options, store, stop.is_set)) as opened,
    ):
        try:
            found = examine(opened, options)
        except Cancelled:
            raise KeyboardInterrupt from None
    if kind == "json":
        emit(json_text(found.model_dump(mode="json")), output, quiet)
    elif kind == "csv":
        rows = [{**r.model_dump(), "copies": " ".join(map(str, r.copies))} for r in found.rows]
        emit(csv_rows(rows, list(AuditRow.model_fields)), output, quiet)
    else:
        _render(found)
    if found.wrong:
        raise typer.Exit(EXIT_PARTLY)


def _render(found: AuditAnswer) -> None:
    """Print the checkpoints that have faults, then every finding, the most severe first."""
    from trajsvc.cli.progress import size
    from trajsvc.cli.terminal import new_table

    console = results_console()
    states = Counter(row.state for row in found.rows)
    family = f", {safe(found.family)}" if found.family else ""
    console.print(f"[bold]{safe(found.source)}[/bold]{family}")
    console.print(f"{len(found.rows)} checkpoints: {', '.join(f'{n} {state}' for state, n in states.items())}")
    types = Counter(row.dtype for row in found.rows if row.dtype)
    console.print(
        f"{size(sum(r.bytes for r in found.rows))}, stored as {', '.join(f'{t} ({n})' for t, n in types.items())}"
    )
    odd = [row for row in found.rows if row.state != "whole" or row.copies]
    if odd:
        table = new_table([">step", "label", "state", "~copies of steps", "~why"])
        for row in odd:
            table.add_row(str(row.step), safe(row.label), row.state, _copies(row), safe(row.why))
        console.print()
        console.print(table)
    console.print()
    for finding in sorted(found.findings, key=lambda f: list(STYLES).index(f.severity)):
        style = STYLES[finding.severity]
        console.print(f"[{style}]{finding.severity}[/{style}] {safe(finding.kind)}: {safe(finding.message)}")
    console.print("nothing is wrong" if not found.wrong else f"{found.wrong} things are wrong", highlight=False)


def _copies(row: AuditRow) -> str:
    shown = ", ".join(map(str, row.copies[:6]))
    return f"{shown} … ({len(row.copies)})" if len(row.copies) > 6 else shown
