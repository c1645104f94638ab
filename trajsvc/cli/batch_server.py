"""Members of a family executed by a server: submitted all at once, then followed one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trajsvc.cli.batch import MemberOutcome, failed
from trajsvc.errors import TrajsvcError, UsageError
from trajsvc.settings import parse_bytes, parse_share

if TYPE_CHECKING:
    from trajsvc.client import Client
    from trajsvc.families.file import Family, Member


class ServerRunner:
    """Submits members to ``client``. The same command again finds the same jobs: nothing that was done is done twice.

    ``stop`` ends the following; the jobs go on on the server.
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
        memory = self.given.get("memory", chosen.memory)
        revisions = [chosen.revisions] if isinstance(chosen.revisions, str) else chosen.revisions
        steps = (
            chosen.steps if chosen.steps is None or isinstance(chosen.steps, str) else ",".join(map(str, chosen.steps))
        )
        return self.client.submit(
            member.source, name=member.name, steps=steps, copy=chosen.keep_copy,
            preview=None if chosen.preview is None else parse_share(str(chosen.preview)), precision=chosen.precision,
            skip_damaged=chosen.skip_damaged or None, revisions=revisions, commits=chosen.commits,
            memory=None if memory is None else parse_bytes(str(memory)), device=self.given.get("device"),
            family=self.family.name,
        )  # fmt: skip

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
