"""The sets that need several checkpoints: ``anchored`` (differences to an earlier one) and ``full`` (the whole gradient at each)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trajsvc.errors import Refused
from trajsvc.gradients.perturbations import difference
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob

if TYPE_CHECKING:
    import torch


def anchored_set(job: SetJob) -> SetGrams:
    """g_i(θ_t) − g_i(θ̃) of every example i, θ̃ the checkpoint of step ``anchor``; n = N (SVRG, *Variance* §2)."""
    assert job.options.anchor is not None
    then = at_step(job, job.options.anchor)

    def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        for i in range(len(job.examples)):
            yield difference(job.gradient([i], names), then.gradient([i], names))

    formed = job.formed("anchored", len(job.examples), vectors)
    return job.result("anchored", formed, job.labels, anchor=job.options.anchor, noise_floor=job.noise_floor([0]))


def full_set(job: SetJob) -> SetGrams:
    """ḡ over all the examples, one vector for each of the chosen checkpoints, in order; n = T.

    The checkpoints are read once for every pass over the tensors that fit the memory together.
    """
    size = job.options.batch

    def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        for step in job.steps:
            yield at_step(job, step).mean_gradient(size, names)

    return job.result("full", job.formed("full", len(job.steps), vectors), [str(step) for step in job.steps])


def at_step(job: SetJob, step: int) -> SetJob:
    """Return the same job at another checkpoint. Raises Refused (``network-mismatch``) where its network has other blocks."""
    if step == job.network.step:
        return job
    network = job.elsewhere(step)
    if [(b.tensor, b.extent) for b in network.places] != [(b.tensor, b.extent) for b in job.blocks]:
        hint = "Choose checkpoints of one architecture with --steps."
        words = f"the network of step {step} has other parameters than that of step {job.network.step}"
        raise Refused("network-mismatch", words, hint=hint, step=step)
    return replace(job, network=network)
