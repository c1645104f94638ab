"""The sets ``example`` and ``batch``: gradients of single examples, and of the mean losses of batches of them."""

from __future__ import annotations

import numpy as np

from trajsvc.gradients.rows import formed_grams
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob
from trajsvc.measures.base import Array


def example_set(job: SetJob) -> SetGrams:
    """g_i = ∇_θ ℓ_i of every example i, n = N."""
    gram, same = formed_grams(job.blocks, len(job.examples), job.of_each(), job.options.memory, job.stop)
    return SetGrams("example", job.blocks, gram, _labels(job), same=same, facts=job.facts())


def batch_set(job: SetJob, examples: SetGrams | None = None) -> SetGrams:
    """ḡ_j = the mean of g_i over batch j, n = N // B. From the Gram of the ``examples`` where it is there: S K Sᵀ, S the means."""
    batches = job.batches
    if examples is not None:
        means: Array = np.zeros((len(batches), examples.n))
        for j, batch in enumerate(batches):
            means[j, batch] = 1.0 / len(batch)
        gram = np.einsum("ji,bik,lk->bjl", means, examples.gram, means, optimize=True)
        gram = (gram + gram.transpose(0, 2, 1)) / 2.0
        return SetGrams("batch", job.blocks, gram, _numbers(len(batches)), error=examples.error, facts=_facts(job))

    gram, same = formed_grams(
        job.blocks, len(batches), lambda names: (job.gradient(b, names) for b in batches), job.options.memory, job.stop
    )
    return SetGrams("batch", job.blocks, gram, _numbers(len(batches)), same=same, facts=_facts(job))


def _facts(job: SetJob) -> dict[str, object]:
    return {**job.facts(), "batch": job.options.batch, "batches": len(job.batches), "drawn": "without replacement"}


def _labels(job: SetJob) -> tuple[str, ...]:
    return tuple(map(str, job.chosen))


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
