"""The commands that use a server: ``submit``, ``jobs``, ``wait``, ``cancel``, ``retry``."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.options import SERVED, FormatOption, QuietOption, takes_options
from trajsvc.cli.output import choose, close_at_end, emit, errors_console, json_text, results_console, safe
from trajsvc.errors import EXIT_FAILED, EXIT_PARTLY, UsageError

if TYPE_CHECKING:
    from trajsvc.client import Client

PANEL = "Server"
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", envvar="TRAJSVC_SERVER", help="Address of the server: http://127.0.0.1:8000."
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id (see `trajsvc jobs`).")]
COLOURS = {"succeeded": "green", "failed": "red", "running": "cyan", "cancelled": "yellow", "cancelling": "yellow"}


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command(
        "submit",
        rich_help_panel=PANEL,
        epilog="Example:  trajsvc submit hf://EleutherAI/pythia-70m --steps every:4 --wait",
    )(submit)
    app.command("jobs", rich_help_panel=PANEL)(jobs)
    app.command("wait", rich_help_panel=PANEL)(wait)
    app.command("cancel", rich_help_panel=PANEL)(cancel)
    app.command("retry", rich_help_panel=PANEL)(retry)


def connect(server: str | None) -> Client:
    """Connect to the server that was named; the connection is closed when the command ends.

    Raises UsageError (``no-server``).
    """
    from trajsvc.client import Client

    if not server:
        raise UsageError(
            "no-server", "no server is named", hint="Give --server http://127.0.0.1:8000 or set TRAJSVC_SERVER."
        )
    client = Client(server)
    close_at_end(client.close)
    return client


@takes_options(*SERVED, rules="Id of a rules file that the server has.", device="cpu or cuda.")
def submit(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="hf://org/name\\[@revision], or ROOT:path of a data root.")
    ],
    server: ServerOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The run's name; by default the repository's or folder's.")
    ] = None,
    *,
    chosen: dict[str, Any],
    family: Annotated[str | None, typer.Option("--family", help="The family that the run belongs to.")] = None,
    priority: Annotated[
        int, typer.Option("--priority", min=-100, max=100, help="Jobs of higher priority run first.")
    ] = 0,
    then_wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended.")] = False,
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Submit a repository or folder to a server for analysis. The same work submitted twice is one job."""
    from trajsvc.analysis.options import RunOptions

    kind = choose(form, None, ())
    client = connect(server)
    asked = RunOptions.of(chosen).model_dump(mode="json", by_alias=True, include=set(chosen))
    job = client.submit(source, key=secrets.token_hex(16), name=name, family=family, priority=priority or None, **asked)
    if then_wait:
        job = follow(client, job["id"], quiet=quiet or kind == "json")
    say(job, kind, quiet)
    end(job, ended=then_wait)


def jobs(
    server: ServerOption = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only jobs in this state. May be given again.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only jobs of this run.")] = None,
    family: Annotated[str | None, typer.Option("--family", help="Only jobs of this family.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of jobs, the newest.")] = 50,
    form: FormatOption = None,
) -> None:
    """List a server's jobs, the newest first."""
    from itertools import islice

    from trajsvc.cli.terminal import new_table

    kind = choose(form, None, ())
    filters: dict[str, Any] = {k: v for k, v in {"state": state, "run": run, "family": family}.items() if v}
    found = list(islice(connect(server).jobs(**filters, limit=min(limit, 200)), limit))
    if kind == "json":
        return emit(json_text(found), None)
    table = new_table(["=job", "run", "state", "progress", "~source", "~why"])
    for job in found:
        colour = COLOURS.get(job["state"], "white")
        why = job["waiting"] or (job["cause"] or {}).get("message", "")
        table.add_row(
            job["id"],
            safe(job["run"]),
            f"[{colour}]{job['state']}[/{colour}]",
            _share(job["progress"]),
            safe(job["source"]),
            safe(why),
        )
    return results_console().print(table)


def wait(job: JobArgument, server: ServerOption = None, form: FormatOption = None, quiet: QuietOption = False) -> None:
    """Follow a job until it has ended; exit code 1 when it failed."""
    kind = choose(form, None, ())
    ended = follow(connect(server), job, quiet=quiet or kind == "json")
    say(ended, kind, quiet)
    end(ended, ended=True)


def cancel(
    job: JobArgument, server: ServerOption = None, form: FormatOption = None, quiet: QuietOption = False
) -> None:
    """Request that a job stops. What it has done is kept: submitted again, it continues from there."""
    kind = choose(form, None, ())
    say(connect(server).cancel(job), kind, quiet)


def retry(job: JobArgument, server: ServerOption = None, form: FormatOption = None, quiet: QuietOption = False) -> None:
    """Submit the work of a job that failed or was cancelled once more. It continues from what was done."""
    kind = choose(form, None, ())
    say(connect(server).retry(job), kind, quiet)


def follow(client: Client, job: str, *, quiet: bool) -> dict[str, Any]:
    """Wait until the job has ended and return it; on a terminal with a progress bar."""
    from trajsvc.cli.progress import new_bars

    console = errors_console()
    if quiet or not console.is_terminal:
        told = None if quiet else _plain_line
        return client.wait(job, told)
    with new_bars(console) as bars:
        task = bars.add_task("waiting", total=None, note="")

        def show(event: Mapping[str, Any]) -> None:
            data = event["data"]
            if event["event"] == "progress":
                copying = data.get("phase") == "copying"
                counted = "bytes" if data.get("bytes_total") else "slabs"  # gradients count checkpoints
                done, total = (
                    (data.get("copied"), data.get("copy_total"))
                    if copying
                    else (data.get(counted), data.get(f"{counted}_total"))
                )
                bars.update(task, description=data.get("phase", ""), completed=done or 0, total=total, note=_mds(data))
            else:
                bars.update(task, description=data.get("state", "waiting"), note=data.get("reason", ""))

        return client.wait(job, show)


def _plain_line(event: Mapping[str, Any]) -> None:
    if event["event"] != "progress":
        data = event["data"]
        errors_console().print(
            f"{data.get('state', 'waiting')} {safe(data.get('reason', ''))}".rstrip(), highlight=False
        )


def _mds(data: Mapping[str, Any]) -> str:
    value, error = data.get("mds"), data.get("mds_error")
    if value is None:
        return ""
    return f"MDS {value:.4f}" + (f" ± {error:.2g}" if error else "")


def _share(progress: Mapping[str, Any] | None) -> str:
    if not progress:
        return ""
    if not progress.get("bytes_total"):
        total = progress.get("slabs_total")
        return f"{(progress.get('slabs') or 0) / total:.0%}" if total else ""
    return f"{(progress.get('bytes') or 0) / progress['bytes_total']:.0%}"


def say(job: Mapping[str, Any], kind: str, quiet: bool) -> None:
    """Print a job: its line, or its JSON."""
    if kind == "json":
        emit(json_text(job), None)
    elif not quiet:
        results_console().print(f"{job['id']}  {safe(job['run'])}  {job['state']}")


def end(job: Mapping[str, Any], *, ended: bool) -> None:
    """Print why a job failed; end with the exit code of a job that has ``ended``."""
    cause = job.get("cause")
    if job["state"] == "failed" and cause:
        console = errors_console()
        console.print("error:", style="bold red", end=" ")
        console.print(cause["message"], markup=False, highlight=False)
        if cause.get("hint"):
            console.print(cause["hint"], markup=False, highlight=False)
    if ended and job["state"] in ("failed", "cancelled"):
        raise typer.Exit(EXIT_FAILED)
    if ended and (job.get("result") or {}).get("left_out"):
        raise typer.Exit(EXIT_PARTLY)
