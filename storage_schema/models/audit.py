"""What is wrong with a published run, as said by ``trajsvc audit`` and over HTTP (pydantic models)."""

from __future__ import annotations

from typing import Literal

from storage_schema.models.results import Answer, Finding

State = Literal["whole", "left out", "unreadable", "empty"]


class AuditRow(Answer):
    """One checkpoint, from its listing and headers."""

    step: int
    label: str
    commit: str | None
    format: str
    dtype: str | None
    """stored type of its parameters; None where its headers cannot be read"""
    files: int
    bytes: int
    state: State
    """``left out``: its tensors are not those that most checkpoints have; ``empty``: it holds no weights"""
    copies: tuple[int, ...] = ()
    """steps whose files have the same digests, all of them"""
    why: str = ""


class AuditAnswer(Answer):
    """A run as it is published: its checkpoints in order and what is wrong with them, before any weight is read."""

    source: str
    family: str | None
    found: int
    missing: tuple[int, ...]
    """steps that the family publishes and this run does not have"""
    others: tuple[str, ...]
    """branches and tags that are no checkpoints of the run"""
    rows: tuple[AuditRow, ...]
    findings: tuple[Finding, ...]
    wrong: int
    """findings that are warnings or errors"""
