"""Answers that are lists or dictionaries and can be taken as tables: ``to_dataframe()`` beside what Python has of them.

::

    run.phases("layer/3").to_dataframe()
    run.measures(names=["mds", "update_norm"]).to_dataframe()     # the rows of ``--format csv``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]


class Records(list[T]):
    """A list of records: dataclasses, pydantic models or dictionaries with the same fields."""

    def to_dataframe(self) -> DataFrame:
        """Return a row a record, a column a field; empty and without columns if there is no record."""
        from pandas import DataFrame

        return DataFrame([_fields(record) for record in self])


class NamedRecords(dict[str, T]):
    """Records by their names."""

    def to_dataframe(self) -> DataFrame:
        """Return a row a record, the names as the index."""
        from pandas import DataFrame

        return DataFrame([_fields(record) for record in self.values()], index=list(self))


class LongTable(dict[str, Any]):
    """An answer as JSON has it, that is also a table with one row for every number."""

    def __init__(self, answer: Mapping[str, Any], columns: Sequence[str], rows: Callable[[], Rows]) -> None:
        super().__init__(answer)
        self._columns, self._rows = list(columns), rows

    def to_dataframe(self) -> DataFrame:
        """Return one row for every number, the columns those of ``--format csv``; an undefined number is NaN."""
        from pandas import DataFrame

        frame = DataFrame(list(self._rows()), columns=self._columns)
        return frame.astype({"value": "float64"})


def _fields(record: Any) -> dict[str, Any]:
    if is_dataclass(record) and not isinstance(record, type):
        return asdict(record)
    return dict(record.model_dump()) if hasattr(record, "model_dump") else dict(record)
