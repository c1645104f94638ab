"""``trajsvc``: the command line. Results go to stdout, messages and progress to stderr.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 not found or refused, 75 try again, 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated

import typer

from trajsvc.cli import analyze as analyze_commands
from trajsvc.cli import audit, doctor, plan, watch
from trajsvc.cli import batch as batch_commands
from trajsvc.cli import compare as compare_commands
from trajsvc.cli import families as family_commands
from trajsvc.cli import jobs as remote_commands
from trajsvc.cli import results as result_commands
from trajsvc.cli import service as service_commands
from trajsvc.cli import show as show_commands
from trajsvc.cli.interrupts import guarded
from trajsvc.cli.output import Commands
from trajsvc.version import __version__

EPILOG = """
Examples:

  trajsvc analyze checkpoints/pythia-70m      read once, keep the Grams, print a summary

  trajsvc analyze hf://EleutherAI/pythia-70m  the same straight from the Hub

  trajsvc show pythia-70m                     the summary again

  trajsvc map pythia-70m -o map.pdf           a figure for a paper

  trajsvc map pythia-70m --group layer/3/attention.q --origin 0

  trajsvc measures pythia-70m --format json | jq .measures.mds

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 not found or refused, 75 try again, 130 interrupted.
TRAJSVC_DEBUG=1 shows tracebacks; NO_COLOR=1 switches colours off.
"""


def make_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="trajsvc",
        cls=Commands,
        help="What checkpoints say about how a network learned: trajectory maps and measures, layer by layer.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    analyze_commands.register(app)
    plan.register(app)
    audit.register(app)
    watch.register(app)
    doctor.register(app)
    show_commands.register(app)
    result_commands.register(app)
    compare_commands.register(app)
    batch_commands.register(app)
    family_commands.register(app)
    remote_commands.register(app)
    service_commands.register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trajsvc {__version__}")
        raise typer.Exit()


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """What checkpoints say about how a network learned: trajectory maps and measures, layer by layer."""


def run() -> None:
    """Run the command line that ``sys.argv`` names; ends the process."""
    guarded(make_app())
