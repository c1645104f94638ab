"""Tools of ``trajsvc mcp`` for sources, jobs and runs: functions that ask a server, each with a docstring that says what it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from trajsvc.errors import TrajsvcError

if TYPE_CHECKING:
    from trajsvc.client import Client


def run_tools(client: Client) -> tuple[Callable[..., Any], ...]:
    """Return the tools that answer about sources, jobs and runs."""

    def plan(source: str, steps: str | None = None, revisions: list[str] | None = None) -> dict[str, Any]:
        """Report what an analysis of a source would read, how long it takes, what it needs and what was recognised. Reads no tensor."""
        with told():
            return client.plan(source, steps=steps, revisions=revisions)

    def audit(source: str, revisions: list[str] | None = None) -> dict[str, Any]:
        """Report what is wrong with a published run (copies, missing or empty revisions, names, shapes and types that change), from
        listings and headers alone."""
        with told():
            return client.audit(source, revisions=revisions)

    def runs() -> list[dict[str, Any]]:
        """List the runs that the server has."""
        with told():
            return list(client.runs())

    def job(job: str) -> dict[str, Any]:
        """Return a job: its state (accepted, running, succeeded, failed, cancelled), progress, and the run it made."""
        with told():
            return client.job(job)

    def summary(run: str) -> dict[str, Any]:
        """Summarise a run: measures of the network, phases, layers, Q/K/V, integrity, what was logged, and statements in words."""
        with told():
            return dict(client.get(of_run(run, "summary")))

    def statements(run: str) -> dict[str, Any]:
        """Say what is to be known of a run before its numbers are read: statements in words with the number and what chance would give,
        and findings (damaged or copied checkpoints, what was left out, rounding that hides updates) with their severity and steps."""
        with told():
            found = client.get(of_run(run, "summary"))
            return {
                "run": found["run"], "statements": found["statements"], "findings": found["integrity"],
                "excluded": found["excluded"], "estimate": found["estimate"],
            }  # fmt: skip

    def groups(run: str, match: str | None = None) -> list[dict[str, Any]]:
        """List the groups of parameters that can be measured in a run; match is a glob such as layer/*/attention.q."""
        with told():
            return list(client.get(of_run(run, "groups"), match=match))

    def measures(
        run: str, group: str = "network", names: str | None = None, steps: str | None = None
    ) -> dict[str, Any]:
        """Return measures of a group by name (between commas; all but maps by default): scalars, and curves against the step.
        steps: 0,1,2 or 1000..5000 or every:4 or last:5."""
        with told():
            return dict(client.get(of_run(run, "measures"), group=group, names=names, steps=steps))

    def map(run: str, group: str = "network", origin: int | None = None, steps: str | None = None) -> dict[str, Any]:
        """Return the trajectory map of a group: cosines between all its checkpoints, or of displacements from the step origin."""
        with told():
            return dict(client.get(of_run(run, "map"), group=group, origin=origin, steps=steps))

    def compare(runs: list[str], group: str = "network", steps: str | None = None) -> dict[str, Any]:
        """Compare two or more runs: directional similarity, path length, tortuosity, correlation of updates, of one group."""
        with told():
            return dict(client.get("compare", run=runs, group=group, steps=steps))

    def against(
        by: str | None = None,
        runs: list[str] | None = None,
        where: list[str] | None = None,
        names: str | None = None,
        group: str = "network",
        ignore: str | None = None,
    ) -> dict[str, Any]:
        """Set many runs against a hyperparameter (or size, seed, a measure): rows, lines of runs that are equal in all else, and mean
        and range over seeds. where: conditions such as lr>0.01; names: measures that are one number."""
        with told():
            asked = {"by": by, "run": runs or [], "where": where or [], "names": names, "group": group}
            return dict(client.get("against", **asked, ignore=ignore))

    def losses(run: str, names: str | None = None, beside: str | None = None, group: str = "network") -> dict[str, Any]:
        """Return what the trainer logged (loss, gradient norm, scores) at the checkpoints, and how it goes with a measure of a group:
        beside is a measure over training, such as update_norm, to correlate it with at lags."""
        with told():
            return dict(client.get(of_run(run, "losses"), names=names, beside=beside, group=group))

    def averages(run: str, group: str = "network", steps: str | None = None) -> dict[str, Any]:
        """Describe what averages of the last checkpoints, and moving averages, would be: distance from the last, variance removed, norm."""
        with told():
            return dict(client.get(of_run(run, "averages"), group=group, steps=steps))

    def measure_names(of: Literal["trajectory", "spectra", "gradients"] = "trajectory") -> list[dict[str, Any]]:
        """List every measure of trajectories, of spectra or of gradients, with its definition, axes, unit and source."""
        with told():
            return list(client.get("measures" if of == "trajectory" else f"measures/{of}"))

    return (
        plan, audit, runs, job, summary, statements, groups, measures, map, compare, against, losses, averages, measure_names,
    )  # fmt: skip


def work_tools(client: Client) -> tuple[Callable[..., Any], ...]:
    """Return the tools that submit a source, and that stop a job."""

    def submit(
        source: str,
        name: str | None = None,
        steps: str | None = None,
        revisions: list[str] | None = None,
        preview: str | None = None,
    ) -> dict[str, Any]:
        """Submit a source for analysis; return the job. The same work submitted twice is one job. preview: a share of the
        bytes, such as 1%, for an estimate with standard errors."""
        with told():
            return client.submit(source, name=name, steps=steps, revisions=revisions, preview=preview)

    def cancel(job: str) -> dict[str, Any]:
        """Ask that a job stops; what it has done is kept, and submitted again it continues from there."""
        with told():
            return client.cancel(job)

    return submit, cancel


def of_run(run: str, part: str) -> str:
    """Return the address of a part of a run."""
    return f"runs/{quote(run, safe='')}/{part}"


@contextmanager
def told() -> Iterator[None]:
    """Pass errors on in words: what went wrong and what helps."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        yield
    except TrajsvcError as error:
        raise ToolError(f"{error.message}\n{error.hint}".strip()) from None
