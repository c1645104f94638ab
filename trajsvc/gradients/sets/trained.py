"""The sets ``path`` and ``points``: batch gradients along a short training, and at parameters that are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trajsvc.gradients.perturbations import difference, normal, times
from trajsvc.gradients.rows import Formed
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob, numbers
from trajsvc.measures.base import Array

if TYPE_CHECKING:
    import torch


def path_set(job: SetJob) -> SetGrams:
    """ḡ_t = ḡ_{χ_t}(w_t) at the steps t of a short training from the checkpoint on: v ← momentum · v + ḡ_t, w ← w − learning_rate · v,
    batch χ_t the t-th of the examples; n batches. The network stays in evaluation mode.

    Scalars: ``weight_squares`` (blocks, n) ‖w_t‖², ``update_squares`` (blocks, n) ‖u_t‖² and ``update_gram`` (blocks, n, n) of the
    updates u_t = w_{t+1} − w_t, ``response_squares`` (blocks, n) ‖ḡ_{χ_t}(w_{t+1}) − ḡ_t‖².
    """
    training = _Training(job)
    n = len(job.batches)
    with job.moved({}):
        formed = job.formed("path", 2 * n, training.vectors)
    updates = formed.gram[:, 1::2, 1::2].copy()
    scalars = {
        "weight_squares": training.weights,
        "update_squares": np.diagonal(updates, axis1=1, axis2=2).copy(),
        "update_gram": updates,
        "response_squares": training.responses,
    }
    parts = None if formed.parts is None else formed.parts[:, 0::2, 0::2]
    gradients = Formed(formed.gram[:, 0::2, 0::2].copy(), formed.same[:, 0::2].copy(), parts)
    floor = job.noise_floor(job.batches[0])
    return job.result("path", gradients, numbers(n), scalars=scalars, batch=job.options.batch, noise_floor=floor)


class _Training:
    """The training, made again from the checkpoint's parameters in every pass: the same steps each time."""

    def __init__(self, job: SetJob) -> None:
        self.job = job
        self.start = {name: p.detach().clone() for name, p in job.parameters.items()}
        shape = (len(job.blocks), len(job.batches))
        self.weights: Array = np.zeros(shape)
        self.responses: Array = np.zeros(shape)

    def vectors(self, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        """ḡ_0, u_0, ḡ_1, u_1 …"""
        job, options = self.job, self.job.options
        job.put(self.start)
        velocity = {name: p.double() * 0.0 for name, p in self.start.items()}
        for t, batch in enumerate(job.batches):
            gradient = job.gradient(batch)
            self.weights[:, t] = job.squares(job.parameters)
            velocity = {name: options.momentum * v + gradient[name] for name, v in velocity.items()}
            update = job.step(times(velocity, -options.learning_rate))
            self.responses[:, t] = job.squares(difference(job.gradient(batch), gradient))
            some = [{name: values[name] for name in names} for values in (gradient, update)]
            del gradient, update  # not held beside the next step's
            yield from some


def points_set(job: SetJob) -> SetGrams:
    """ḡ_χ at θ ~ N(0, σ²I), one draw of all parameters a vector, the batches of the examples in turn; ``directions`` vectors.

    Of the checkpoint only the architecture and the buffers matter.
    """
    options = job.options

    def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        for k in range(options.directions):
            with job.moved({}):
                job.put(normal(job.parameters, options.sigma, options, k))
                found = job.gradient(job.batches[k % len(job.batches)], names)
            yield found

    count = options.directions
    return job.result(
        "points", job.formed("points", count, vectors), numbers(count), batch=options.batch, sigma=options.sigma
    )
