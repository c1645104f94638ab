"""Draw the figures of a family from its answers: measures against size, maps by scale, Q, K and V by depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from trajsvc.errors import NotFound
from trajsvc.families.compare import value_of
from trajsvc.families.lines import lines_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage_schema.models.families import FamilyAnswer
    from trajsvc.results.run import Run

MEASURES: Final = {
    "mds": "MDS",
    "mds_by_length": "MDS by length",
    "relative_mds": "relative MDS",
    "heterogeneity": "Q/K/V distance in shape",
    "rms": "Q/K/V rms (cosine)",
    "settling_depth_slope": "settling slope by depth",
}


def measures_of(answer: FamilyAnswer, by: str) -> Figure:
    """Draw MDS, relative MDS, heterogeneity and settling of the members against ``by``."""
    from trajsvc.figures.family import family_measures_figure

    rows = [row for row in answer.rows if row.state == "present"]
    measures = {t: [getattr(r, n) for r in rows] for n, t in MEASURES.items()}
    label = {"size": "parameters", "seed": "seed"}.get(by, by.replace("_", " "))
    at = [value_of(row, by) for row in rows]
    names = [row.member for row in rows]
    seen = "" if answer.origin is None else f"; Q, K and V relative to {answer.axis} {answer.origin}"
    title = f"{answer.title or answer.family}: network{seen}"
    return family_measures_figure(names, at, measures, label, title=title, joined=lines_of(rows, by))


def maps_of(answer: FamilyAnswer, runs: Mapping[str, Run], group: str, origin: int | None, steps: str | None) -> Figure:
    """Draw the maps of the members that have the group. Raises NotFound (``group-not-found``) if none has it."""
    from trajsvc.figures import Panel
    from trajsvc.figures.family import family_maps_figure, short_names
    from trajsvc.results import answers

    present = [runs[row.member] for row in answer.rows if row.member in runs]
    having = [run for run in present if group in run.groups()] or present[:1]
    labels = short_names([run.name for run in having])
    panels = []
    for run, label in zip(having, labels, strict=True):
        found = answers.trajectory_map(run, group, origin, steps)
        panels.append(Panel(_array(found.map), found.steps, label))
    what = "" if group == "network" else f": {group}"
    relative = "" if origin is None else f", relative to {answer.axis} {origin}"
    return family_maps_figure(panels, title=f"{answer.title or answer.family}{what}{relative}", axis=answer.axis)


def qkv_of(answer: FamilyAnswer) -> Figure:
    """Draw Q, K and V of the members against relative depth. Raises NotFound (``no-attention``)."""
    from trajsvc.figures.family import family_qkv_figure

    rows = [row for row in answer.rows if row.heterogeneity_by_depth]
    if not rows:
        raise NotFound("no-attention", f"no member of the family {answer.family} has Q, K and V")
    distances = [
        _array([[d.distance_qk, d.distance_qv, d.distance_kv] for d in r.heterogeneity_by_depth]) for r in rows
    ]
    rms = [_array([[d.rms_qk, d.rms_qv, d.rms_kv] for d in r.heterogeneity_by_depth]) for r in rows]
    depths = [[d.depth for d in row.heterogeneity_by_depth] for row in rows]
    relative = "" if answer.origin is None else f", relative to {answer.axis} {answer.origin}"
    title = f"{answer.title or answer.family}: maps of Q, K and V{relative}"
    return family_qkv_figure([r.member for r in rows], depths, distances, rms, title=title)


def _array(values: Any) -> Any:
    """Convert lists to a float64 array, null to NaN."""
    import numpy as np

    return np.array(values, dtype=np.float64)
