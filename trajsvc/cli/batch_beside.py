"""Compute spectra and gradients of a family's members once their runs are stored, here or on a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajsvc.cli.batch_outcome import MemberOutcome, ended, failed, job_error
from trajsvc.errors import Cancelled, NotFound, TrajsvcError, UsageError

if TYPE_CHECKING:
    import threading

    from trajsvc.client import Client
    from trajsvc.families.file import Family, Member


@dataclass(frozen=True)
class Computed:
    """At how many checkpoints something is stored that was asked for, and at how many of them it was computed now."""

    checkpoints: int
    new: int
    seconds: float = 0.0
    """of a server's job; 0 for what was computed in this process"""


Parts = Mapping[str, Callable[[], Computed]]
"""``spectra`` and ``gradients``, where they are asked for → what computes them"""


def with_beside(outcome: MemberOutcome, parts: Parts) -> MemberOutcome:
    """Compute ``parts`` and return the member's outcome with what became of them; one that fails keeps no other from being computed.

    Raises Cancelled.
    """
    failures: list[MemberOutcome] = []
    new = 0
    for what, compute in parts.items():
        try:
            done = compute()
        except (Cancelled, KeyboardInterrupt):
            raise
        except Exception as error:
            failure = failed(outcome.member, error, 0.0)
            failures.append(replace(failure, error=f"{what}: {failure.error}"))
            continue
        new += done.new
        counts: dict[str, Any] = {what: done.checkpoints, f"{what}_new": done.new}
        outcome = replace(outcome, seconds=(outcome.seconds or 0.0) + done.seconds, **counts)
    if failures:
        return replace(
            outcome, state="failed", kind=failures[0].kind, error="; ".join(str(f.error) for f in failures),
            hint=" ".join(dict.fromkeys(f.hint for f in failures if f.hint)) or None, again=any(f.again for f in failures),
        )  # fmt: skip
    return replace(outcome, state="done") if new and outcome.state == "unchanged" else outcome


def check_beside(family: Family, member: Member, *, served: bool) -> None:
    """Check what can be known of a member's spectra and gradients before anything is computed.

    Raises UsageError (``bad-steps``, ``bad-option``), NotFound (``data-not-found``).
    """
    from trajsvc.steps import check_spec

    spectra, gradients = family.spectra_of(member), family.gradients_of(member)
    for table in (spectra, gradients):
        if table is not None and table.steps != "all":
            check_spec(table.steps)
    if gradients is None:
        return
    if served and gradients.tokenizer is not None:
        raise UsageError(
            "bad-option",
            f"a server takes no tokenizer for the gradients of {member.name}",
            hint="Leave it out: the probe that the server's operator registered has its own.",
        )
    if not served and not Path(gradients.data).is_file():
        raise NotFound(
            "data-not-found",
            f"there is no file {gradients.data} for the gradients of {member.name}",
            hint="Set `data` in [gradients] to a file of examples, relative to the family's file.",
            file=gradients.data,
        )


def parts_here(
    family: Family, member: Member, store: Path, stop: threading.Event, given: Mapping[str, Any], *, live: bool
) -> Parts:
    """Return what computes a member's spectra and gradients in this process; with ``live`` it writes its progress on stderr.

    ``given`` are options of the command line, of which ``memory`` and ``device`` hold for these, too.
    """
    from trajsvc.analysis.options import Options

    device = given.get("device")
    memory = Options.of(memory=given["memory"]).memory if given.get("memory") is not None else None
    parts: dict[str, Callable[[], Computed]] = {}
    spectra, gradients = family.spectra_of(member), family.gradients_of(member)
    if spectra is not None:

        def compute_spectra() -> Computed:
            from trajsvc.cli.spectrum_tables import LiveSpectra
            from trajsvc.spectra import compute

            done = compute.compute_spectra(
                store, member.name, spectra.options(memory), overwrite=spectra.replace, device=device or spectra.device,
                observer=LiveSpectra() if live else compute.SILENT, stop=stop.is_set,
            )  # fmt: skip
            return Computed(len(done.computed) + len(done.there), len(done.computed))

        parts["spectra"] = compute_spectra
    if gradients is not None:

        def compute_gradients() -> Computed:
            from trajsvc.cli.gradient_progress import LiveGradients
            from trajsvc.gradients import compute

            done = compute.compute_gradients(
                store, member.name, gradients.options(memory), name=gradients.name, overwrite=gradients.replace, by_path=True,
                observer=LiveGradients() if live else compute.SILENT, stop=stop.is_set, device=device or gradients.device,
            )  # fmt: skip
            return Computed(len(done.computed) + len(done.there), len(done.computed))

        parts["gradients"] = compute_gradients
    return parts


class ServedBeside:
    """The jobs of spectra and gradients of a family's members on a server.

    ``begin`` submits those of a member whose run is stored; the same work submitted twice is one job. ``meanwhile`` is called every
    second while a job is waited for.
    """

    def __init__(
        self,
        family: Family,
        client: Client,
        stop: threading.Event,
        given: Mapping[str, Any],
        meanwhile: Callable[[], None],
    ) -> None:
        self.family, self.client, self.stop, self.meanwhile = family, client, stop, meanwhile
        self.given = {name: given[name] for name in ("memory", "device") if given.get(name) is not None}
        self._jobs: dict[str, dict[str, dict[str, Any] | TrajsvcError]] = {}

    def begin(self, member: Member) -> None:
        """Submit the jobs of ``member``, unless they are submitted."""
        if member.name not in self._jobs:
            self._jobs[member.name] = {what: self._submitted(member, what) for what in self._tables(member)}

    def parts(self, member: Member) -> Parts:
        """Return what waits for the jobs of ``member``. Asked again, it submits them again, which finds those that there are."""
        self.begin(member)
        jobs = self._jobs.pop(member.name)
        return {what: partial(self._wait, job) for what, job in jobs.items()}

    def _tables(self, member: Member) -> dict[str, dict[str, Any]]:
        """Return the body of each request: what the tables say, and what the command line says instead."""
        spectra, gradients = self.family.spectra_of(member), self.family.gradients_of(member)
        found: dict[str, dict[str, Any]] = {}
        if spectra is not None:
            more = {"budget" if name == "memory" else name: value for name, value in self.given.items()}
            found["spectra"] = {**spectra.model_dump(mode="json", exclude_unset=True), **more}
        if gradients is not None:
            found["gradients"] = {**gradients.model_dump(mode="json", exclude_unset=True), **self.given}
        return found

    def _submitted(self, member: Member, what: str) -> dict[str, Any] | TrajsvcError:
        submit = self.client.submit_spectra if what == "spectra" else self.client.submit_gradients
        try:
            return submit(member.name, **self._tables(member)[what])
        except TrajsvcError as error:
            return error

    def _wait(self, job: dict[str, Any] | TrajsvcError) -> Computed:
        if isinstance(job, TrajsvcError):
            raise job
        known = job["state"] == "succeeded"
        job = ended(self.client, job, self.stop, self.meanwhile)
        if job["state"] != "succeeded":
            raise job_error(job)
        result = job["result"] or {}
        steps = len(result.get("new_steps", [])) + len(result.get("there", []))
        seconds = 0.0 if known else job["finished"] - (job["started"] or job["finished"])
        return Computed(steps, 0 if known else len(result.get("new_steps", [])), seconds)
