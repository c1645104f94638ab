"""The shape of machine output about averages of checkpoints (pydantic models)."""

from __future__ import annotations

from storage_schema.models.results import Answer


class AverageRow(Answer):
    """One average: of equal weights, a moving average, or weights that were given. Undefined values are null."""

    weights: str
    """``last 5``, ``ema 0.9``, ``given``"""
    checkpoints: int
    """how many have a weight"""
    from_step: int
    distance: float | None
    """from the last checkpoint, in units of the parameters"""
    relative_distance: float | None
    """the same as a share of the last checkpoint's distance from the first"""
    variance_removed: float | None
    norm: float | None


class AveragesAnswer(Answer):
    """Averages of a run's checkpoints, from the Gram of one group alone."""

    run: str
    group: str
    parameters: int
    axis: str
    steps: list[int]
    averages: list[AverageRow]
