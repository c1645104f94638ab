"""Rows of a group's matrices (neurons; of an embedding tokens): how an update is spread over them, and which ones it moves.

NaN where rows were not counted (an analysis counts them with ``--rows``), where the group has no matrices, where a selection leaves out a
checkpoint between two others, and where a row holds NaN or infinity.
"""

from __future__ import annotations

import numpy as np

from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.row_statistics import COLUMNS


def row_top_share(gram: GroupGram) -> Array:
    """Share of the update's squared norm in the 5 % of rows that it moves most, (T − 1).

    0.05 where all rows move alike, 1 where only those move. NaN for an update that is zero.
    """
    return _of(gram, "top_share", 1)


def row_participation(gram: GroupGram) -> Array:
    """(Σ_r e_r)² / (R Σ_r e_r²), e_r the squared norm of row r's update, R rows, (T − 1).

    The share of the rows that take part: 1 where all move alike, 1/R where one does. NaN for an update that is zero.
    """
    return _of(gram, "participation", 1)


def row_still(gram: GroupGram) -> Array:
    """Share of the rows that an update leaves exactly as they were, (T − 1)."""
    return _of(gram, "still", 1)


def row_never_moved(gram: GroupGram) -> Array:
    """Share of the rows that no update up to this one has moved, from the first stored checkpoint on, (T − 1)."""
    return _of(gram, "never", 1)


def row_angle(gram: GroupGram) -> Array:
    """Median over the rows of the angle between a row before and after an update, (T − 1), in degrees.

    Rows that are zero before or after have none.
    """
    return _of(gram, "angle", 1)


def row_angle_spread(gram: GroupGram) -> Array:
    """95th less 5th percentile of the angles of ``row_angle``, (T − 1), in degrees."""
    return _of(gram, "spread", 1)


def row_overlap(gram: GroupGram) -> Array:
    """|A_t ∩ A_{t+1}| / |A_t ∪ A_{t+1}|, A_t the 5 % of rows that update t moves most, (T − 2).

    1 where successive updates move the same rows most.
    """
    return _of(gram, "overlap", 2)


def row_overlap_chance(gram: GroupGram) -> Array:
    """pq / (p + q − pq), the ``row_overlap`` of random sets with the shares p and q of the rows, (T − 2)."""
    return _of(gram, "chance", 2)


def _of(gram: GroupGram, column: str, first: int) -> Array:
    found = None if gram.rows is None else gram.rows.columns()
    if found is None:
        return np.full(max(0, len(gram.steps) - first), np.nan)
    return np.asarray(found[first:, COLUMNS.index(column)])
