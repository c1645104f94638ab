"""What a job is to do, as it is stored: every choice that its result depends on, and nothing that depends on the machine.

A job's identity is the SHA-256 of its spec, what its source was when it was submitted (``pins``) among it: the same work asked twice is
one job, and a repository that has moved on is new work.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from trajsvc.jobs.states import Kind


class JobSpec(BaseModel):
    """One job's work. ``source`` is ``hf://org/name[@revision]`` or ``ROOT:relative/path`` of a data root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    run: str
    source: str
    steps: str | None = None
    revisions: tuple[str, ...] = ()
    commits: str | None = None
    copy_parameters: bool | None = None
    precision: str = "float32"
    dtype: str | None = None
    device: str = "cpu"
    rules: str | None = None
    """names and layouts of tensors, the text of a rules file"""
    heads: int | None = None
    preview: float | None = None
    skip_damaged: bool = False
    recompute: bool = False
    memory: int
    family: str | None = None
    pins: dict[str, str] = {}
    """what the source was when the job was submitted: revision → commit, or a digest of a folder's listing"""

    def digest(self) -> str:
        """The job's identity."""
        facts = self.model_dump(mode="json")
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def stored(cls, facts: dict[str, Any]) -> JobSpec:
        """The spec in a row of the database."""
        return cls.model_validate(facts)
