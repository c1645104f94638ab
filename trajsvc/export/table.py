"""A table to export: described columns, and rows that come in parts, so that a large one is never held whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

Kind = Literal["string", "integer", "number", "boolean"]
Part = Mapping[str, NDArray[Any]]
"""columns of equal length"""
Shown = Callable[[str, str], str]
"""given a column's name and a word of it, the word as it is shown"""
TYPES: Final[Mapping[Kind, Any]] = {"integer": np.int64, "number": np.float64, "boolean": np.bool_, "string": object}
_KINDS: Final[Mapping[Any, Kind]] = {str: "string", int: "integer", float: "number", bool: "boolean"}


@dataclass(frozen=True)
class Column:
    """A column. ``units`` is ``1`` for what has none and empty for words; an undefined number is NaN (an empty field in CSV)."""

    name: str
    kind: Kind = "number"
    units: str = "1"
    description: str = ""


@dataclass(frozen=True)
class Table:
    """A table of ``columns``, its rows from ``parts``, each call of which begins anew."""

    name: str
    description: str
    columns: Sequence[Column]
    parts: Callable[[], Iterable[Part]]

    def with_words(self, shown: Shown) -> Table:
        """Return the table with every word as ``shown(column, word)``."""
        words = [column.name for column in self.columns if column.kind == "string"]

        def parts() -> Iterator[Part]:
            for found in self.parts():
                cells = {n: np.array([shown(n, word) for word in found[n]], dtype=object) for n in words}
                yield {**found, **cells}

        return replace(self, parts=parts)


def part(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Part:
    """Return rows as columns of their types; None becomes NaN, an empty word, or False."""
    found = {}
    for k, column in enumerate(columns):
        cells = [row[k] for row in rows]
        empty = {"number": np.nan, "string": "", "integer": 0, "boolean": False}[column.kind]
        found[column.name] = np.array([empty if c is None else c for c in cells], dtype=TYPES[column.kind])
    return found


def of_records(
    name: str,
    description: str,
    kind: type[BaseModel],
    records: Callable[[], Sequence[BaseModel]],
    about: Mapping[str, Column],
) -> Table:
    """Return the table of pydantic records, a column a field; ``about`` describes those it knows. Lists are JSON in one cell.

    A whole number that may be missing is a number, so that it can be NaN.
    """
    columns = []
    for field, info in kind.model_fields.items():
        options = [a for a in (get_args(info.annotation) or (info.annotation,)) if a is not NoneType]
        found: Kind = _KINDS.get(options[0], "string") if len(options) == 1 else "string"
        if found == "integer" and NoneType in get_args(info.annotation):
            found = "number"
        known = about.get(field)
        units = known.units if known else "" if found in ("string", "boolean") else "1"
        columns.append(Column(field, found, units, known.description if known else ""))

    def parts() -> Iterator[Part]:
        yield part(columns, [[_cell(getattr(record, c.name)) for c in columns] for record in records()])

    return Table(name, description, columns, parts)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value
