"""``trajsvc completion``, and what the shell completes: names of runs, groups, families and measures.

The functions are called at every press of the tab key, so they read no more than they need, and never fail.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

SHELLS = ("bash", "zsh", "fish")
EPILOG = """
Examples:

  source <(trajsvc completion bash)                                   in ~/.bashrc

  trajsvc completion zsh > ~/.zfunc/_trajsvc                           with ~/.zfunc in fpath

  trajsvc completion fish > ~/.config/fish/completions/trajsvc.fish
"""


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command("completion", epilog=EPILOG)(completion)


def completion(
    shell: Annotated[
        str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", autocompletion=lambda: list(SHELLS))
    ],
) -> None:
    """Print what makes a shell complete commands, options, and the names of runs, groups, families and measures."""
    from typer._completion_shared import get_completion_script

    from trajsvc.errors import UsageError

    if shell not in SHELLS:
        raise UsageError(
            "bad-option", f"no completion for {shell[:40]!a}", hint=f"There is one for {', '.join(SHELLS)}."
        )
    typer.echo(get_completion_script(prog_name="trajsvc", complete_var="_TRAJSVC_COMPLETE", shell=shell))


def complete_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the store's runs that begin with ``incomplete``."""
    found = (path.parent.name.removesuffix(".zarr") for path in _store(ctx).glob("runs/[!.]*.zarr/manifest.json"))
    return sorted(name for name in found if name.startswith(incomplete))


def complete_families(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the store's families that begin with ``incomplete``."""
    found = (path.stem for path in _store(ctx).glob("families/[!.]*.json"))
    return sorted(name for name in found if name.startswith(incomplete))


def complete_groups(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the groups of the run on the command line that begin with ``incomplete``."""
    # An option without its value yet leaves the parser with nothing, so the run is found among the words.
    stored = set(complete_runs(ctx, ""))
    named = next((word for word in _words() if word in stored), None)
    if named is None:
        return []
    from trajsvc.anatomy.groups import groups_of
    from trajsvc.errors import TrajsvcError

    try:
        from storage_schema.runs.store import RunStore

        known = groups_of(RunStore(_store(ctx)).open(named).blocks)
    except (TrajsvcError, OSError, ValueError):
        return []
    return [group for group in known if group.startswith(incomplete)]


def complete_measures(incomplete: str) -> list[str]:
    """Return the measures that the last of the names with commas between them may be."""
    from trajsvc.measures.registry import MEASURES

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in MEASURES if name.startswith(last)]


def _store(ctx: typer.Context) -> Path:
    """Return the store without reading settings' files where the command line or the environment names it."""
    words = _words()
    after = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "--store"), None)
    given: Any = ctx.params.get("store") or after or os.environ.get("TRAJSVC_STORE")
    if given:
        return Path(given)
    from trajsvc.results.run import default_store

    return default_store()


def completed_command() -> str | None:
    """Return the command that is being completed; None if that is not what the process is for."""
    if "_TRAJSVC_COMPLETE" not in os.environ:
        return None
    words = _words()
    return words[1] if len(words) > 2 or (len(words) == 2 and _line()[-1:].isspace()) else None


def _words() -> list[str]:
    """Return the words of the command line that is being completed."""
    return _line().split()


def _line() -> str:
    return os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
