"""``trajsvc demo``: from nothing to a run to look at, in a minute and without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajsvc.cli.options import QuietOption, StoreOption
from trajsvc.cli.output import errors_console, results_console
from trajsvc.cli.running import make_options, opened, run_analysis

if TYPE_CHECKING:
    from trajsvc.sources.base import CheckpointSource

EPILOG = "Example:  trajsvc demo"
NEXT = """
next
  trajsvc show demo --explain                  what the numbers say, in words
  trajsvc map demo -o map.png                  its trajectory map as a figure
  trajsvc qkv demo                             Q, K and V, layer by layer
  trajsvc serve                                the same in a browser
  trajsvc analyze FOLDER                       checkpoints of your own"""


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(epilog=EPILOG)(demo)


def demo(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where its checkpoints are written: 2 MB.")
    ] = Path("trajsvc-demo"),
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a small transformer in seconds, analyse its checkpoints, and say what to look at next."""
    from trajsvc.analysis.selected import source_of
    from trajsvc.cli.show import summary_of
    from trajsvc.cli.summary import render
    from trajsvc.experiments import demonstration

    messages = errors_console()

    def saved(step: int, loss: float) -> None:
        if not quiet and step in (0, demonstration.STEPS):
            messages.print(f"training a transformer of two layers: step {step}, loss {loss:.3f}", highlight=False)

    place = demonstration.train(folder, saved)
    options = make_options({})

    def opener(stop: Callable[[], bool]) -> CheckpointSource:
        return source_of(str(place), options, store, stop)

    run = opened(run_analysis(opener, store, "demo", options, quiet=quiet))
    console = results_console()
    render(run, summary_of(run), console)
    at = "" if store is None else f" --store {store}"
    console.print(NEXT.replace(" demo", f" demo{at}").replace(" serve", f" serve{at}"), markup=False, highlight=False)
