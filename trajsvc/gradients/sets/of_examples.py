"""The sets ``example`` and ``batch``: gradients of single examples, and of the mean losses of batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.gradients.layerwise import layerwise_grams
from trajsvc.gradients.rows import Formed
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob, numbers
from trajsvc.gradients.sets.coordinates import ratio_sums
from trajsvc.measures.base import Array

if TYPE_CHECKING:
    import torch


def example_set(job: SetJob) -> SetGrams:
    """g_i = ∇_θ ℓ_i of every example i, n = N. Not formed where the Gram is cheaper from the inputs and output gradients of layers."""
    if job.mask is not None:
        return job.result("example", job.formed("example", len(job.examples), job.of_each()), job.labels)
    options = job.options
    found = layerwise_grams(
        job.module,
        job.losses,
        job.examples,
        job.blocks,
        memory=options.memory,
        precision=options.precision,
        stop=job.stop,
    )
    return job.result("example", Formed(found.gram, found.same), job.labels, **found.facts)


def batch_set(job: SetJob, examples: SetGrams | None = None) -> SetGrams:
    """ḡ_j = the mean of g_i over batch j, n = N // B. From the Gram of the ``examples`` where it is there: S K Sᵀ, S the means.

    Scalars, of two batches or more: those of ``ratio_sums``.
    """
    formed = _of_batches(job) if examples is None or job.mask is not None else _of_means(job, examples)
    size = job.options.batch
    facts: dict[str, Any] = {"batch": size, "batches": len(job.batches), "drawn": "without replacement"}
    facts["losses_per_batch"] = size * job.losses_per_example
    scalars, estimates = ratio_sums(job)
    return job.result("batch", formed, numbers(len(job.batches)), scalars=scalars, estimates=estimates, **facts)


def _of_batches(job: SetJob) -> Formed:
    def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        for batch in job.batches:
            yield job.gradient(batch, names)

    return job.formed("batch", len(job.batches), vectors)


def _of_means(job: SetJob, examples: SetGrams) -> Formed:
    means: Array = np.zeros((len(job.batches), examples.n))
    for j, batch in enumerate(job.batches):
        means[j, batch] = 1.0 / len(batch)
    gram = np.einsum("ji,bik,lk->bjl", means, examples.gram, means, optimize=True)
    assert examples.same is not None
    return Formed((gram + gram.transpose(0, 2, 1)) / 2.0, _equal_batches(examples.same, job.batches))


def _equal_batches(same: NDArray[np.int64], batches: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """(blocks, batches): equal numbers for batches of the same examples' gradients."""
    inside = np.sort(same[:, np.asarray(batches)], axis=2)
    return np.stack([np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1) for rows in inside]).astype(np.int64)
