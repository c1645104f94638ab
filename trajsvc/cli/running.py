"""What commands that analyse share: options, progress, interruption."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajsvc.cli.output import errors_console

if TYPE_CHECKING:
    from trajsvc.analysis.observer import Observer, Outcome
    from trajsvc.analysis.options import Options
    from trajsvc.results.run import Run
    from trajsvc.sources.base import CheckpointSource


def make_options(*, memory: str | None, preview: str | None, rules: Path | None, **given: Any) -> Options:
    """Options of an analysis from the command line's words, the rest from the settings."""
    from trajsvc.analysis.analyze import load_rules_of
    from trajsvc.analysis.options import Options, check_dtype
    from trajsvc.errors import UsageError
    from trajsvc.settings import Settings, parse_bytes, parse_share

    settings = Settings()
    if given.get("precision", "float32") not in ("float32", "float64"):
        raise UsageError("bad-precision", f"no precision {given['precision']!r}", hint="Use float32 or float64.")
    check_dtype(given.get("dtype"))
    given["threads"] = given.get("threads") or settings.threads
    given["device"] = given.get("device") or settings.device
    return Options(
        memory=parse_bytes(memory) if memory else settings.memory,
        preview=parse_share(preview) if preview else None,
        rules=load_rules_of(rules),
        **given,
    )


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
    from trajsvc.analysis.observer import Silent
    from trajsvc.cli.progress import LiveObserver
    from trajsvc.errors import Cancelled
    from trajsvc.gram.thread_pool import ThreadPool
    from trajsvc.results.run import default_store

    observer: Observer = Silent() if quiet else LiveObserver()
    with contextlib.ExitStack() as open_things, stop_on_interrupt() as stop:
        if isinstance(observer, LiveObserver):
            open_things.callback(observer.close)
        try:
            source = opener(stop.is_set)
            open_things.callback(source.close)
            if source.remote and isinstance(observer, LiveObserver):
                observer.listing(source.uri)
            return pipeline.run_analysis(
                source, store or default_store(), name, options, ThreadPool(options.threads), observer, stop
            )
        except (Cancelled, KeyboardInterrupt):
            if not quiet:
                errors_console().print("stopped; the same command resumes where it was", highlight=False)
            raise KeyboardInterrupt from None


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that ^C and SIGTERM set; a second ^C interrupts at once."""
    stop = threading.Event()

    def ask(signum: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def opened(outcome: Outcome) -> Run:
    from trajsvc.results.run import open as open_stored

    return open_stored(outcome.store, outcome.name)
