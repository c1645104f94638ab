"""What is said of the rows (neurons) of a run's matrices."""

from __future__ import annotations

from typing import Final, Literal

from storage_schema.models.results import Answer

RowsOf = Literal["update", "ratio", "angle", "displacement", "weights"]
"""What is said of a row at a checkpoint: ‖its update‖, ‖its update‖ / ‖the row before‖, the angle in degrees between both,
‖its displacement from the first stored checkpoint‖, ‖the row‖."""


ROWS_OF: Final[tuple[RowsOf, ...]] = ("update", "ratio", "angle", "displacement", "weights")


class RowValues(Answer):
    """One row over training, or ``count`` successive ones of a tensor together: root mean square of their values."""

    tensor: str
    """or its part: ``tensor[q]``"""
    row: int
    """index of the first"""
    count: int = 1
    values: list[float | None]
    """at the answer's steps; null where it is not known"""


class RowsAnswer(Answer):
    """Rows of the matrices of a group over training."""

    run: str
    group: str
    of: RowsOf
    axis: str
    steps: list[int]
    """those that updates arrive at; all checkpoints for displacement and weights"""
    total: int
    """rows of the group"""
    rows: list[RowValues]
    """those with the largest sum of squares first, or all in order"""
