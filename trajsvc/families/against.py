"""Set many runs against a hyperparameter, their size, seed or a measure: lines of what is equal in all else, spread over seeds.

The runs need no family: what they differ in are the hyperparameters that are stored with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from storage_schema.models.against import AgainstAnswer, AgainstLine, AgainstRow, Spread, SpreadRow
from storage_schema.models.results import Scalar
from trajsvc.errors import UsageError
from trajsvc.families.lines import sized
from trajsvc.measures.registry import MEASURES, measure_named
from trajsvc.results import answers
from trajsvc.results.listing import MEASURED, OWN, PREFIX, Listed, check_fields

USUAL: Final = ("mds", "relative_mds", "path_length", "tortuosity")
"""measures that are shown where none are named"""
SIZE: Final = "size"
SEED: Final = "seed"
MOST: Final = 16
"""measures at once"""
_SEED: Final = re.compile(r"(.*[._])?seed", re.IGNORECASE)
_LABELS: Final = frozenset({
    "run_name", "exp_name", "experiment_name", "run_id", "name", "id", "output_dir", "logging_dir", "log_dir", "save_dir",
    "checkpoint_dir", "hub_model_id",
})  # fmt: skip
"""hyperparameters by which trainers name a run and its places: they say nothing of the training"""


def against(
    runs: Sequence[Listed],
    by: str | None = None,
    measures: Sequence[str] = USUAL,
    group: str = "network",
    steps: str | None = None,
    ignore: Iterable[str] = (),
) -> AgainstAnswer:
    """Set the ``measures`` of ``group`` in every run against ``by``: ``size``, ``seed``, a hyperparameter, another fact of a run, or a
    measure; by default the first hyperparameter in which they differ.

    A line joins runs that are equal in all hyperparameters but ``by``, their seeds and those of ``ignore``, and in their size unless
    ``by`` determines it. Against the seed or a measure there are no lines. Runs without the group are left out and named.

    Raises UsageError (``bad-field``, ``bad-by``), NotFound (``group-not-found``, ``measure-not-found``).
    """
    _check_measures(measures)
    having = [one for one in runs if group in one.run.groups()]
    if runs and not having:
        runs[0].run.gram(group)  # which raises and says what groups there are
    by = _usual_axis(having) if by is None else by
    _check_by(having, by)
    taken = [*measures, by] if by in MEASURED else list(measures)
    rows = [_row(one, by, taken, group, steps) for one in having]
    parting = _parting(rows, by, {name.removeprefix(PREFIX) for name in ignore})
    rows = [row.model_copy(update={"line": _line(row, parting, by)}) for row in rows]
    rows.sort(key=lambda row: (_order(row.place), row.line or "", row.run))
    return AgainstAnswer(
        by=by,
        group=group,
        measures=list(measures),
        varying=differing([row.hyperparameters for row in rows]),
        parting=parting,
        rows=[row.model_copy(update={"measures": {n: row.measures[n] for n in measures}}) for row in rows],
        lines=_lines(rows),
        spreads=_spreads(rows, measures),
        left_out=[one.run.name for one in runs if one not in having],
        findings=answers.sampled_differently([one.run for one in having], steps),
    )


def _usual_axis(runs: Sequence[Listed]) -> str:
    """Return the first hyperparameter with different numbers, else with different values; the size where there is none."""
    values = [one.row.hyperparameters for one in runs]
    found = [name for name in differing(values) if name.rpartition(".")[2] not in _LABELS]
    numbers = [n for n in found if all(isinstance(v.get(n, 0), int | float) for v in values)]
    return next(iter([*numbers, *found]), SIZE)


def _check_measures(measures: Sequence[str]) -> None:
    """Raise NotFound for a measure that is not there, UsageError for one that is not one number."""
    if not 1 <= len(measures) <= MOST:
        raise UsageError("bad-field", f"{len(measures)} measures", hint=f"Name 1 to {MOST}: mds,tortuosity")
    for name in measures:
        if measure_named(name).dims:
            hint = f"Measures that are one number: {', '.join(n for n, m in MEASURES.items() if not m.dims)}."
            raise UsageError("bad-field", f"{name} is a curve or a map", hint=hint)


def _check_by(listed: Sequence[Listed], by: str) -> None:
    if by in (SIZE, SEED):
        return
    if by in OWN and OWN[by] in ("tags", "notes"):
        hint = "Use size, seed, a hyperparameter, a measure, or a fact such as checkpoints or steps."
        raise UsageError("bad-by", f"{by} is no axis", hint=hint)
    check_fields(listed, [by])


def _row(one: Listed, by: str, measures: Sequence[str], group: str, steps: str | None) -> AgainstRow:
    found = one.measured_of(measures, group, steps)
    own = one.row.hyperparameters
    seeds = [name for name in own if _SEED.fullmatch(name)]
    seed = own.get(SEED, own[seeds[0]] if seeds else None)
    return AgainstRow(
        run=one.run.name,
        place=found[by] if by in found and by in MEASURED else _place(one, by, seed),
        line=None,
        seed=seed,
        parameters=one.row.parameters,
        checkpoints=one.row.checkpoints,
        estimate=one.row.estimate,
        hyperparameters=own,
        measures=found,
    )


def _place(one: Listed, by: str, seed: Scalar | None) -> Scalar | None:
    if by == SIZE:
        return one.row.parameters
    if by == SEED:
        return seed
    value = one.value(by)
    return value if isinstance(value, bool | int | float | str) else None


def differing(values: Sequence[Mapping[str, Scalar]]) -> list[str]:
    """Return the hyperparameters, without seeds, whose values are not the same in all runs."""
    names = dict.fromkeys(name for one in values for name in one if not _SEED.fullmatch(name))
    return [name for name in names if len({said(one.get(name)) for one in values}) > 1]


def _parting(rows: Sequence[AgainstRow], by: str, ignored: Iterable[str]) -> list[str]:
    """Return what parts the runs that have a place into lines: hyperparameters, and the size unless ``by`` determines it."""
    placed = [row for row in rows if row.place is not None]
    if by == SEED or by in MEASURED:
        return []
    axis = by.removeprefix(PREFIX)
    left = {axis, *ignored}
    names = differing([row.hyperparameters for row in placed])
    parting = [name for name in names if name not in left and name.rpartition(".")[2] not in _LABELS]
    if axis not in (SIZE, "parameters") and not sized(axis) and SIZE not in left:
        parting += [SIZE] if len({row.parameters for row in placed}) > 1 else []
    return parting


def _line(row: AgainstRow, parting: Sequence[str], by: str) -> str | None:
    if row.place is None or by == SEED or by in MEASURED:
        return None
    values = {**row.hyperparameters, SIZE: row.parameters}
    return ", ".join(f"{name}={said(values.get(name))}" for name in parting) or "all"


def _lines(rows: Sequence[AgainstRow]) -> list[AgainstLine]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.line is not None:
            found.setdefault(row.line, []).append(row.run)
    return [AgainstLine(line=line, runs=names) for line, names in found.items()]


def _spreads(rows: Sequence[AgainstRow], measures: Sequence[str]) -> list[SpreadRow]:
    """Return the spread of every place of a line that two runs or more are at."""
    at: dict[tuple[str, str], list[AgainstRow]] = {}
    for row in rows:
        if row.line is not None:
            at.setdefault((row.line, said(row.place)), []).append(row)
    return [
        SpreadRow(
            line=line,
            place=some[0].place,  # type: ignore[arg-type]
            runs=[row.run for row in some],
            measures={name: spread_of([row.measures[name] for row in some]) for name in measures},
        )
        for (line, _), some in at.items()
        if len(some) > 1
    ]


def spread_of(values: Sequence[float | None]) -> Spread:
    """Return mean, range and standard deviation of the defined ``values``."""
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    if not known.size:
        return Spread(count=0, mean=None, low=None, high=None, deviation=None)
    deviation = float(known.std(ddof=1)) if known.size > 1 else None
    return Spread(
        count=int(known.size),
        mean=float(known.mean()),
        low=float(known.min()),
        high=float(known.max()),
        deviation=deviation,
    )


def said(value: Scalar | None) -> str:
    """Write a value so that equal ones are written alike: 1 and 1.0, but not True.

    >>> said(1.0), said(1), said(True), said(0.1), said(None)
    ('1', '1', 'true', '0.1', 'none')
    """
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def _order(place: Scalar | None) -> tuple[int, float, str]:
    """Return a sort key: numbers in their order, then words, then runs without a place."""
    if place is None:
        return (2, 0.0, "")
    return (1, 0.0, str(place)) if isinstance(place, str | bool) else (0, float(place), "")


def unjoined(answer: AgainstAnswer) -> str | None:
    """Say why no line joins two places, and what would: None where one does, or where there are no lines to draw."""
    places = {said(row.place) for row in answer.rows if row.place is not None}
    if len(places) < 2 or not answer.lines:
        return None
    at = {row.run: said(row.place) for row in answer.rows}
    if any(len({at[run] for run in line.runs}) > 1 for line in answer.lines):
        return None
    return f"no two runs are equal in all but {answer.by} and their seed: they differ in {', '.join(answer.parting)}"


def csv_of(answer: AgainstAnswer) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of a table with a row a run: place, line, seed, what the runs differ in, and the measures."""
    header = ["run", "place", "line", "seed", "parameters", "checkpoints", "estimate"]
    header += [f"hyperparameter.{name}" for name in answer.varying] + answer.measures
    return header, [_cells(answer, row) for row in answer.rows]


def _cells(answer: AgainstAnswer, row: AgainstRow) -> list[object]:
    facts: list[object] = [row.run, row.place, row.line, row.seed, row.parameters, row.checkpoints, row.estimate]
    return [*facts, *(row.hyperparameters.get(n) for n in answer.varying), *(row.measures[n] for n in answer.measures)]
