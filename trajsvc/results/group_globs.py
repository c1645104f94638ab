"""Groups of a run chosen by ids and globs, and their maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajsvc.anatomy.groups import match_groups
from trajsvc.errors import NotFound

if TYPE_CHECKING:
    from xarray import DataArray

    from trajsvc.results.measure_methods import MeasureMethods, Steps


def chosen_groups(run: MeasureMethods, patterns: Sequence[str] | None) -> list[str]:
    """Return the ids of the groups that any of the globs matches, in the run's order; without globs all but single tensors.

    Raises NotFound (``group-not-found``) for a glob that matches none.
    """
    known = run.groups()
    if patterns is None:
        return [group for group in known if not group.startswith("tensor/")]
    found: set[str] = set()
    for pattern in patterns:
        matched = match_groups(known, pattern)
        if not matched:
            hint = f"`trajsvc groups {run.name}` lists what can be measured; 'layer/*' matches several."
            raise NotFound("group-not-found", f"{run.name} has no group {pattern!r}", hint=hint)
        found |= set(matched)
    return [group for group in known if group in found]


def maps(run: MeasureMethods, patterns: Sequence[str], origin: int | None = None, steps: Steps = None) -> DataArray:
    """Return the trajectory maps of several groups, (group, step, step_2), in the run's order; no unit.

    Raises NotFound (``group-not-found``, ``step-not-found``).
    """
    import xarray

    found = chosen_groups(run, patterns)
    return xarray.concat(
        [run.trajectory_map(group, origin, steps) for group in found],
        dim=xarray.DataArray(found, dims="group", name="group"), coords="minimal", compat="override", join="exact",
        combine_attrs="drop_conflicts",
    )  # fmt: skip
