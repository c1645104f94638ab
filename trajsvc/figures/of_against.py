"""Draw many runs from their answer: measures against a hyperparameter, and parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage_schema.models.results import Scalar
from trajsvc.errors import UsageError
from trajsvc.families.against import SEED, SIZE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage_schema.models.against import AgainstAnswer, AgainstRow

MOST_AXES = 16


def scatter_of(answer: AgainstAnswer) -> Figure:
    """Draw a panel for every measure: a point a run, a line through the runs that are equal in all else, the range over seeds."""
    from trajsvc.figures.family import family_measures_figure

    rows = [row for row in answer.rows if row.place is not None]
    measures = {_title(name): [row.measures[name] for row in rows] for name in answer.measures}
    label = "parameters" if answer.by == SIZE else answer.by.replace("_", " ")
    title = "" if answer.group == "network" else answer.group
    joined = [row.line for row in rows]
    return family_measures_figure(
        [row.run for row in rows], [row.place for row in rows], measures, label, title=title, joined=joined
    )


def parallel_of(answer: AgainstAnswer, fields: Sequence[str] = ()) -> Figure:
    """Draw parallel coordinates of ``fields``: hyperparameters, ``size``, ``seed``, ``checkpoints`` and the answer's measures; by default
    what the runs differ in, and the measures.

    Raises UsageError (``bad-field``).
    """
    from trajsvc.figures.parallel import parallel_figure

    known = coordinates(answer)
    wanted = list(fields) or [*answer.varying[: MOST_AXES - len(answer.measures)], *answer.measures]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError("bad-field", f"no run has a {unknown[0][:100]!r}", hint=f"There are {', '.join(known)}.")
    if not 2 <= len(wanted) <= MOST_AXES:
        raise UsageError("bad-field", f"{len(wanted)} axes", hint=f"Name 2 to {MOST_AXES}: lr,weight_decay,mds")
    values = {_title(name): [value_of(row, name) for row in answer.rows] for name in wanted}
    return parallel_figure(values, [row.run for row in answer.rows])


def _title(name: str) -> str:
    return name.replace("_", " ").replace("mds", "MDS")


def coordinates(answer: AgainstAnswer) -> list[str]:
    """Return what can be an axis of parallel coordinates."""
    own = dict.fromkeys(name for row in answer.rows for name in row.hyperparameters)
    return list(dict.fromkeys([SIZE, SEED, "checkpoints", *answer.measures, *own]))


def value_of(row: AgainstRow, name: str) -> Scalar | None:
    """Return what a run has on an axis."""
    own: dict[str, Scalar | None] = {SIZE: row.parameters, SEED: row.seed, "checkpoints": row.checkpoints}
    return own[name] if name in own else row.measures[name] if name in row.measures else row.hyperparameters.get(name)
