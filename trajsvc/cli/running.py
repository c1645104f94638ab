"""What commands that analyse share: options, progress, interruption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajsvc.cli.interrupts import stop_on_interrupt
from trajsvc.cli.output import errors_console

if TYPE_CHECKING:
    from trajsvc.analysis.observer import Observer, Outcome
    from trajsvc.analysis.options import Options
    from trajsvc.results.run import Run
    from trajsvc.sources.base import CheckpointSource


def make_options(given: Mapping[str, Any]) -> Options:
    """Make the options of an analysis from the command line, the rest from the settings; ``rules`` is a file.

    Raises UsageError.
    """
    from trajsvc.analysis.options import Options, rules_text

    read = {"rules": rules_text(given["rules"])} if given.get("rules") else {}
    return Options.of({**given, **read})


def run_analysis(
    opener: Callable[[Callable[[], bool]], CheckpointSource],
    store: Path | None,
    name: str | None,
    options: Options,
    *,
    quiet: bool,
) -> Outcome:
    """Analyse the source that ``opener`` gives, with progress on stderr; ^C stops at the next chunk and leaves what resumes."""
    from trajsvc.analysis import pipeline
    from trajsvc.analysis.job import AnalysisJob
    from trajsvc.analysis.observer import NullObserver
    from trajsvc.cli.progress import LiveObserver
    from trajsvc.errors import Cancelled
    from trajsvc.gram.thread_pool import ThreadPool
    from trajsvc.results.run import default_store

    observer: Observer = NullObserver() if quiet else LiveObserver()
    with contextlib.ExitStack() as open_things, stop_on_interrupt() as stop:
        if isinstance(observer, LiveObserver):
            open_things.callback(observer.close)
        try:
            source = opener(stop.is_set)
            open_things.callback(source.close)
            if source.remote and isinstance(observer, LiveObserver):
                observer.listing(source.uri)
            pool = ThreadPool(options.threads)
            job = AnalysisJob(source, store or default_store(), name, options, pool, observer, stop)
            outcome = pipeline.run_analysis(job)
            if stop.is_set():  # asked for when there was nothing left to stop: what comes after is not done either
                raise Cancelled
            return outcome
        except (Cancelled, KeyboardInterrupt):
            if not quiet:
                errors_console().print("stopped; the same command resumes where it was", highlight=False)
            raise KeyboardInterrupt from None


def opened(outcome: Outcome) -> Run:
    from trajsvc.results.run import open as open_stored

    return open_stored(outcome.store, outcome.name)
