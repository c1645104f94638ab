"""What a trainer logged beside its checkpoints, and how it goes with a measure."""

from __future__ import annotations

from pydantic import Field

from storage_schema.models.results import Answer, Hyperparameter, LearningRate, LoggedSeries


class TrainingLog(Answer):
    """The quantities that were logged over training, and the learning rate with its drops; empty where there is no log."""

    series: list[LoggedSeries] = Field(default_factory=list)
    learning_rate: LearningRate | None = None
    hyperparameters: list[Hyperparameter] = Field(default_factory=list)
    """of the trainer's own files, the origin being the file"""


class LoggedAt(Answer):
    """A logged quantity at the checkpoints of a run."""

    values: list[float | None]
    """null outside the steps of the log"""
    logged: list[bool]
    """whether it was logged at that very step; else it is interpolated between its neighbours"""
    file: str


class LaggedRow(Answer):
    """The correlation of a measure at t with a quantity at t + lag, lags in checkpoints."""

    lag: int
    value: float | None
    pairs: int


class LossesAnswer(Answer):
    """Logged quantities at the checkpoints, beside a measure of a group where one was asked for."""

    run: str
    group: str
    axis: str
    steps: list[int]
    quantities: dict[str, LoggedAt]
    beside: str | None = None
    measure: list[float | None] | None = None
    """at the same steps; null where it has no value at a checkpoint"""
    correlations: dict[str, list[LaggedRow]] | None = None
