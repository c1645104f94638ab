"""The maps of many groups at once, small: what a grid of maps shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.errors import UsageError
from trajsvc.results.map_range import MapKind, MapsOf, groups_of, map_of
from trajsvc.results.measure_methods import MeasureMethods, Steps

MOST: Final = 32 * 2**20
"""entries of all triangles together"""


@dataclass(frozen=True)
class ManyMaps:
    """Maps of ``groups`` at ``steps``, each as its upper triangle with the diagonal, row by row: G × n(n+1)/2, float32."""

    groups: list[str]
    steps: NDArray[np.int64]
    triangles: NDArray[np.float32]


def many_maps(
    run: MeasureMethods, of: MapsOf = "layers", kind: MapKind = "tm", origin: int | None = None, steps: Steps = None
) -> ManyMaps:
    """Return the maps of many groups; an undefined entry is NaN.

    Args:
        of: whose maps, as for ``map_range``.
        kind: trajectory map, relative one (at ``origin``, by default the first step), cosines of updates, or a random walk's map.

    Raises NotFound (``step-not-found``) and UsageError (``too-many-maps``) where they are more than 128 MiB.
    """
    groups = groups_of(run, of)
    at = np.asarray(run.gram("network", steps).steps, dtype=np.int64)
    if kind == "rtm":
        at = at[at != (at[0] if origin is None else origin)]
    elif kind != "tm":
        at = at[1:]
    upper = np.triu_indices(len(at))
    if len(groups) * len(upper[0]) > MOST:
        raise UsageError(
            "too-many-maps", f"{len(groups)} maps of {len(at)} × {len(at)} are too many for one answer",
            hint="Name fewer steps, or ask for the maps one by one.",
        )  # fmt: skip
    triangles = np.empty((len(groups), len(upper[0])), dtype=np.float32)
    for k, group in enumerate(groups):
        triangles[k] = map_of(run.gram(group, steps), kind, origin)[upper]
    return ManyMaps(groups, at, triangles)
