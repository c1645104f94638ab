"""What became of a member of a family."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from trajsvc.errors import EXIT_TRY_AGAIN, Cancelled, TrajsvcError, UsageError

if TYPE_CHECKING:
    import threading

    from trajsvc.client import Client

ENDED: Final = ("succeeded", "failed", "cancelled")
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
    spectra: int | None = None
    """checkpoints whose spectra are stored, of those that were asked for; None where none were"""
    spectra_new: int | None = None
    """of them computed now"""
    gradients: int | None = None
    """checkpoints whose gradients are stored, of those that were asked for; None where none were"""
    gradients_new: int | None = None
    """of them computed now"""
    seconds: float | None = None
    kind: str | None = None
    error: str | None = None
    hint: str | None = None
    again: bool = False


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


def ended(
    client: Client, job: dict[str, Any], stop: threading.Event, meanwhile: Callable[[], object]
) -> dict[str, Any]:
    """Wait until a server's job has ended and return it; every second ``meanwhile`` is called. Raises Cancelled after ``stop``."""
    while job["state"] not in ENDED:
        if stop.wait(1.0):
            raise Cancelled
        job = client.job(job["id"])
        meanwhile()
    return job


def job_error(job: Mapping[str, Any]) -> TrajsvcError:
    """Return why a server's job failed or was cancelled, as an error of this process."""
    if job["state"] == "cancelled":
        return UsageError("cancelled", "the job was cancelled", hint="Submit it again.")
    cause = job["cause"] or {}
    return TrajsvcError(cause.get("kind", "failed"), cause.get("message", ""), hint=cause.get("hint", ""))
