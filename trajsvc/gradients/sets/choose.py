"""Compute the sets that are asked for at one checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from trajsvc.gradients.options import SetKind
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob
from trajsvc.gradients.sets.moved_weights import weights_set
from trajsvc.gradients.sets.of_checkpoints import anchored_set, full_set
from trajsvc.gradients.sets.of_examples import batch_set, example_set
from trajsvc.gradients.sets.of_inputs import input_gradients_set, inputs_set
from trajsvc.gradients.sets.trained import path_set, points_set

_MADE_BY: Final[dict[SetKind, Callable[[SetJob], SetGrams]]] = {
    "anchored": anchored_set,
    "full": full_set,
    "input_gradients": input_gradients_set,
    "inputs": inputs_set,
    "path": path_set,
    "points": points_set,
    "weights": weights_set,
}


def compute_sets(job: SetJob, kinds: Sequence[SetKind]) -> dict[SetKind, SetGrams]:
    """Compute each of ``kinds`` at one checkpoint. Gradients of batches are means of those of examples, where these are computed too."""
    found: dict[SetKind, SetGrams] = {}
    with job.batch_statistics():
        for kind in sorted(kinds, key=lambda k: k != "example"):
            if kind == "example":
                found[kind] = example_set(job)
            elif kind == "batch":
                found[kind] = batch_set(job, found.get("example"))
            else:
                found[kind] = _MADE_BY[kind](job)
    return {kind: _by_stored_name(found[kind], job) for kind in kinds}


def _by_stored_name(found: SetGrams, job: SetJob) -> SetGrams:
    """Return the set with its blocks under the names that the run has for them."""
    return found if found.blocks is not job.blocks else replace(found, blocks=job.network.blocks)
