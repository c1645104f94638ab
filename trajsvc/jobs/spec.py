"""The specification of a job, as it is stored: every choice that its result depends on, and nothing that depends on the machine.

A job's identity is the SHA-256 of its spec, what its source was when it was submitted (``pins``) among it: the same work asked twice is
one job, and a repository that has moved on is new work.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from storage_schema.models.service import NAME
from trajsvc.analysis.options import RunOptions, Size
from trajsvc.gradients.options import GradientChoices
from trajsvc.jobs.states import Kind
from trajsvc.spectra.options import SpectrumChoices

_LATER: Final = ("replace", "state", "step_pattern", "rows")


class GradientWork(GradientChoices):
    """Which gradients a job computes. ``probe`` and ``data`` are registered names; what they stand for is in the settings."""

    name: str | None = Field(
        default=None, pattern=NAME, description="name of the set; else its kind. Of several sets NAME-kind"
    )
    replace: bool = Field(default=False, description="put the set in the place of one of other options")


class SpectrumWork(SpectrumChoices):
    """Which spectra a job computes; the job's memory is their budget."""

    replace: bool = Field(default=False, description="compute anew what is there")


class CrossWork(BaseModel):
    """Two stored runs against each other: the job's run and ``other``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    other: str = Field(pattern=NAME)
    rename: tuple[str, ...] = ()
    common: bool = False


class JobSpec(RunOptions):
    """One job's work. ``source`` is ``hf://org/name[@revision]`` or ``ROOT:relative/path`` of a data root; ``rules`` is the text of a
    rules file. With ``gradients`` or ``spectra`` the other options say how the checkpoints of the stored run are read from ``source``."""

    kind: Kind
    run: str
    source: str
    memory: Size
    device: str = "cpu"
    family: str | None = None
    gradients: GradientWork | None = Field(default=None, exclude_if=lambda v: v is None)
    spectra: SpectrumWork | None = Field(default=None, exclude_if=lambda v: v is None)
    cross: CrossWork | None = Field(default=None, exclude_if=lambda v: v is None)
    pins: dict[str, str] = Field(default={})
    """what the source was when the job was submitted: revision → commit, or a digest of a folder's listing"""
    uses: dict[str, str] = Field(default={}, exclude_if=lambda v: not v)
    """what else the result depends on: digests of the stored run, the probe, the data"""

    def digest(self) -> str:
        """Return the SHA-256 that identifies the job."""
        facts = self.model_dump(mode="json")
        # Fields added later count only if they are set, so that the digests of earlier jobs stay what they were.
        facts = {k: v for k, v in facts.items() if k not in _LATER or v != JobSpec.model_fields[k].default}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def stored(cls, facts: dict[str, Any]) -> JobSpec:
        """Parse the spec in a row of the database."""
        return cls.model_validate(facts)
