"""``trajsvc plan``: forecast from headers alone what an analysis reads, needs and stores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from trajsvc.cli.interrupts import stop_on_interrupt
from trajsvc.cli.options import FormatOption, NameOption, QuietOption, SourceArgument, StoreOption, takes_options
from trajsvc.cli.output import choose, emit, json_text, results_console, safe
from trajsvc.cli.progress import size
from trajsvc.cli.running import make_options
from trajsvc.errors import EXIT_PARTLY

if TYPE_CHECKING:
    from trajsvc.sources.hub.selection import SeveralRuns

SHOWN = 8


def register(app: typer.Typer) -> None:
    """Add ``plan`` to ``app``."""
    app.command("plan", epilog="Example:  trajsvc plan checkpoints/my-run --memory 256MiB")(plan)


@takes_options()
def plan(
    source: SourceArgument,
    store: StoreOption = None,
    name: NameOption = None,
    *,
    chosen: dict[str, Any],
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Report what would be read, how long it takes, what it needs, and what was recognised. Reads no tensor."""
    from trajsvc.analysis.forecast import describe
    from trajsvc.analysis.selected import plan_of, source_of, trajectory_of
    from trajsvc.errors import Cancelled
    from trajsvc.sources.hub.selection import SeveralRuns

    kind = choose(form, None, ())
    options = make_options(chosen)
    with (
        stop_on_interrupt() as stop,
        contextlib.closing(source_of(source, options, store, stop.is_set)) as opened,
    ):
        try:
            trajectory = trajectory_of(opened, options, whole=True)
            facts = describe(trajectory, plan_of(trajectory, options), options, name)
        except SeveralRuns as several:
            return list_runs(source, several, kind)
        if stop.is_set():
            raise Cancelled
    if kind == "json":
        emit(json_text(facts), None)
    else:
        render(facts)
    if trajectory.excluded:
        raise typer.Exit(EXIT_PARTLY)
    return None


def list_runs(source: str, several: SeveralRuns, kind: str) -> None:
    """Print the runs of a repository that holds several, each with the command that plans it."""
    rows = [
        {"revisions": pattern, "checkpoints": len(names), "first": names[0], "last": names[-1]}
        for pattern, names in several.runs.items()
    ]
    if kind == "json":
        return emit(json_text({"source": source, "runs": rows}), None)
    from trajsvc.cli.terminal import new_table

    console = results_console()
    console.print(f"[bold]{safe(source)}[/bold] holds {len(rows)} runs beside each other")
    table = new_table(["--revisions", ">checkpoints", "~first", "~last"])
    for row in rows:
        table.add_row(
            safe(str(row["revisions"])), str(row["checkpoints"]), safe(str(row["first"])), safe(str(row["last"]))
        )
    console.print(table)
    pattern = rows[0]["revisions"]
    console.print(f"\ntrajsvc plan {safe(source)} --revisions '{safe(str(pattern))}'", highlight=False, soft_wrap=True)
    console.print(
        f'`trajsvc batch` takes all: source = "{safe(source)}" in a family\'s file', highlight=False, soft_wrap=True
    )
    return None


def render(facts: dict[str, Any]) -> None:
    """Print the plan for a person."""
    from trajsvc.results.labels import numbers_of

    console = results_console()

    def line(label: str, text: str) -> None:
        console.print(f"[bold]{label:<13}[/bold]{text}")

    line("source", safe(facts["source"]))
    steps = facts["steps"]
    kinds = ", ".join(f"{n} {k}" for k, n in facts["formats"].items())
    line(
        "checkpoints",
        f"{len(steps)}, {numbers_of(facts['axis'])} {steps[0]} … {steps[-1]} ({kinds}; {', '.join(facts['dtypes'])})",
    )
    line("recognised", f"{facts['architecture']}: {facts['parameters']:,} parameters in {facts['tensors']} tensors, "
         f"{facts['blocks']} blocks, {facts['groups']} groups")  # fmt: skip
    total = max(1, facts["parameters"])
    line("components", " · ".join(f"{safe(k)} {n / total:.0%}" for k, n in list(facts["components"].items())[:10]))
    if facts["left_out"]:
        names = [f"{safe(n)} ({safe(why)})" for n, why in list(facts["left_out"].items())[:SHOWN]]
        more = len(facts["left_out"]) - len(names)
        line("left out", "\n             ".join(names) + (f"\n             and {more} more" if more > 0 else ""))
    line("would read", f"{size(facts['bytes'])}, each byte once, in {facts['slabs']} slabs "
         f"(a preview: {size(facts['preview_bytes'])})")  # fmt: skip
    if "no_copy" in facts:
        _network(facts, line)
    else:
        line("time", f"about {duration(facts['seconds'])} from the page cache, {duration(facts['seconds_from_disk'])} "
             f"from a disk at 1 GB/s, {facts['threads']} threads")  # fmt: skip
        line("disk", f"{size(facts['store_bytes'])}; with --copy {size(facts['store_bytes'] + facts['copy_bytes'])}")
    line("Grams", f"{size(facts['gram_bytes'])}: {facts['blocks']} blocks × {len(steps)}² float64")
    kept = "kept" if facts["keeps_rows"] else "not kept; --rows keeps them"
    line("rows", f"{facts['rows']:,} of matrices (neurons), {size(facts['row_bytes'])}: {kept}")
    meanwhile = f"; the Grams, too large for it, in files of {size(facts['disk_meanwhile'])} meanwhile"
    line("memory", f"{size(facts['memory'])} beside the interpreter{meanwhile if facts['disk_meanwhile'] else ''}")
    for left in facts["excluded"]:
        reason = left["reason"].removeprefix(f"step {left['step']} is left out: ")
        console.print(f"[yellow]left out[/yellow]     step {left['step']}: {safe(reason)}")
    findings = _not_said(facts)
    for finding in findings[: 2 * SHOWN]:
        console.print(f"[yellow]{safe(finding['kind'])}[/yellow]  {safe(finding['message'])}")
    if len(findings) > 2 * SHOWN:
        console.print(f"and {len(findings) - 2 * SHOWN} more findings: --format json lists them")
    console.print(f"\n[dim]trajsvc analyze {safe(facts['source'])}[/dim]")


def _not_said(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the findings that say more than the lines above them: checkpoints and tensors that are left out are named
    there already.
    """
    reasons = {left["reason"] for left in facts["excluded"]}
    listed = len(facts["left_out"]) <= SHOWN
    return [f for f in facts["findings"] if f["message"] not in reasons and not (listed and f["kind"] == "left-out")]


def _network(facts: dict[str, Any], line: Callable[[str, str], None]) -> None:
    """Print what the repository has, what it has twice, and what both ways of reading take."""
    has = facts["revisions"]
    family = f", {safe(has['family'])}" if has["family"] else ""
    missing = has["missing"]
    gone = f"; missing: {', '.join(map(str, missing[:SHOWN]))}{' …' if len(missing) > SHOWN else ''} ({len(missing)})"
    line("revisions", f"{has['found']} checkpoints found{family}{gone if missing else ''}")
    if has["others"]:
        line("", f"beside them: {', '.join(safe(o) for o in has['others'][:SHOWN])}")
    each = facts["files"] / max(1, len(facts["steps"]))
    line("files", f"{facts['files']} of {size(facts['file_bytes'])}, {each:.3g} a checkpoint; "
         f"{facts['duplicate_files']} are copies of others ({size(facts['duplicate_bytes'])}, by their SHA-256)")  # fmt: skip
    line("headers", f"read: {size(facts['headers']['bytes'])} in {facts['headers']['requests']} requests; "
         f"measured: {size(facts['bytes_a_second'])}/s")  # fmt: skip
    stored = facts["store_bytes"]
    for label, mode in (("copy", facts["copy"]), ("--no-copy", facts["no_copy"])):
        keeps = stored + (facts["copy_bytes"] if label == "copy" else 0)
        line(label, f"{size(mode['bytes'])} in {mode['requests']:,} requests, about {duration(mode['seconds'])}; "
             f"keeps {size(keeps)}, needs {size(mode['disk'])} of disk meanwhile")  # fmt: skip
    sample = facts["no_copy"]["preview"]
    line(
        "--preview 1%",
        f"{size(sample['bytes'])} in {sample['requests']:,} requests, about {duration(sample['seconds'])}",
    )


def duration(seconds: float | None) -> str:
    """Format a duration: ``0.4 s``, ``12 s``, ``3 min``, ``2.5 h``."""
    if seconds is None:
        return "an unknown time"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
