"""Execute the members of a family, here or on a server."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from trajsvc.cli.options import SERVED
from trajsvc.cli.output import errors_console
from trajsvc.cli.running import make_options
from trajsvc.errors import (
    EXIT_TRY_AGAIN,
    Cancelled,
    TrajsvcError,
    UsageError,
)

if TYPE_CHECKING:
    import threading

    from trajsvc.analysis.observer import Observer, Outcome
    from trajsvc.analysis.options import Options
    from trajsvc.families.file import Family, Member


import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trajsvc.client import Client
    from trajsvc.families.file import Family, Member


State = Literal["done", "unchanged", "appended", "failed", "stopped", "not begun"]


@dataclass(frozen=True)
class MemberOutcome:
    """The outcome of one member. ``seconds`` is wall-clock time; ``again`` says that its error may be temporary."""

    member: str
    state: State
    checkpoints: int | None = None
    """in the store, usable"""
    new: int | None = None
    """of them computed now"""
    left_out: int | None = None
    """in the source and not in the run: damaged, or of another shape"""
    seconds: float | None = None
    kind: str | None = None
    error: str | None = None
    hint: str | None = None
    again: bool = False


class MemberRunner(Protocol):
    """Where one member is executed: in this process, or elsewhere."""

    def run(self, member: Member) -> MemberOutcome:
        """Execute ``member`` to its end. A failure is an outcome, not an exception; a stop is the state ``stopped``."""
        ...


class EmbeddedRunner:
    """Analyse members in this process, into ``store``.

    ``given`` holds options that take precedence over the family's.
    """

    def __init__(
        self, family: Family, store: Path, stop: threading.Event, given: Mapping[str, Any], *, quiet: bool = False
    ) -> None:
        self.family = family
        self.store = store
        self.stop = stop
        self.given = {name: value for name, value in given.items() if value is not None}
        self.quiet = quiet

    def run(self, member: Member) -> MemberOutcome:
        began = time.monotonic()
        try:
            outcome = self._analyse(member)
            return self._done(member, outcome, time.monotonic() - began)
        except (Cancelled, KeyboardInterrupt):
            self.stop.set()
            return MemberOutcome(member.name, "stopped", seconds=time.monotonic() - began)
        except Exception as error:  # no failure of one member stops the others
            return failed(member.name, error, time.monotonic() - began)

    def _analyse(self, member: Member) -> Outcome:
        from trajsvc.analysis import pipeline
        from trajsvc.analysis.job import AnalysisJob
        from trajsvc.analysis.observer import NullObserver
        from trajsvc.analysis.selected import source_of
        from trajsvc.cli.progress import LiveObserver
        from trajsvc.gram.thread_pool import ThreadPool

        options = options_of(self.family, member, self.given)
        live = not self.quiet and errors_console().is_terminal
        observer: Observer = LiveObserver() if live else NullObserver()
        with contextlib.ExitStack() as open_things:
            if isinstance(observer, LiveObserver):
                open_things.callback(observer.close)
            source = source_of(member.source, options, self.store, self.stop.is_set)
            open_things.callback(source.close)
            if source.remote and isinstance(observer, LiveObserver):
                observer.listing(source.uri)
            pool = ThreadPool(options.threads)
            return pipeline.run_analysis(
                AnalysisJob(source, self.store, member.name, options, pool, observer, self.stop)
            )

    def _done(self, member: Member, outcome: Outcome, seconds: float) -> MemberOutcome:
        from trajsvc.results.run import open as open_stored

        states: dict[str, State] = {"unchanged": "unchanged", "appended": "appended"}
        return MemberOutcome(
            member.name,
            states.get(outcome.action, "done"),
            checkpoints=len(open_stored(self.store, outcome.name).steps),
            new=len(outcome.new_steps),
            left_out=len(outcome.left_out),
            seconds=seconds,
        )


def options_of(family: Family, member: Member, given: Mapping[str, Any]) -> Options:
    """Return the options of a member's analysis: the command line's, else its own, else the family's, else the
    settings'.

    Raises UsageError (``bad-size``, ``bad-share``, ``bad-precision``).
    """
    return make_options({**family.options(member).model_dump(exclude_unset=True), **given})


def runs_in_repository(member: Member, store: Path | None) -> list[str]:
    """Return patterns of the runs that a member's repository holds.

    Empty if it is one run, is no repository of a family with several runs, or cannot be read now (its analysis then
    says why).
    """
    from trajsvc.sources.hub.address import parse_address
    from trajsvc.sources.hub.known_families import family_of
    from trajsvc.sources.hub.selection import SeveralRuns
    from trajsvc.sources.hub.source import HubSource
    from trajsvc.sources.resolve import is_remote, open_named

    if not is_remote(member.source):
        return []
    address = parse_address(member.source)
    family = None if address.wild else family_of(address.pattern)
    if family is None or "(?P<run>" not in family.revisions or address.revision is not None:
        return []
    source = open_named(member.source, store)
    try:
        if isinstance(source, HubSource):
            _ = source.revisions
    except SeveralRuns as several:
        return list(several.runs)
    except TrajsvcError:
        return []
    finally:
        source.close()
    return []


def failed(name: str, error: Exception, seconds: float) -> MemberOutcome:
    """Return the outcome of a member that ended in ``error``."""
    if os.environ.get("TRAJSVC_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    if not isinstance(error, TrajsvcError):
        said = f"{type(error).__name__}: {error}"
        hint = "This was not foreseen: TRAJSVC_DEBUG=1 shows where it happened."
        return MemberOutcome(name, "failed", seconds=seconds, kind="unexpected", error=said, hint=hint)
    said = str(error).removesuffix(f"\n{error.hint}") if error.hint else str(error)
    again = error.outcome.exit_code == EXIT_TRY_AGAIN
    return MemberOutcome(
        name, "failed", seconds=seconds, kind=error.kind, error=said, hint=error.hint or None, again=again
    )


class ServerRunner:
    """Submit members to ``client``.

    Running the same command again finds the same jobs, so that nothing is computed twice.

    ``stop`` ends the waiting; the jobs continue on the server.
    """

    def __init__(
        self, family: Family, client: Client, stop: threading.Event, given: Mapping[str, Any], members: Sequence[Member]
    ) -> None:
        self.family, self.client, self.stop = family, client, stop
        self.given = {k: v for k, v in given.items() if v is not None}
        self._jobs: dict[str, dict[str, Any] | TrajsvcError] = {}
        client.put(f"families/{family.name}", family.model_dump(mode="json", by_alias=True, exclude_unset=True))
        for member in members:
            if stop.is_set():
                return
            try:
                self._jobs[member.name] = self._submit(member)
            except TrajsvcError as error:
                self._jobs[member.name] = error

    def _submit(self, member: Member) -> dict[str, Any]:
        chosen = self.family.options(member)
        if "://" not in member.source and (":" not in member.source or member.source.startswith("/")):
            raise UsageError(
                "bad-source",
                f"a server does not read {member.source}",
                hint="Name a repository (hf://…), or a path within one of the server's data roots (ROOT:path).",
            )
        from trajsvc.analysis.options import RunOptions

        given = {name: value for name, value in self.given.items() if name not in SERVED}
        asked = RunOptions.of({**chosen.model_dump(exclude_unset=True), **given})
        said = asked.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return self.client.submit(member.source, name=member.name, family=self.family.name, **said)

    def run(self, member: Member) -> MemberOutcome:
        began = time.monotonic()
        job = self._jobs.pop(member.name, None)
        try:
            if job is None:  # tried once more
                job = self._submit(member)
            if isinstance(job, TrajsvcError):
                raise job
            known = job["state"] == "succeeded"
            while job["state"] not in ("succeeded", "failed", "cancelled"):
                if self.stop.wait(1.0):
                    return MemberOutcome(member.name, "stopped", seconds=time.monotonic() - began)
                job = self.client.job(job["id"])
            return self._outcome(member, job, known=known)
        except TrajsvcError as error:
            return failed(member.name, error, time.monotonic() - began)

    def _outcome(self, member: Member, job: dict[str, Any], *, known: bool) -> MemberOutcome:
        seconds = (job["finished"] or 0.0) - (job["started"] or job["finished"] or 0.0)
        if job["state"] == "cancelled":
            return failed(
                member.name, UsageError("cancelled", "the job was cancelled", hint="Submit it again."), seconds
            )
        if job["state"] == "failed":
            cause = job["cause"] or {}
            error = TrajsvcError(cause.get("kind", "failed"), cause.get("message", ""), hint=cause.get("hint", ""))
            return failed(member.name, error, seconds)
        result = job["result"] or {}
        states = {"unchanged": "unchanged", "appended": "appended"}
        return MemberOutcome(
            member.name,
            "unchanged" if known else states.get(result.get("action", ""), "done"),  # type: ignore[arg-type]
            checkpoints=len(self.client.get(f"runs/{member.name}/checkpoints")),
            new=0 if known else len(result.get("new_steps", [])),
            left_out=len(result.get("left_out", [])),
            seconds=seconds,
        )
