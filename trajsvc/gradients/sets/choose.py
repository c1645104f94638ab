"""Compute the sets that are asked for at one checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from trajsvc.gradients.options import SetKind
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob
from trajsvc.gradients.sets.of_examples import batch_set, example_set

_ALONE: Final[dict[SetKind, Callable[[SetJob], SetGrams]]] = {}
"""sets that need nothing but the network of one checkpoint"""


def compute_sets(job: SetJob, kinds: Sequence[SetKind]) -> dict[SetKind, SetGrams]:
    """Compute each of ``kinds`` at one checkpoint. Gradients of batches are means of those of examples, where these are computed too."""
    found: dict[SetKind, SetGrams] = {}
    for kind in sorted(kinds, key=lambda k: k != "example"):
        if kind == "example":
            found[kind] = example_set(job)
        elif kind == "batch":
            found[kind] = batch_set(job, found.get("example"))
        elif kind in _ALONE:
            found[kind] = _ALONE[kind](job)
        else:
            raise ValueError(f"no set {kind}")
    return {kind: _by_stored_name(found[kind], job) for kind in kinds}


def _by_stored_name(found: SetGrams, job: SetJob) -> SetGrams:
    """The set with its blocks under the names that the run has for them."""
    return found if found.blocks is not job.blocks else replace(found, blocks=job.network.blocks)
