"""``trajsvc mcp``: a server of the Model Context Protocol over standard input and output, whose tools ask a trajsvc server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from trajsvc.cli.jobs import PANEL, ServerOption, connect
from trajsvc.errors import TrajsvcError, UsageError
from trajsvc.version import __version__

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from trajsvc.client import Client

INSTRUCTIONS = """
What checkpoints tell of how a network learned. Sources are hf://org/name[@revision] or ROOT:path of a data root that the
server has. Plan or audit a source first (neither reads a weight), submit it, ask for its job until its state
is succeeded, then ask for the run's summary (its statements say in words what the numbers say, each with what chance would
give), measures, maps and comparisons. A value of null is undefined: nothing moved there, or its digits were lost. Groups of
parameters are network, layer/3, layer/3/attention.q, component/mlp.in, embedding.
""".strip()


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(
        "mcp", rich_help_panel=PANEL, epilog="Example:  trajsvc mcp --server http://127.0.0.1:8000 --read-only"
    )(mcp)


def mcp(
    server: ServerOption = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Leave out the tools that submit and cancel work.")
    ] = False,
) -> None:
    """Serve the tools of a server to language models (Model Context Protocol, over standard input and output)."""
    tools_of(connect(server), read_only=read_only).run("stdio")


def tools_of(client: Client, *, read_only: bool = False) -> MCPServer:
    """Make the server whose tools ask ``client``. Raises UsageError (``extra-missing``) where the package ``mcp`` is not installed."""
    try:
        from mcp.server import MCPServer
    except ImportError:
        raise UsageError(
            "extra-missing", "the package mcp is not installed", hint="pip install 'trajsvc[mcp]' installs it."
        ) from None
    made = MCPServer(name="trajsvc", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    for tool in (*_asking(client), *(() if read_only else _working(client))):
        made.add_tool(tool, structured_output=False)
    return made


def _asking(client: Client) -> tuple[Callable[..., Any], ...]:
    """Return the tools that change nothing."""

    def plan(source: str, steps: str | None = None, revisions: list[str] | None = None) -> dict[str, Any]:
        """Report what an analysis of a source would read, how long it takes, what it needs and what was recognised. Reads no tensor."""
        with _told():
            return client.plan(source, steps=steps, revisions=revisions)

    def audit(source: str, revisions: list[str] | None = None) -> dict[str, Any]:
        """Report what is wrong with a published run (copies, missing or empty revisions, names, shapes and types that change), from
        listings and headers alone."""
        with _told():
            return client.audit(source, revisions=revisions)

    def runs() -> list[dict[str, Any]]:
        """List the runs that the server has."""
        with _told():
            return list(client.runs())

    def job(job: str) -> dict[str, Any]:
        """Return a job: its state (accepted, running, succeeded, failed, cancelled), progress, and the run it made."""
        with _told():
            return client.job(job)

    def summary(run: str) -> dict[str, Any]:
        """Summarise a run: measures of the network, phases, layers, Q/K/V, integrity, what was logged, and statements in words."""
        with _told():
            return dict(client.get(_of(run, "summary")))

    def groups(run: str, match: str | None = None) -> list[dict[str, Any]]:
        """List the groups of parameters that can be measured in a run; match is a glob such as layer/*/attention.q."""
        with _told():
            return list(client.get(_of(run, "groups"), match=match))

    def measures(
        run: str, group: str = "network", names: str | None = None, steps: str | None = None
    ) -> dict[str, Any]:
        """Return measures of a group by name (between commas; all but maps by default): scalars, and curves against the step.
        steps: 0,1,2 or 1000..5000 or every:4 or last:5."""
        with _told():
            return dict(client.get(_of(run, "measures"), group=group, names=names, steps=steps))

    def map(run: str, group: str = "network", origin: int | None = None, steps: str | None = None) -> dict[str, Any]:
        """Return the trajectory map of a group: cosines between all its checkpoints, or of displacements from the step origin."""
        with _told():
            return dict(client.get(_of(run, "map"), group=group, origin=origin, steps=steps))

    def compare(runs: list[str], group: str = "network", steps: str | None = None) -> dict[str, Any]:
        """Compare two or more runs: directional similarity, path length, tortuosity, correlation of updates, of one group."""
        with _told():
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
        with _told():
            asked = {"by": by, "run": runs or [], "where": where or [], "names": names, "group": group}
            return dict(client.get("against", **asked, ignore=ignore))

    def measure_names() -> list[dict[str, Any]]:
        """List every measure with its definition, axes, unit and source."""
        with _told():
            return list(client.get("measures"))

    return plan, audit, runs, job, summary, groups, measures, map, compare, against, measure_names


def _working(client: Client) -> tuple[Callable[..., Any], ...]:
    """Return the tools that make work, or stop it."""

    def submit(
        source: str,
        name: str | None = None,
        steps: str | None = None,
        revisions: list[str] | None = None,
        preview: str | None = None,
    ) -> dict[str, Any]:
        """Submit a source for analysis; return the job. The same work submitted twice is one job. preview: a share of the
        bytes, such as 1%, for an estimate with standard errors."""
        with _told():
            return client.submit(source, name=name, steps=steps, revisions=revisions, preview=preview)

    def cancel(job: str) -> dict[str, Any]:
        """Ask that a job stops; what it has done is kept, and submitted again it continues from there."""
        with _told():
            return client.cancel(job)

    return submit, cancel


def _of(run: str, part: str) -> str:
    return f"runs/{quote(run, safe='')}/{part}"


@contextmanager
def _told() -> Iterator[None]:
    """Pass errors on in words: what went wrong and what helps."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        yield
    except TrajsvcError as error:
        raise ToolError(f"{error.message}\n{error.hint}".strip()) from None
