"""Lists of runs: filtered by conditions, sorted and shown by fields.

A field is a fact of the run, a measure of its network, or a hyperparameter.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from storage_schema.models.results import RunRow, Scalar
from storage_schema.runs.about import check_tag
from trajsvc.errors import UsageError
from trajsvc.measures.registry import MEASURES, compute
from trajsvc.results import answers
from trajsvc.results.conditions import Condition, Value, parse_conditions
from trajsvc.results.labels import plain

if TYPE_CHECKING:
    from trajsvc.results.run import Run

OWN: Final[Mapping[str, str]] = {
    "name": "run", "run": "run", "checkpoints": "checkpoints", "steps": "last_step", "first_step": "first_step", "last_step": "last_step",
    "axis": "axis", "parameters": "parameters", "architecture": "architecture", "source": "source", "updated": "updated",
    "estimate": "estimate", "tag": "tags", "tags": "tags", "notes": "notes", "bytes": "bytes", "size": "bytes",
}  # fmt: skip
"""Names of a run's own facts, and where its row has them. Hyperparameters of these names are written ``hyperparameters.NAME``."""
PREFIX: Final = "hyperparameters."
MEASURED: Final = frozenset(name for name, measure in MEASURES.items() if not measure.dims)
"""measures that are one number"""
_numbers: Final[LRUCache[tuple[str, ...], float | None]] = LRUCache(16_384)
_lock: Final = threading.Lock()


@dataclass(frozen=True)
class Listed:
    """A run in a list: its row, and the run for what is computed when it is asked for."""

    run: Run
    row: RunRow

    def value(self, field: str) -> Value:
        """Return a field of the run; None if the run does not have it."""
        if field in OWN:
            found: Value = getattr(self.row, OWN[field])
            return found
        if field in MEASURED:
            return self.measured_of([field])[field]
        return self.row.hyperparameters.get(field.removeprefix(PREFIX))

    def measured_of(
        self, names: Sequence[str], group: str = "network", steps: str | None = None
    ) -> dict[str, float | None]:
        """Return measures of a group that are one number, computed once for each state of a run."""
        keys = {name: (self.run.stored.digest, group, steps or "", name) for name in names}
        with _lock:
            known = {name: _numbers[key] for name, key in keys.items() if key in _numbers}
        missing = [name for name in names if name not in known]
        if missing:
            found = plain(compute(missing, self.run.gram(group, steps)))
            known |= {name: None if found[name] is None else float(found[name]) for name in missing}
            with _lock:
                _numbers.update({keys[name]: known[name] for name in missing})
        return {name: known[name] for name in names}


def listed(runs: Iterable[Run]) -> list[Listed]:
    """Return runs with their rows."""
    return [Listed(run, answers.run_row(run)) for run in runs]


def select(
    found: Sequence[Listed], where: Sequence[str] = (), sort: str | None = None, tags: Iterable[str] = ()
) -> list[Listed]:
    """Return the runs that meet all conditions ``where`` and have all ``tags``, sorted by the field ``sort`` (``-field``: the largest
    first; runs without it last).

    Raises UsageError (``bad-condition``, ``bad-field``, ``bad-tag``).
    """
    conditions, wanted = parse_conditions(where), {check_tag(tag) for tag in tags}
    check_fields(found, [*(c.field for c in conditions), *([sort.removeprefix("-")] if sort else [])])
    kept = [one for one in found if wanted <= set(one.row.tags)]
    # What is computed is asked of those only that meet the rest.
    for condition in sorted(conditions, key=lambda c: c.field in MEASURED):
        kept = [one for one in kept if _meets(one, condition)]
    return sorted_by(kept, sort) if sort else kept


def _meets(one: Listed, condition: Condition) -> bool:
    return condition.holds(one.value(condition.field))


def sorted_by(found: Sequence[Listed], sort: str) -> list[Listed]:
    """Sort by a field, numbers before texts; ``-field`` sorts the other way. Runs without it are last either way."""
    field = sort.removeprefix("-")
    having = [one for one in found if not _missing(one.value(field))]
    missing = [one for one in found if _missing(one.value(field))]
    return [*sorted(having, key=lambda one: _key(one.value(field)), reverse=sort.startswith("-")), *missing]


def _missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _key(value: Value) -> tuple[bool, float, str]:
    if isinstance(value, bool | int | float):
        return False, float(value), ""
    return True, 0.0, value if isinstance(value, str) else " ".join(value or ())


def check_fields(found: Sequence[Listed], fields: Iterable[str]) -> None:
    """Raise UsageError (``bad-field``) for a field that no run of ``found`` can have; it names those that are close."""
    own = {name for one in found for name in one.row.hyperparameters}
    known = [*OWN, *sorted(own), *sorted(MEASURED)]
    for field in fields:
        if field not in known and field.removeprefix(PREFIX) not in own and found:
            close = get_close_matches(field, known, n=3)
            meant = f"Did you mean {' or '.join(close)}? " if close else ""
            hint = f"{meant}Hyperparameters: {_some(sorted(own))}. Facts: {_some(list(OWN))}. Measures: {_some(sorted(MEASURED))}."
            if not own:
                hint += " trajsvc set RUN KEY=VALUE gives a run a hyperparameter."
            raise UsageError("bad-field", f"no run has a {field[:100]!r}", hint=hint)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") if names else "none"


def columns_in(text: str | None) -> list[str] | None:
    """Parse names of fields with commas between them; None for none. Raises UsageError (``bad-field``)."""
    if text is None:
        return None
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names or len(names) > 64:
        raise UsageError("bad-field", f"{len(names)} columns", hint="Name 1 to 64 fields: --columns name,steps,lr,mds")
    return names


def cells(one: Listed, columns: Sequence[str]) -> dict[str, Scalar | list[str] | None]:
    """Return the fields of a run by their names."""
    values = {name: one.value(name) for name in columns}
    return {k: list(v) if isinstance(v, list | tuple) else v for k, v in values.items()}  # type: ignore[misc]
