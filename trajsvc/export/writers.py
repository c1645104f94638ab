"""Write tables as CSV, Parquet or npz; CSV and Parquet a part at a time, npz whole, as its format wants."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from trajsvc.errors import UsageError
from trajsvc.export.table import TYPES, Part, Table

ROW_GROUP: Final = 2**16
"""rows that are written to Parquet together, at least"""


def write_csv(table: Table, path: Path) -> int:
    """Write UTF-8 with a header and every digit; an undefined number is an empty field. Return the number of rows."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.name for column in table.columns])
        for part in table.parts():
            columns = [part[column.name].tolist() for column in table.columns]
            rows = list(zip(*columns, strict=True))
            writer.writerows([["" if cell != cell else cell for cell in row] for row in rows])
            count += len(rows)
    return count


def write_parquet(table: Table, path: Path) -> int:
    """Write Parquet with units and description in the metadata of each field. Return the number of rows.

    Raises UsageError (``extra-missing``).
    """
    arrow, parquet = _arrow()
    types = {"integer": arrow.int64(), "number": arrow.float64(), "boolean": arrow.bool_(), "string": arrow.string()}
    schema = arrow.schema(
        [
            arrow.field(c.name, types[c.kind], metadata={"units": c.units, "description": c.description})
            for c in table.columns
        ]
    )
    count = 0
    with parquet.ParquetWriter(path, schema) as out:
        for part in _joined(table.parts()):
            arrays = [arrow.array(part[field.name], type=field.type) for field in schema]
            out.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            count += len(arrays[0])
    return count


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Join small parts, for a row group of Parquet costs kilobytes of its own."""
    held: list[Part] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += len(next(iter(part.values())))
        if rows >= ROW_GROUP:
            yield {name: np.concatenate([p[name] for p in held]) for name in held[0]}
            held, rows = [], 0
    if held:
        yield {name: np.concatenate([p[name] for p in held]) for name in held[0]}


def write_npz(table: Table, path: Path) -> int:
    """Write one array a column, compressed; words as arrays of strings. Return the number of rows."""
    parts = list(table.parts())
    arrays = {}
    for column in table.columns:
        found = [part[column.name] for part in parts] or [np.zeros(0, dtype=TYPES[column.kind])]
        joined = np.concatenate(found)
        arrays[column.name] = joined.astype(np.str_) if column.kind == "string" else joined
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:  # not numpy.savez: a column may be called ``file``
        for name, array in arrays.items():
            with out.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return len(next(iter(arrays.values())))


WRITERS: Final[Mapping[str, Callable[[Table, Path], int]]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "npz": write_npz,
}


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        hint = "pip install 'trajsvc[parquet]' installs it; --format csv and npz need nothing."
        raise UsageError(
            "extra-missing", "Parquet needs the package pyarrow, which is not installed", hint=hint
        ) from error
    return pyarrow, pyarrow.parquet
