"""The commands that describe stored runs: ``show``, ``checkpoints`` and ``groups``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.options import FormatOption, OutputOption, QuietOption, RunArgument, StoreOption
from trajsvc.cli.output import choose, csv_rows, emit, json_text, results_console, safe
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from storage_schema.models.results import Summary
    from trajsvc.results.run import Run
from trajsvc.cli.open_run import open_run
from trajsvc.cli.terminal import new_table


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command("show", epilog="Example:  trajsvc show pythia-70m --explain")(show)
    app.command("checkpoints", epilog="Example:  trajsvc checkpoints pythia-70m --format csv")(checkpoints)
    app.command("groups", epilog="Example:  trajsvc groups pythia-70m --match 'layer/*/attention.q'")(groups)


def checkpoints(
    run: RunArgument,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """List a run's checkpoints: step, label, stored type, and what their source said of them."""
    from storage_schema.models.results import CheckpointRow
    from trajsvc.results import answers

    kind = choose(form, output, ("json", "csv"))
    opened = open_run(store, run)
    rows = [row.model_dump(mode="json") for row in answers.checkpoints(opened)]
    if kind == "json":
        return emit(json_text(rows), output, quiet)
    if kind == "csv":
        flat = [{**row, "files": " ".join(row["files"])} for row in rows]
        return emit(csv_rows(flat, list(CheckpointRow.model_fields)), output, quiet)
    told = [
        n
        for n in ("commit", "tokens", "epoch", "stage", "stage_step", "true_step")
        if any(r[n] is not None for r in rows)
    ]
    table = new_table(
        [f">{opened.axis}", "label", "type", "parameters' fingerprint", *(n.replace("_", " ") for n in told)]
    )
    for row in rows:
        extra = ["" if row[n] is None else safe(str(row[n])[:12]) for n in told]
        flag = "" if row["usable"] else " [yellow](left out)[/yellow]"
        table.add_row(str(row["step"]), safe(row["label"]) + flag, row["dtype"], row["fingerprint"], *extra)
    results_console().print(table)
    return None


def groups(
    run: RunArgument,
    match: Annotated[str | None, typer.Option("--match", metavar="GLOB", help="Only ids that match.")] = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """List what can be measured in a run: the ids that --group takes."""
    from trajsvc.results import answers

    kind = choose(form, output, ("json", "csv"))
    rows = [row.model_dump() for row in answers.groups(open_run(store, run), match)]
    if kind == "json":
        return emit(json_text(rows), output, quiet)
    if kind == "csv":
        return emit(csv_rows(rows, ["id", "parameters", "tensors"]), output, quiet)
    table = new_table(["=id", ">parameters", ">tensors"])
    for row in rows:
        table.add_row(safe(row["id"]), f"{row['parameters']:,}", str(row["tensors"]))
    results_console().print(table)
    return None


def show(
    run: RunArgument,
    integrity: Annotated[bool, typer.Option("--integrity", help="Print only the integrity report, in full.")] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print only what the numbers say, in words, with each number and its null."),
    ] = False,
    store: StoreOption = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Address of the server that has the run.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Summarise a run: phases, layers, attention, integrity."""
    from trajsvc.cli import summary as pages

    kind = choose(form, output, ("json",))
    opened = open_run(store, f"{server.rstrip('/')}/{run}" if server else run)
    if kind == "csv":
        raise UsageError("bad-format", "a summary is no table", hint=f"`trajsvc layers {run} --format csv` is one")
    if explain and integrity:
        raise UsageError(
            "format-conflict", "--explain and --integrity print different things", hint="Choose one of them."
        )
    if explain:
        said = opened.explain()
        if kind == "json":
            return emit(json_text([s.model_dump(mode="json") for s in said]), output, quiet)
        return pages.render_statements(opened, said, results_console())
    if kind == "json":
        found = [f.model_dump(mode="json") for f in opened.findings] if integrity else summary(opened)
        return emit(json_text(found), output, quiet)
    if integrity:
        return pages.render_integrity(opened, results_console(), all_findings=True)
    return render_summary(opened, results_console())


def summary_of(run: Run) -> Summary:
    """Summarise a run: what a researcher wants to know first."""
    from trajsvc.results import answers

    return answers.summary(run)


def summary(run: Run) -> dict[str, Any]:
    """Return the summary of a run as JSON."""
    return summary_of(run).model_dump(mode="json")


def render_summary(run: Run, console: Console) -> None:
    """Print the summary of a run on ``console``."""
    from trajsvc.cli import summary as pages

    pages.render(run, summary_of(run), console)
