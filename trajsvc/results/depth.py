"""Choose the layers that make a network's depth, and the order in which they are shown in every interface."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trajsvc.results.measure_methods import MeasureMethods

PARTS = ("q", "k", "v")
_NUMBERED = re.compile(r"[./][0-9]+$")


def attention_layers(run: MeasureMethods) -> list[str]:
    """Return the layers that have Q, K and V."""
    known = run.groups()
    return [g for g in run.layer_ids() if all(f"{g}/attention.{part}" in known for part in PARTS)]


def depth_layers(run: MeasureMethods) -> list[str]:
    """Return the layers that make a network's depth, in order.

    If layers have attention, these are the numbered ones; else all layers except those that consist of a norm only.
    What lies around them (the norm after the last layer, a norm of the embedding, a pooler) is not a layer with a depth
    of its own.
    """
    layers = run.layer_ids()
    known = run.groups()
    if attention_layers(run):
        return [group for group in layers if _NUMBERED.search(group)] or layers
    weighty = [g for g in layers if not (f"{g}/norm" in known and known[f"{g}/norm"].parameters == known[g].parameters)]
    return weighty or layers


def relative_depths(layers: Sequence[str]) -> dict[str, float]:
    """Return every layer's depth from 0, the first, to 1, the last; a single layer is at 0."""
    return {group: k / max(1, len(layers) - 1) for k, group in enumerate(layers)}


def network_in_order(run: MeasureMethods) -> list[str]:
    """Return the groups that a network consists of, from its input to its output: embedding, layers, unembedding."""
    known = run.groups()
    first, last = ([g] if g in known else [] for g in ("embedding", "unembedding"))
    return [*first, *run.layer_ids(), *last]
