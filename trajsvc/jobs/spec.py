"""The specification of a job, as it is stored: every choice that its result depends on, and nothing that depends on the machine.

A job's identity is the SHA-256 of its spec, what its source was when it was submitted (``pins``) among it: the same work asked twice is
one job, and a repository that has moved on is new work.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from pydantic import Field

from trajsvc.analysis.options import RunOptions, Size
from trajsvc.jobs.states import Kind

_LATER: Final = ("replace", "state", "step_pattern")


class JobSpec(RunOptions):
    """One job's work. ``source`` is ``hf://org/name[@revision]`` or ``ROOT:relative/path`` of a data root; ``rules`` is the text of a
    rules file."""

    kind: Kind
    run: str
    source: str
    memory: Size
    device: str = "cpu"
    family: str | None = None
    pins: dict[str, str] = Field(default={})
    """what the source was when the job was submitted: revision → commit, or a digest of a folder's listing"""

    def digest(self) -> str:
        """The job's identity."""
        facts = self.model_dump(mode="json")
        # Choices that came later count where they are made: the digests of earlier jobs stay what they were.
        facts = {k: v for k, v in facts.items() if k not in _LATER or v != JobSpec.model_fields[k].default}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def stored(cls, facts: dict[str, Any]) -> JobSpec:
        """The spec in a row of the database."""
        return cls.model_validate(facts)
