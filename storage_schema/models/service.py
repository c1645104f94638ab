"""Pydantic models of the service beside results: jobs, their events, problems, health, tokens."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from storage_schema.models.results import Answer, Hyperparameter, RunRow

JobState = Literal["accepted", "running", "cancelling", "succeeded", "failed", "cancelled"]
NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"


class Cause(Answer):
    """Why an attempt failed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    kind: str
    message: str
    hint: str = ""


class JobProgress(Answer):
    """Where a job stands. ``mds`` is the network's from the sums so far, ``mds_error`` its standard error; ``estimate`` is the share of
    the parameters in the estimate that can be read under the run's name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    phase: str | None = None
    step: int | None = None
    """of gradients and spectra, the checkpoint that is computed or was kept last; ``slabs`` counts checkpoints, or matrices, then"""
    slabs: int | None = None
    slabs_total: int | None = None
    bytes: int | None = None
    bytes_total: int | None = None
    rate: float | None = None
    seconds_left: float | None = None
    mds: float | None = None
    mds_error: float | None = None
    estimate: float | None = None


class JobAnswer(Answer):
    """One job. Times are seconds since 1970."""

    id: str
    kind: Literal["ingest", "trajectory", "recompute", "gradients", "spectra", "cross"]
    state: JobState
    run: str
    source: str
    spec: dict[str, Any]
    digest: str
    priority: int
    created: float
    updated: float
    started: float | None
    finished: float | None
    attempts: int
    waiting: str | None
    progress: JobProgress | None
    result: dict[str, Any] | None
    cause: Cause | None
    events: int
    """number of its last event"""


class JobsPage(Answer):
    items: list[JobAnswer]
    next: str | None
    """cursor of the next page"""


class RunsPage(Answer):
    items: list[RunRow]
    next: str | None


class Problem(BaseModel):
    """RFC 9457. ``type`` is stable; ``hint`` says what to do next."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    hint: str = ""
    request_id: str


class MeasureRow(Answer):
    """A measure of the registry."""

    name: str
    dims: list[str]
    units: str
    definition: str
    source: str


class GradientMeasureRow(Answer):
    """A measure of the registry of measures of gradients: one value, or one a ``dims``, at every step."""

    name: str
    sets: list[str]
    """kinds of sets that it is of"""
    dims: list[str]
    parameters: list[str]
    units: str
    definition: str
    source: str


class RegisteredAnswer(Answer):
    """What the server's operator registered for gradients, by name."""

    probes: list[str]
    data: list[str]


class BlockRow(Answer):
    """One block: a tensor, or the Q, K or V part of one."""

    name: str
    tensor: str
    part: str
    layer: str
    component: str
    size: int
    offset: int


class GramAnswer(Answer):
    """The Gram of one group in the update basis [θ_0, U_1, …]: everything that any measure of it is computed from."""

    run: str
    group: str
    parameters: int
    steps: list[int]
    usable: list[bool]
    """False: the checkpoint holds NaN or infinite values, and measures leave it out"""
    gram: list[list[float | None]]
    rounding: list[float | None]
    error: float
    """how far an inner product may be off, relative to the product of the norms"""
    same: list[int]
    """equal numbers for checkpoints of equal parameters"""
    changes: list[list[float | None]] | None = Field(default=None, exclude_if=lambda v: v is None)
    """values whose stored bits differ from the checkpoint before, and those among them that had changed there too"""
    rows: list[list[float | None]] | None = Field(default=None, exclude_if=lambda v: v is None)
    """a line for every checkpoint: of the update before it the share of its squared norm in the 5 % of rows that it moves most, the
    participation of rows, the shares of rows that it and that no update so far has moved, the median and spread of the rows' angles;
    the overlap of the rows it moves most with those of the update before, and its chance"""
    tree_start: list[list[int]] | None = Field(default=None, exclude_if=lambda v: v is None)
    """where digits are lost in the update basis: at which station the legs of other bases begin, 0 the zero vector, s + 1 the point s"""
    tree_gram: list[list[list[float | None]]] | None = Field(default=None, exclude_if=lambda v: v is None)
    """inner products of those legs; the group is the sum of these trees"""
    scale: int = Field(default=0, exclude_if=lambda v: v == 0)
    """lengths are those of the Grams times 2^scale"""
    left_out: list[list[list[float]]] | None = Field(default=None, exclude_if=lambda v: v is None)
    """of an estimate, the Gram with each jackknife replicate left out"""


class RunAnswer(Answer):
    """A run, and where its parts are."""

    run: str
    row: RunRow
    digest: str
    generation: int
    attributes: dict[str, Any]
    hyperparameters: list[Hyperparameter]
    """each with its origin"""
    links: dict[str, str]


class Health(Answer):
    status: Literal["ok", "failing"]
    checks: dict[str, str] = Field(default_factory=dict)


class TokenRow(Answer):
    id: str
    name: str
    scopes: list[str]
    created: float
    revoked: float | None
