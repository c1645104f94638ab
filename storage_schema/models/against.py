"""The shape of machine output about many runs against a hyperparameter: a row a run, lines, and the spread over seeds."""

from __future__ import annotations

from pydantic import Field

from storage_schema.models.results import Answer, Finding, Scalar


class AgainstRow(Answer):
    """One run: where it stands on the axis, which line it is on, and its measures."""

    run: str
    place: Scalar | None
    """value on the axis; null where the run has none"""
    line: str | None
    """what it shares with the other runs of its line; null where it is on none"""
    seed: Scalar | None
    parameters: int
    checkpoints: int
    estimate: bool
    hyperparameters: dict[str, Scalar]
    measures: dict[str, float | None]


class AgainstLine(Answer):
    """Runs that a line of a picture joins: equal in all but the value on the axis and their seed."""

    line: str
    """what its runs share and others do not, such as ``momentum=0.9``; ``all`` where nothing parts the runs"""
    runs: list[str]


class Spread(Answer):
    """One measure over runs that are equal in all but their seed."""

    count: int
    """runs in which the measure is defined"""
    mean: float | None
    low: float | None
    high: float | None
    deviation: float | None
    """standard deviation over the seeds (n − 1); null with fewer than two"""


class SpreadRow(Answer):
    """Runs of one place of one line: equal in all but their seed."""

    line: str
    place: Scalar
    runs: list[str]
    measures: dict[str, Spread]


class AgainstAnswer(Answer):
    """Runs against one of their hyperparameters, their size, their seed, or one of their measures."""

    by: str
    group: str
    measures: list[str]
    varying: list[str]
    """hyperparameters in which the runs differ, without their seeds"""
    parting: list[str]
    """those of them that part the runs into lines"""
    rows: list[AgainstRow]
    """in order of the place; runs without one last"""
    lines: list[AgainstLine]
    spreads: list[SpreadRow]
    """places of a line with two runs or more"""
    left_out: list[str] = Field(default_factory=list)
    """runs that do not have the group"""
    findings: list[Finding] = Field(default_factory=list)
