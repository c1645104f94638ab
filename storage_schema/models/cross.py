"""The shapes of machine output about runs against runs, the same from the command line and over HTTP (pydantic models)."""

from __future__ import annotations

from pydantic import Field

from storage_schema.models.results import Answer


class CrossStart(Answer):
    """Where the two runs begin: their first checkpoints, compared."""

    digests: list[str]
    """of the parameters of both first checkpoints: equal digests, equal bytes"""
    difference: float | None
    """‖θᵇ_0 − θᵃ_0‖ / ‖θᵃ_0‖ of the whole network"""
    largest: float | None
    """the largest of the same over all blocks"""
    block: str
    """the block that has it"""
    branch: int | None
    """the step of the first run whose checkpoint the second run begins with, if it is one"""


class CrossAnswer(Answer):
    """Two runs of one network against each other. Matrices are (T_a, T_b); undefined values are null."""

    runs: list[str]
    group: str
    parameters: int
    origin: str
    """what displacements are measured from: ``first``, ``shared`` or ``none``"""
    axes: list[str]
    """what the numbers of the checkpoints count, of each run"""
    steps_a: list[int]
    steps_b: list[int]
    map: list[list[float | None]]
    """cosines of displacements"""
    distances: list[list[float | None]]
    norms_a: list[float | None]
    norms_b: list[float | None]
    same_start: bool
    """whether both began at one point, up to the rounding of their stored types"""
    start: CrossStart
    left_out: list[str] = Field(description="tensors that the runs do not have in common, where that was allowed")
    warnings: list[str]


class CrossFamilyAnswer(Answer):
    """Several runs against each other at one step that all have: cosines and distances of their displacements."""

    runs: list[str]
    group: str
    origin: str
    axis: str
    """what the numbers of the checkpoints count"""
    steps: list[int]
    """the step of each run at which it is compared: a common one, or each one's last"""
    map: list[list[float | None]]
    distances: list[list[float | None]]
    norms: list[float | None]
    same_start: list[list[bool]]
    bases: list[list[str]]
    """runs that begin with the same parameters, together"""
    warnings: list[str]


class BasesAnswer(Answer):
    """Runs that begin with the same parameters, by the digests of their first checkpoints."""

    digest: str
    step: int
    runs: list[str]
