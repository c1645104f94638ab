"""Compute the range of the maps of many groups, for a common colour scale before a single map is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import numpy as np

from storage_schema.models.results import MapRange
from trajsvc.measures.base import Array, GroupGram
from trajsvc.measures.correlations import update_map
from trajsvc.measures.maps import trajectory_map
from trajsvc.measures.nulls import random_walk
from trajsvc.results.depth import PARTS, attention_layers, network_in_order
from trajsvc.results.measure_methods import MeasureMethods, Steps

MapsOf = Literal["layers", "parts", "attention"]
MapKind = Literal["tm", "rtm", "updates", "walk"]
_MAPS: Final[Mapping[MapKind, Callable[[GroupGram, int | None], Array]]] = {
    "tm": lambda gram, _: trajectory_map(gram),
    "rtm": lambda gram, origin: trajectory_map(gram, int(gram.steps[0]) if origin is None else origin),
    "updates": lambda gram, _: update_map(gram),
    "walk": lambda gram, _: random_walk(gram),
}


def map_range(
    run: MeasureMethods, of: MapsOf = "layers", kind: MapKind = "tm", origin: int | None = None, steps: Steps = None
) -> MapRange:
    """Return the least and the greatest entry of the maps of many groups; None if no entry is defined.

    Args:
        of: ``layers``, the groups from the embedding to the unembedding; ``parts``, the components of layers; ``attention``, their Q, K, V.
        kind: trajectory map, relative one (at ``origin``, by default the first step), cosines of updates, or a random walk's map.

    Raises NotFound (``step-not-found``).
    """
    groups = groups_of(run, of)
    ends = [_ends(map_of(run.gram(group, steps), kind, origin)) for group in groups]
    known = [pair for pair in ends if pair is not None]
    return MapRange(
        run=run.name,
        maps=len(groups),
        least=min((low for low, _ in known), default=None),
        greatest=max((high for _, high in known), default=None),
    )


def map_of(gram: GroupGram, kind: MapKind, origin: int | None) -> Array:
    """Return one map of a group; a relative one is without its ``origin``, by default the first step."""
    return _MAPS[kind](gram, origin)


def groups_of(run: MeasureMethods, of: MapsOf) -> list[str]:
    """Return the groups that are shown together. Layers that consist of a norm only have no parts."""
    if of == "layers":
        return network_in_order(run)
    if of == "attention":
        return [f"{layer}/attention.{part}" for layer in attention_layers(run) for part in PARTS]
    parts = [group.rpartition("/") for group in run.groups() if group.startswith("layer/") and group.count("/") == 2]
    weighty = {layer for layer, _, part in parts if part != "norm"}
    return [f"{layer}/{part}" for layer, _, part in parts if layer in weighty]


def _ends(values: Any) -> tuple[float, float] | None:
    defined = values[np.isfinite(values)]
    return (float(defined.min()), float(defined.max())) if defined.size else None
