"""Sums over coordinates, which no inner product gives: the normalised variance of *Variance*'s published code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajsvc.errors import Cancelled
from trajsvc.gradients.fill import part
from trajsvc.gradients.sets.base import SetJob
from trajsvc.measures.base import Array

if TYPE_CHECKING:
    import torch


def ratio_sums(job: SetJob) -> tuple[dict[str, Array], int]:
    """Σ over coordinates of Σ_s (ē − e_s)² / Σ_s e_s², and how many coordinates have Σ_s e_s² > 0, both (blocks); and S.

    e_s are the gradients of the first S batches, ē is the mean of those of the next S. Nothing of fewer than two batches. Four vectors of
    the network's size are held, in float64.
    """
    count = len(job.batches) // 2
    if not count:
        return {}, 0
    mean = {name: value / count for name, value in _summed(job, range(count, 2 * count)).items()}
    above = {name: value * 0.0 for name, value in mean.items()}
    below = {name: value * 0.0 for name, value in mean.items()}
    for s in range(count):
        for name, value in _gradient(job, s).items():
            above[name] += (mean[name] - value).pow(2)
            below[name] += value.pow(2)
    return _sums(job, above, below), count


def _summed(job: SetJob, batches: range) -> dict[str, torch.Tensor]:
    total: dict[str, torch.Tensor] = {}
    for s in batches:
        for name, value in _gradient(job, s).items():
            total[name] = total[name] + value if name in total else value
    return total


def _gradient(job: SetJob, s: int) -> dict[str, torch.Tensor]:
    if job.stop():
        raise Cancelled
    return job.gradient(job.batches[s])


def _sums(job: SetJob, above: dict[str, torch.Tensor], below: dict[str, torch.Tensor]) -> dict[str, Array]:
    ratios, counts = np.zeros(len(job.blocks)), np.zeros(len(job.blocks))
    for i, block in enumerate(job.blocks):
        top, under = (part(values[block.tensor].reshape(-1), block) for values in (above, below))
        defined = under > 0.0
        ratios[i] = float((top[defined] / under[defined]).sum())
        counts[i] = float(defined.sum())
    return {"coordinate_ratio_sum": ratios, "coordinate_count": counts}
