"""The learning rate over training among what a trainer logged, and where it drops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from storage_schema.models.results import LearningRate

MOST_POINTS: Final = 4096
FALL: Final = 0.7
"""a drop is a fall to this share of the rate or below"""
STEADY: Final = 0.95
"""between entries that are no drop the rate falls less than to this share: a warm-up or a cosine has no drops"""
RATES: Final = ("learning_rate", "lr", "train/learning_rate", "train/lr", "lr-AdamW", "lr-Adam", "lr-SGD")


def learning_rate(logged: Mapping[str, Mapping[int, float]]) -> LearningRate | None:
    """Return the rate among the quantities that a log has by step; None if there is none or it is always 0."""
    for name in RATES:
        points = sorted((step, rate) for step, rate in logged.get(name, {}).items() if rate >= 0)
        if len(points) >= 2 and any(rate for _, rate in points):
            kept = _thinned(points)
            return LearningRate(step=[s for s, _ in kept], rate=[r for _, r in kept], drops=drops(points))
    return None


def drops(points: Sequence[tuple[int, float]]) -> list[int]:
    """Return the last step of each plateau that ends in a drop.

    A drop is to at most ``FALL`` of the rate, where the rate falls neither before nor after.
    """
    ratios = [after / before if before > 0 else 1.0 for (_, before), (_, after) in pairwise(points)]
    found = []
    for i, ratio in enumerate(ratios):
        around = [ratios[j] for j in (i - 1, i + 1) if 0 <= j < len(ratios)]
        if ratio <= FALL and points[i + 1][1] > 0 and all(r >= STEADY for r in around):
            found.append(points[i][0])
    return found


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Drop points between two of the same rate, and then evenly down to at most ``MOST_POINTS``."""
    ends = {0, len(points) - 1}
    kept = [
        p for i, p in enumerate(points) if i in ends or not points[i - 1][1] == p[1] == points[i + 1][1]
    ]  # fmt: skip
    if len(kept) <= MOST_POINTS:
        return kept
    return [kept[round(i * (len(kept) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]
