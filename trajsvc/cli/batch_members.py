"""Execute the members of a family, here or on a server."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trajsvc.cli.batch_beside import ServedBeside, parts_here, with_beside
from trajsvc.cli.batch_outcome import MemberOutcome, State, ended, failed, job_error
from trajsvc.cli.options import SERVED
from trajsvc.cli.output import errors_console
from trajsvc.cli.running import make_options
from trajsvc.errors import Cancelled, TrajsvcError, UsageError

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


class MemberRunner(Protocol):
    """Where one member is executed: in this process, or elsewhere."""

    def run(self, member: Member) -> MemberOutcome:
        """Execute ``member`` to its end. A failure is an outcome, not an exception; a stop is the state ``stopped``."""
        ...


class EmbeddedRunner:
    """Analyse members in this process, into ``store``, and compute what their family asks for beside.

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
            done = self._done(member, self._analyse(member))
            parts = parts_here(self.family, member, self.store, self.stop, self.given, live=self._live)
            return replace(with_beside(done, parts), seconds=time.monotonic() - began)
        except (Cancelled, KeyboardInterrupt):
            self.stop.set()
            return MemberOutcome(member.name, "stopped", seconds=time.monotonic() - began)
        except Exception as error:  # no failure of one member stops the others
            return failed(member.name, error, time.monotonic() - began)

    @property
    def _live(self) -> bool:
        return not self.quiet and errors_console().is_terminal

    def _analyse(self, member: Member) -> Outcome:
        from trajsvc.analysis import pipeline
        from trajsvc.analysis.job import AnalysisJob
        from trajsvc.analysis.observer import NullObserver
        from trajsvc.analysis.selected import source_of
        from trajsvc.cli.progress import LiveObserver
        from trajsvc.gram.thread_pool import ThreadPool

        options = options_of(self.family, member, self.given)
        observer: Observer = LiveObserver() if self._live else NullObserver()
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

    def _done(self, member: Member, outcome: Outcome) -> MemberOutcome:
        from trajsvc.results.run import open as open_stored

        states: dict[str, State] = {"unchanged": "unchanged", "appended": "appended"}
        return MemberOutcome(
            member.name,
            states.get(outcome.action, "done"),
            checkpoints=len(open_stored(self.store, outcome.name).steps),
            new=len(outcome.new_steps),
            left_out=len(outcome.left_out),
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


class ServerRunner:
    """Submit members to ``client``, and once a member's run is stored the jobs of what its family asks for beside.

    Running the same command again finds the same jobs, so that nothing is computed twice.

    ``stop`` ends the waiting; the jobs continue on the server.
    """

    def __init__(
        self, family: Family, client: Client, stop: threading.Event, given: Mapping[str, Any], members: Sequence[Member]
    ) -> None:
        self.family, self.client, self.stop = family, client, stop
        self.given = {k: v for k, v in given.items() if v is not None}
        self._jobs: dict[str, dict[str, Any] | TrajsvcError] = {}
        self._beside = ServedBeside(family, client, stop, self.given, self._look_ahead)
        self._ahead = deque(members)
        """members whose runs may be stored before it is their turn"""
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
            job = ended(self.client, job, self.stop, self._look_ahead)
            if job["state"] != "succeeded":
                return failed(member.name, job_error(job), _seconds(job))
            return with_beside(self._outcome(member, job, known=known), self._beside.parts(member))
        except Cancelled:
            return MemberOutcome(member.name, "stopped", seconds=time.monotonic() - began)
        except TrajsvcError as error:
            return failed(member.name, error, time.monotonic() - began)

    def _look_ahead(self) -> None:
        """Look whether the run of another member is stored, and submit what is to be computed beside it: the server has work then,
        while this waits for the member whose turn it is."""
        self._ahead.rotate(-1)
        member = self._ahead[0]
        job = self._jobs.get(member.name)
        if isinstance(job, dict):
            with contextlib.suppress(TrajsvcError):  # said when it is its turn
                if self.client.job(job["id"])["state"] == "succeeded":
                    self._beside.begin(member)

    def _outcome(self, member: Member, job: dict[str, Any], *, known: bool) -> MemberOutcome:
        result = job["result"] or {}
        states = {"unchanged": "unchanged", "appended": "appended"}
        return MemberOutcome(
            member.name,
            "unchanged" if known else states.get(result.get("action", ""), "done"),  # type: ignore[arg-type]
            checkpoints=len(self.client.get(f"runs/{member.name}/checkpoints")),
            new=0 if known else len(result.get("new_steps", [])),
            left_out=len(result.get("left_out", [])),
            seconds=_seconds(job),
        )


def _seconds(job: Mapping[str, Any]) -> float:
    """Return how long a job ran; 0 for one that never did."""
    return float((job["finished"] or 0.0) - (job["started"] or job["finished"] or 0.0))
