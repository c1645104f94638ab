"""``trajsvc watch``: add the checkpoints of a training that is running, each when it is complete."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.interrupts import stop_on_interrupt
from trajsvc.cli.options import NameOption, QuietOption, SourceArgument, StoreOption, takes_options
from trajsvc.cli.output import errors_console, report
from trajsvc.cli.running import make_options
from trajsvc.errors import EXIT_INTERRUPTED, NotFound, TryAgain

if TYPE_CHECKING:
    from trajsvc.analysis.observer import Outcome
    from trajsvc.analysis.options import Options

EPILOG = """Example:  trajsvc watch checkpoints/my-run --interval 60

A checkpoint is read when its files have been unchanged for --settle seconds. ^C ends the command; nothing is lost."""


def register(app: typer.Typer) -> None:
    """Add ``watch`` to ``app``."""
    app.command("watch", epilog=EPILOG)(watch)


@takes_options("preview", "recompute")
def watch(
    source: SourceArgument,
    store: StoreOption = None,
    name: NameOption = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", help="Seconds between two looks at the folder.")
    ] = 30.0,
    settle: Annotated[
        float,
        typer.Option("--settle", metavar="SECONDS", help="Seconds that a file must be unchanged before it is read."),
    ] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, add the complete checkpoints, and exit.")] = False,
    *,
    chosen: dict[str, Any],
    quiet: QuietOption = False,
) -> None:
    """Analyse a folder repeatedly while training writes to it, reading only complete, new checkpoints."""
    from trajsvc.results.run import default_store

    options = make_options(chosen)
    with stop_on_interrupt() as stop:
        while not stop.is_set():
            outcome = look(source, store or default_store(), name, options, settle, stop)
            if outcome is not None and outcome.new_steps and not quiet:
                _say(outcome)
            if once:
                return
            stop.wait(interval)
    raise typer.Exit(EXIT_INTERRUPTED)


def look(
    source: str, store: Path, name: str | None, options: Options, settle: float, stop: threading.Event
) -> Outcome | None:
    """Make one round and return what was added, or None if there is nothing yet or it must be tried again."""
    from trajsvc.analysis.job import AnalysisJob
    from trajsvc.analysis.pipeline import run_analysis
    from trajsvc.analysis.selected import source_of
    from trajsvc.errors import Cancelled
    from trajsvc.gram.thread_pool import ThreadPool
    from trajsvc.sources.local.settled import SettledSource

    try:
        opened = source_of(source, options, store, stop.is_set)
    except NotFound as error:
        if error.kind != "no-checkpoints":
            raise
        return None
    try:
        # A commit on the Hub is complete; files on a disk may still be written to.
        whole = opened if opened.remote else SettledSource(opened, settle)
        try:
            if not whole.checkpoints():
                return None
        except NotFound as error:
            if error.kind != "no-checkpoints":
                raise
            return None
        return run_analysis(AnalysisJob(whole, store, name, options, ThreadPool(options.threads), stop=stop))
    except TryAgain as error:
        report(error)
        return None
    except Cancelled:
        return None
    finally:
        opened.close()


def _say(outcome: Outcome) -> None:
    from trajsvc.results.run import open as open_stored

    run = open_stored(outcome.store, outcome.name)
    steps = ", ".join(map(str, outcome.new_steps[-5:]))
    errors_console().print(
        f"{time.strftime('%H:%M:%S')}  {outcome.name}: + step {steps}; {len(run.steps)} checkpoints, MDS {run.mds():.4f}",
        highlight=False,
        markup=False,
    )
