"""Record why an attempt at a job failed: a stable kind, the facts, and what to do."""

from __future__ import annotations

from typing import Any

from trajsvc.errors import TrajsvcError


def cause_of(error: BaseException) -> dict[str, Any]:
    """Return the stored description of why an attempt failed."""
    if isinstance(error, TrajsvcError):
        facts = {"type": error.problem_type, "kind": error.kind, "message": error.message, "hint": error.hint}
        places = {"file": error.file, "tensor": error.tensor, "step": error.step}
        return {**facts, **{k: v for k, v in places.items() if v is not None}}
    if isinstance(error, MemoryError):
        return cause("out-of-memory", "the job needed more memory than the machine has", "Submit it with less memory.")
    return cause(
        "internal", f"an error that was not foreseen: {type(error).__name__}", "The runner's log has it whole."
    )


def cause(kind: str, message: str, hint: str) -> dict[str, Any]:
    """Return the description of a failure that is not a TrajsvcError."""
    return {"type": f"urn:trajsvc:problem:{kind}", "kind": kind, "message": message, "hint": hint}
