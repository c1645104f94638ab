"""``trajsvc mcp``: a server of the Model Context Protocol over standard input and output, whose tools ask a trajsvc server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trajsvc.cli.jobs import PANEL, ServerOption, connect
from trajsvc.cli.mcp_beside import beside_tools, beside_work_tools
from trajsvc.cli.mcp_tools import run_tools, work_tools
from trajsvc.errors import UsageError
from trajsvc.version import __version__

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from trajsvc.client import Client

INSTRUCTIONS = """
What checkpoints tell of how a network learned. Sources are hf://org/name[@revision] or ROOT:path of a data root that the
server has. Plan or audit a source first (neither reads a weight), submit it, ask for its job until its state
is succeeded, then ask for the run's summary (its statements say in words what the numbers say, each with what chance would
give), measures, maps and comparisons. Spectra (singular values of matrices), gradients (of a network and data) and cross (two
runs of one network against each other) are computed by jobs of their own: ask for what is there, and submit what is missing.
A value of null is undefined: nothing moved there, or its digits were lost. Groups of parameters are network, layer/3,
layer/3/attention.q, component/mlp.in, embedding.
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
    asking, working = (*run_tools(client), *beside_tools(client)), (*work_tools(client), *beside_work_tools(client))
    for tool in (*asking, *(() if read_only else working)):
        made.add_tool(tool, structured_output=False)
    return made
