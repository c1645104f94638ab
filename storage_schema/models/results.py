"""The shapes of machine output, the same from the command line and over HTTP (pydantic models)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Finding(BaseModel):
    """One line of the integrity report."""

    model_config = ConfigDict(frozen=True, defer_build=True)  # most commands use none of these models

    kind: str
    """``identical``, ``zero-update``, ``non-finite``, ``shape-change``, ``name-change``, ``missing-shard``, ``stale-shard``,
    ``unreadable``, ``step-order``, ``order``, ``jump``, ``outlier``, ``mostly-zero``, ``growing``, ``ignored-file`` …"""
    severity: Literal["info", "warning", "error"] = "warning"
    message: str
    steps: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    details: dict[str, Any] = {}


class Answer(BaseModel):
    """Base of the answers: unknown fields are refused, so that a test against a model notices a field it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


Scalar = bool | int | float | str
"""the value of a hyperparameter"""


class Hyperparameter(Answer):
    """One hyperparameter of a run."""

    name: str
    value: Scalar
    origin: str
    """``by hand``, ``family NAME``, or the trainer's file that it was read from"""


class RunRow(Answer):
    """One line of the list of runs."""

    run: str
    checkpoints: int
    first_step: int | None
    last_step: int | None
    axis: str = "step"
    """what the numbers of the checkpoints count: ``step``, ``epoch``, ``tokens``, or ``index`` where they are only in order"""
    parameters: int
    architecture: str
    source: str
    updated: str
    estimate: bool
    """whether the run holds only an estimate from a part of its bytes"""
    fraction: float | None = None
    """of an estimate, the share of the parameters that it is from"""
    tags: list[str] = []
    """words that the run can be found by, sorted"""
    notes: str = ""
    """what people wrote of it"""
    hyperparameters: dict[str, Scalar] = {}
    """set by hand, by a family, or read from the trainer's files"""
    bytes: int = 0
    """of its files: Grams, a copy of the parameters where one is kept, gradients and spectra"""
    columns: dict[str, Scalar | list[str] | None] | None = Field(default=None, exclude_if=lambda v: v is None)
    """fields that were asked for"""


class CheckpointRow(Answer):
    """One checkpoint of a run, and what its source said of it."""

    step: int
    label: str
    dtype: str
    usable: bool
    """False: it holds NaN or infinite values, and measures leave it out"""
    fingerprint: str
    """of its parameters' bytes: equal fingerprints, equal parameters"""
    commit: str | None = None
    """of its repository"""
    tokens: int | None = None
    epoch: int | None = None
    stage: int | None = None
    ingredient: int | None = None
    stage_step: int | None = None
    """the step within its stage, where the run's own count goes on over stages"""
    true_step: int | None = None
    """the step of the optimizer, where the label counts otherwise"""
    files: tuple[str, ...]


class GroupRow(Answer):
    """A set of blocks with an id."""

    id: str
    parameters: int
    tensors: int


class MapAnswer(Answer):
    """A trajectory map, or with an ``origin`` the relative one; ``steps`` number its rows and columns."""

    run: str
    group: str
    origin: int | None
    axis: str = Field(default="step", exclude_if=lambda v: v == "step")
    """what ``steps`` are where they are no steps: ``epoch``, ``tokens``, ``index``"""
    steps: list[int]
    map: list[list[float | None]]
    error: list[list[float | None]] | None = Field(default=None, exclude_if=lambda v: v is None)
    """of an estimate, the standard error of every entry; absent for an exact run"""


class MapRange(Answer):
    """Between which values the maps of many groups lie; null where no entry is defined."""

    run: str
    maps: int
    """number of groups"""
    least: float | None
    greatest: float | None


class MapsAnswer(Answer):
    """The maps of many groups, each as its upper triangle with the diagonal, row by row; undefined entries are null."""

    run: str
    groups: list[str]
    steps: list[int]
    maps: list[list[float | None]]
    """a triangle a group, rounded to float32"""


Values = float | None | list[float | None] | list[list[float | None]]


class MeasuresAnswer(Answer):
    """Measures of one group; undefined values are null."""

    run: str
    group: str
    parameters: int
    axis: str = Field(default="step", exclude_if=lambda v: v == "step")
    """what ``steps`` are where they are no steps: ``epoch``, ``tokens``, ``index``"""
    steps: list[int]
    measures: dict[str, Values]
    undefined: dict[str, int | list[int]]
    """``points`` and ``updates`` that are zero vectors; ``map_cells`` and ``relative_map_cells`` that have no value, over the others
    of which ``mds`` and ``relative_mds`` are means; ``below_noise_floor``, the steps of the updates that rounding of the stored type
    could explain"""
    errors: dict[str, Values] | None = Field(default=None, exclude_if=lambda v: v is None)
    """of an estimate, the standard error of every value; absent for an exact run"""


class LayerRow(Answer):
    """One layer in the table of layers."""

    layer: str
    group: str
    depth: float | None = None
    """from 0, the first layer, to 1, the last; null for what stands around the layers, such as the norm after the last"""
    parameters: int
    mds: float | None
    relative_mds: float | None
    path_length: float | None
    tortuosity: float | None
    largest_update_angle: float | None
    mean_update_cosine: float | None
    nonrandom_fraction: float | None
    """share of successive updates whose cosine is above what chance gives"""
    settling_step: float | None
    below_noise_floor: int
    """number of updates that rounding of the stored type could explain"""


class QkvRow(Answer):
    """Q, K and V of one layer: how far their maps are from each other, and where each comes to rest."""

    layer: str
    group: str
    mds_q: float | None
    mds_k: float | None
    mds_v: float | None
    distance_qk: float | None
    distance_qv: float | None
    distance_kv: float | None
    heterogeneity: float | None
    """mean of the three distances, which compare the shape of the maps"""
    rms_qk: float | None
    rms_qv: float | None
    rms_kv: float | None
    rms: float | None
    """mean of the three root mean square differences of the maps, in units of cosine"""
    settling_step_q: float | None
    settling_step_k: float | None
    settling_step_v: float | None


class QkvAnswer(Answer):
    run: str
    origin: int | None = None
    """of relative maps, the step that they are relative to"""
    steps: list[int]
    layers: list[QkvRow]


class CompareRow(Answer):
    """One group of one run beside others."""

    run: str
    group: str
    parameters: int
    checkpoints: int
    mds: float | None
    mds_by_length: float | None
    relative_mds: float | None
    random_walk_mds: float | None
    """what ``relative_mds`` is of a random walk with the same update norms"""
    path_length: float | None
    tortuosity: float | None
    mean_update_angle: float | None
    mu: float | None
    alpha: float | None
    settling_step: float | None


class CompareAnswer(Answer):
    runs: list[str]
    findings: list[Finding] = []
    """why the runs are not alike in what they were measured at"""
    rows: list[CompareRow]


class PhaseRow(Answer):
    """One stretch of the trajectory between change points, and the evidence for the point at which it begins."""

    start_step: int
    end_step: int
    evidence: float | None
    details: dict[str, Any] = {}


class LearningRate(Answer):
    """The learning rate over training, as the trainer logged it."""

    step: list[int]
    rate: list[float]
    drops: list[int]
    """the last step of every plateau that ends in a drop"""


class LoggedSeries(Answer):
    """One quantity over training, as the trainer logged it: a loss, a gradient norm, a score."""

    name: str
    step: list[int]
    value: list[float]
    file: str
    """the name of the log"""


class Statement(Answer):
    """One statement in words about a run, with the number it rests on."""

    kind: str
    """the rule that made it: straightness, directions, alignment, change, distance-by-layer, settling-by-layer, qkv, rounding,
    estimate, too-few"""
    text: str
    number: float | None
    null: float | None
    """what chance, or the middle of the others, would give"""
    measure: str | None
    """the measure that has the number"""
    group: str
    first_step: int | None
    last_step: int | None


class Summary(Answer):
    """What a researcher wants to know first about a run."""

    run: str
    source: str
    architecture: str
    tags: list[str] = []
    """words that the run can be found by, sorted"""
    notes: str = ""
    """what people wrote of it"""
    hyperparameters: list[Hyperparameter] = []
    """each with its origin"""
    bytes: int = 0
    """of its files in the store"""
    parameters: int
    checkpoints: int
    axis: str = "step"
    """what the numbers of the checkpoints count"""
    first_step: int | None
    last_step: int | None
    excluded: list[dict[str, Any]]
    estimate: dict[str, Any] | None
    network: dict[str, Values]
    network_errors: dict[str, Values] | None = Field(default=None, exclude_if=lambda v: v is None)
    """of an estimate, their standard errors"""
    phases: list[PhaseRow]
    layers: list[LayerRow]
    others: list[LayerRow]
    """embedding and unembedding, where the model has them"""
    qkv: list[QkvRow]
    learning_rate: LearningRate | None = None
    logged: list[LoggedSeries] | None = Field(default=None, exclude_if=lambda v: v is None)
    statements: list[Statement] = Field(default_factory=list)
    """what the numbers say, in words, by rules that rest on them alone"""
    """where the trainer left a log of it beside the checkpoints"""
    integrity: list[Finding]
