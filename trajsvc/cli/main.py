"""``trajsvc``: the command line. Results go to stdout, messages and progress to stderr.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 not found or refused, 75 try again, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

import typer

from trajsvc.cli.completion import completed_command
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


FIRST: Final = f"""trajsvc {__version__}: what checkpoints say about how a network learned

  trajsvc demo                     train something small and analyse it
  trajsvc analyze FOLDER           read a training's checkpoints once
  trajsvc analyze hf://ORG/NAME    the same from the Hugging Face Hub
  trajsvc ls                       the runs that were analysed
  trajsvc show RUN                 one of them; --explain says it in words
  trajsvc map RUN -o map.png       its trajectory map as a figure
  trajsvc serve                    all of it in a browser

trajsvc -h lists all commands, trajsvc COMMAND -h the options of one."""
"""what ``trajsvc`` alone prints"""

COMMANDS: Final = {
    "demo": "demo",
    "analyze": "analyze",
    "plan": "plan",
    "audit": "audit",
    "watch": "watch",
    "doctor": "doctor",
    "completion": "completion",
    "ls": "ls",
    "rm": "manage",
    "mv": "manage",
    "trash": "manage",
    "du": "manage",
    "gc": "manage",
    "tag": "describe",
    "note": "describe",
    "set": "describe",
    "show": "show",
    "checkpoints": "show",
    "groups": "show",
    "map": "results",
    "measures": "results",
    "losses": "losses",
    "rows": "rows",
    "layers": "results",
    "qkv": "results",
    "gradients": "gradients",
    "spectra": "spectra",
    "compare": "compare",
    "cross": "cross",
    "report": "report",
    "export": "export",
    "push": "push",
    "average": "average",
    "batch": "batch",
    "families": "families",
    "experiment": "experiments",
    "submit": "jobs",
    "jobs": "jobs",
    "wait": "jobs",
    "cancel": "jobs",
    "retry": "jobs",
    "mcp": "mcp",
    "serve": "service",
    "api": "service",
    "runner": "service",
    "worker": "service",
    "tokens": "service",
}
"""Every command and the module that registers it, in the order of the help: only that module is imported for a command."""


def make_app(command: str | None = None) -> typer.Typer:
    """Make the command line; if ``command`` is one of its commands, only the parts that it needs."""
    app = typer.Typer(
        name="trajsvc",
        cls=Commands,
        help="What checkpoints say about how a network learned: trajectory maps and measures, layer by layer.",
        epilog=EPILOG,
        invoke_without_command=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for module in [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values()):
        import_module(f"trajsvc.cli.{module}").register(app)
    return app


def named(arguments: Sequence[str]) -> str | None:
    """Return the command that a command line begins with; None if it begins with an option, or is empty."""
    return arguments[1] if len(arguments) > 1 else None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trajsvc {__version__}")
        raise typer.Exit()


def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Handle the options of ``trajsvc`` itself; without a command, say how to begin."""
    if context.invoked_subcommand is None:
        typer.echo(FIRST)


def run() -> None:
    """Run the command line that ``sys.argv`` names; ends the process."""
    guarded(make_app(named(sys.argv) or completed_command()))
