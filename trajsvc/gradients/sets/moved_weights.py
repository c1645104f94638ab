"""The set ``weights``: how the gradient of one batch answers to small moves of the parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from trajsvc.gradients.perturbations import FINER, Vector, difference, drawn, like_weights, norm, scaled, sign, times
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob
from trajsvc.measures.base import Array

if TYPE_CHECKING:
    import torch


def weights_set(job: SetJob) -> SetGrams:
    """[ḡ(w), ḡ(w + ω_1) − ḡ(w), …, ḡ(w + ω_n) − ḡ(w)] on the first batch, then the n differences at η / 10; 2n + 1 vectors.

    Scalars: ``weight_squares`` (blocks) ‖w_b‖², ``perturbation_squares`` (blocks, 2n) ‖ω_k,b‖² of the moves as they were made in the
    network's precision.
    """
    moves = _Moves(job)
    formed = job.formed("weights", 1 + moves.count, moves.vectors)
    scalars = {"weight_squares": job.squares(job.parameters), "perturbation_squares": moves.squares}
    labels = ("g", *(f"{k} at {eta:g}" for eta in moves.etas for k in range(moves.directions)))
    facts: dict[str, Any] = {"batch": len(moves.batch), "directions": moves.directions, "etas": list(moves.etas)}
    floor = job.noise_floor(moves.batch)
    return job.result("weights", formed, labels, scalars=scalars, scale=job.scale, noise_floor=floor, **facts)


class _Moves:
    """The moves of the parameters: direction k at every η."""

    def __init__(self, job: SetJob) -> None:
        self.job, self.options = job, job.options
        self.batch = job.batches[0]
        self.directions = job.options.directions
        self.etas = (job.options.eta, job.options.eta / FINER)
        self.count = self.directions * len(self.etas)
        self.squares: Array = np.zeros((len(job.blocks), self.count))

    @cached_property
    def size(self) -> float:
        return norm(self.job.parameters)

    def vectors(self, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        base = self.job.gradient(self.batch, names)
        yield base
        for number in range(self.count):
            at, k = divmod(number, self.directions)
            move = scaled(self._direction(k), self.size, self.options, self.etas[at])
            with self.job.moved(move) as made:
                moved = self.job.gradient(self.batch, names)
            self.squares[:, number] = self.job.squares(made)
            del move, made  # not held beside the next direction
            yield difference(moved, base)

    def _direction(self, k: int) -> Vector:
        if self.options.perturbation == "random":
            return like_weights(self.job.parameters, self.options, k)
        if self.options.perturbation == "limited":  # along one line: n moves are two
            return times(self.job.gradient(self.batch), 1.0 if k % 2 == 0 else -1.0)
        along = self.job.gradient([self.batch[drawn(self.options, k, len(self.batch))]])
        return times(along, sign(self.options, k))
