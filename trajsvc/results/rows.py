"""Rows (neurons) of a run's matrices over training, from the squared norms that an analysis keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.rows import RowsAnswer, RowsOf, RowValues
from storage_schema.runs.contents import GroupRows
from trajsvc.anatomy.groups import find_group
from trajsvc.errors import NotFound
from trajsvc.measures.row_statistics import DISPLACEMENT, UPDATE, WEIGHTS, angles_of
from trajsvc.results.labels import plain
from trajsvc.results.measure_methods import MeasureMethods, Steps

if TYPE_CHECKING:
    from xarray import DataArray

SHOWN: Final = 20
"""Rows that an answer has unless it is asked for another number."""
UNITS: Final[dict[str, str]] = {"ratio": "1", "angle": "degree"}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RowTrajectories:
    """One number of every row of a group at ``steps``: ``values`` (rows, steps), NaN where it is not known."""

    tensors: NDArray[np.object_]
    """(rows): the name of the tensor, or of its part"""
    index: NDArray[np.int64]
    """(rows)"""
    steps: NDArray[np.int64]
    values: Array

    def largest(self, count: int) -> RowTrajectories:
        """Return the ``count`` rows with the largest sum of squares, the largest first."""
        order = np.argsort(-np.nansum(self.values**2, axis=1), kind="stable")[:count]
        return RowTrajectories(self.tensors[order], self.index[order], self.steps, self.values[order])


def row_trajectories(run: MeasureMethods, group: str, of: RowsOf = "update", steps: Steps = None) -> RowTrajectories:
    """Return one number of every row of a group's matrices over training.

    Raises NotFound (``rows-not-found``, ``group-not-found``, ``step-not-found``).
    """
    found = find_group(run.groups(), group)
    rows, index = run.stored.group_rows(found.id, found.blocks), run.selection(steps)
    if rows is None or not len(rows.block):
        raise not_found(run, group, kept=rows is not None)
    values = _values(rows, of, index)
    numbers = run.stored.checkpoints.step[index]
    names = np.array(run.stored.blocks.name, dtype=object)[rows.block]
    return RowTrajectories(names, rows.index, numbers if values.shape[1] == len(index) else numbers[1:], values)


def _values(rows: GroupRows, of: RowsOf, index: NDArray[np.int64]) -> Array:
    norms = rows.norms[..., index]
    if of in ("displacement", "weights"):
        return np.asarray(np.sqrt(norms[:, DISPLACEMENT if of == "displacement" else WEIGHTS]))
    follows = np.diff(index) == 1
    energy = np.where(follows, norms[:, UPDATE, 1:], np.nan)
    before, after = norms[:, WEIGHTS, :-1], norms[:, WEIGHTS, 1:]
    if of == "angle":
        return angles_of(before, after, energy)
    if of == "update":
        return np.asarray(np.sqrt(energy))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0.0, np.sqrt(energy) / np.sqrt(before), np.nan)


def rows_answer(
    run: MeasureMethods,
    group: str,
    of: RowsOf = "update",
    steps: Steps = None,
    top: int | None = None,
    bins: int | None = None,
) -> RowsAnswer:
    """Answer with the ``top`` rows of a group, the largest first (0: all in order), or with all in at most ``bins`` bins in order.

    Raises as ``row_trajectories``.
    """
    found = row_trajectories(run, group, of, steps)
    if bins:
        chosen = binned(found, bins)
    else:
        some = found.largest(SHOWN if top is None else top) if top != 0 else found
        chosen = [(str(t), int(r), 1, v) for t, r, v in zip(some.tensors, some.index, some.values, strict=True)]
    return RowsAnswer(
        run=run.name,
        group=group,
        of=of,
        axis=run.axis,
        steps=found.steps.tolist(),
        total=len(found.index),
        rows=[RowValues(tensor=t, row=r, count=n, values=plain(v)) for t, r, n, v in chosen],
    )


def binned(found: RowTrajectories, most: int) -> list[tuple[str, int, int, Array]]:
    """Return successive rows together, (tensor, first row, how many, root mean square), in about ``most`` bins; no bin holds rows of two
    tensors, and every tensor has one at least.
    """
    size = max(1, -(-len(found.index) // most))
    starts = np.flatnonzero(np.append(True, found.tensors[1:] != found.tensors[:-1]))
    out: list[tuple[str, int, int, Array]] = []
    for begin, end in zip(starts, [*starts[1:], len(found.index)], strict=True):
        for at in range(int(begin), int(end), size):
            some = found.values[at : min(end, at + size)]
            value = some[0] if len(some) == 1 else np.sqrt((some * some).mean(axis=0))
            out.append((str(found.tensors[at]), int(found.index[at]), len(some), value))
    return out


def row_array(run: MeasureMethods, group: str, of: RowsOf, steps: Steps) -> DataArray:
    """Label the rows of a group over training, (row, step), with the tensor and the index of every row."""
    import xarray

    found = row_trajectories(run, group, of, steps)
    coords: dict[str, Any] = {
        "step": found.steps,
        "tensor": ("row", found.tensors),
        "index": ("row", found.index),
    }
    attributes = {"units": UNITS.get(of, "parameter"), "group": group, "of": of}
    return xarray.DataArray(found.values, dims=("row", "step"), coords=coords, name=of, attrs=attributes)


def rows_table(answer: RowsAnswer) -> tuple[list[str], list[list[Any]]]:
    """Return an answer as a header and rows: tensor, row, count, and a column for every step."""
    header = ["tensor", "row", "count", *map(str, answer.steps)]
    return header, [[row.tensor, row.row, row.count, *row.values] for row in answer.rows]


def not_found(run: MeasureMethods, group: str, *, kept: bool) -> NotFound:
    if kept:
        hint = f"`trajsvc groups {run.name}` lists the groups; norms and biases have no rows."
        return NotFound("rows-not-found", f"no tensor of {group} is a matrix", hint=hint)
    return NotFound(
        "rows-not-found",
        f"the rows of the matrices of {run.name} were not kept",
        hint=f"`trajsvc analyze SOURCE --name {run.name} --rows` computes the run again with them.",
    )


def rows_arrays(found: RowTrajectories) -> dict[str, NDArray[Any]]:
    """Return rows as arrays for a file: ``values`` (rows, steps), ``steps``, ``tensors`` and ``index`` (rows)."""
    return {
        "values": found.values,
        "steps": found.steps,
        "tensors": found.tensors.astype(np.str_),
        "index": found.index,
    }
