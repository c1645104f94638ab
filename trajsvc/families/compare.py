"""Compare the members of a family: measures against size, seed and hyperparameters, and by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from storage_schema.models.families import FamilyAnswer, FamilyDepthRow, FamilyRow, FamilySettlingRow
from storage_schema.models.results import Scalar
from storage_schema.runs.hyperparameters import BY_HAND
from trajsvc.families.file import Family, Member
from trajsvc.families.lines import every_line
from trajsvc.measures.registry import compute
from trajsvc.results import tables
from trajsvc.results.answers import sampled_differently
from trajsvc.results.depth import attention_layers, depth_layers, relative_depths
from trajsvc.results.labels import plain

if TYPE_CHECKING:
    from trajsvc.results.run import Run

MEMBER_MEASURES = ("mds", "mds_by_length", "relative_mds", "random_walk_mds")


def compare_family(
    family: Family, runs: Mapping[str, Run], removed: Mapping[str, str] | None = None, origin: int | None = None
) -> FamilyAnswer:
    """Compare the members of ``family`` in order of size, seed and name; ``runs`` holds those in the store, by the
    member's name.

    Q, K and V are compared by their maps relative to ``origin`` if one is given. Raises NotFound (``step-not-found``) if a
    member with Q, K and V has no such checkpoint.
    """
    found = [
        family_row(m, runs[m.name], origin) if m.name in runs else missing_row(m, (removed or {}).get(m.name))
        for m in family.runs
    ]
    rows = sorted(found, key=_order)
    present = [runs[m.name] for m in family.runs if m.name in runs]
    axes = {run.axis for run in present} or {"step"}
    return FamilyAnswer(
        family=family.name,
        title=family.title,
        axis=axes.pop() if len(axes) == 1 else "checkpoint",
        origin=origin,
        findings=sampled_differently(present),
        rows=rows,
        lines=every_line(rows),
    )


def _order(row: FamilyRow) -> tuple[bool, float, bool, int, str]:
    """Return a sort key: size, then seed, then name; unknown values come last."""
    return (row.size is None, row.size or 0, row.seed is None, row.seed or 0, row.member)


def family_row(member: Member, run: Run, origin: int | None = None) -> FamilyRow:
    """Return the row of a member whose run is stored."""
    depths = relative_depths(depth_layers(run))
    by_depth = [depth_row(run, g, depths[g], origin) for g in attention_layers(run) if g in depths]
    settling = [settling_row(run, group, depth) for group, depth in depths.items()]
    shapes = [row.heterogeneity for row in by_depth if row.heterogeneity is not None]
    apart = [row.rms for row in by_depth if row.rms is not None]
    return FamilyRow(
        member=member.name,
        run=run.name,
        state="present",
        size=run.parameters if member.size is None else member.size,
        seed=member.seed,
        hyperparameters={**member.hyperparameters, **set_by_hand(run)},
        parameters=run.parameters,
        checkpoints=len(run.steps),
        estimate=run.estimate is not None,
        fraction=None if run.estimate is None else run.estimate.get("fraction"),
        **plain(compute(MEMBER_MEASURES, run.gram())),
        heterogeneity=float(np.mean(shapes)) if shapes else None,
        rms=float(np.mean(apart)) if apart else None,
        settling_depth_slope=slope([r.depth for r in settling], [r.settling_step for r in settling]),
        heterogeneity_by_depth=by_depth,
        settling_depth=settling,
    )


def set_by_hand(run: Run) -> dict[str, Scalar]:
    """Return the hyperparameters of ``run`` that hold before those of the family's file."""
    return {one.name: one.value for one in run.hyperparameter_rows if one.origin == BY_HAND}


def missing_row(member: Member, removed: str | None = None) -> FamilyRow:
    """Return the row of a member that has not been analysed, or was ``removed``: its id in the trash."""
    nothing = ("run", "parameters", "checkpoints", "estimate", "mds", "relative_mds", "heterogeneity")
    return FamilyRow(
        member=member.name,
        state="missing",
        removed=removed,
        size=member.size,
        seed=member.seed,
        hyperparameters=member.hyperparameters,
        **dict.fromkeys(nothing),
        settling_depth_slope=None,
        heterogeneity_by_depth=[],
        settling_depth=[],
    )


def depth_row(run: Run, group: str, depth: float, origin: int | None = None) -> FamilyDepthRow:
    """Compare Q, K and V of one layer of ``run``, by their maps relative to ``origin`` if one is given."""
    row = tables.qkv_row(run, group, None, origin)
    names = FamilyDepthRow.model_fields.keys() - {"depth"}
    return FamilyDepthRow(depth=depth, **row.model_dump(include=set(names)))


def settling_row(run: Run, group: str, depth: float) -> FamilySettlingRow:
    """Return the settling step of one layer of ``run`` as a fraction of the run's last step; null if that step is 0."""
    gram = run.gram(group)
    step = plain(compute(("settling_step",), gram))["settling_step"]
    last = int(gram.steps[-1]) if len(gram.steps) else 0
    settled = step / last if step is not None and last > 0 else None
    return FamilySettlingRow(depth=depth, layer=group.removeprefix("layer/"), settling_step=settled)


def slope(at: Sequence[float], values: Sequence[float | None]) -> float | None:
    """Return the least-squares slope of the defined ``values`` over ``at``.

    None with fewer than two, or all at one place.
    """
    pairs = [(x, y) for x, y in zip(at, values, strict=True) if y is not None]
    x = np.array([p[0] for p in pairs], dtype=np.float64)
    y = np.array([p[1] for p in pairs], dtype=np.float64)
    if len(pairs) < 2 or not np.ptp(x) > 0:
        return None
    x = x - x.mean()
    return float(x @ (y - y.mean()) / (x @ x))


def value_of(row: FamilyRow, by: str) -> bool | int | float | str | None:
    """Return a member's size, seed or hyperparameter."""
    if by in ("size", "seed"):
        return row.size if by == "size" else row.seed
    return row.hyperparameters.get(by)
