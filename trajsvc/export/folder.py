"""Write the tables of a run to a folder, which appears whole, with a manifest that describes every column."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from storage_schema.files.outputs import whole_folder, writing_result
from trajsvc.errors import Refused, UsageError
from trajsvc.export.of_beside import gradient_table, spectrum_tables
from trajsvc.export.of_run import describe, run_tables
from trajsvc.export.table import Shown, Table
from trajsvc.export.writers import WRITERS
from trajsvc.results.group_globs import chosen_groups
from trajsvc.version import __version__

if TYPE_CHECKING:
    from trajsvc.results.measure_methods import Steps
    from trajsvc.results.run import Run

FORMATS: Final = tuple(WRITERS)
MANIFEST: Final = "manifest.json"
VERSION: Final = 1
"""of the manifest's shape"""


def export_run(
    run: Run,
    folder: str | os.PathLike[str],
    format: str = "csv",
    groups: Sequence[str] | None = None,
    steps: Steps = None,
    *,
    shown: Shown | None = None,
) -> dict[str, Any]:
    """Write everything of a run as tables to ``folder``, a new or an empty one, and return the manifest.

    Args:
        format: ``csv``, ``parquet`` (needs pyarrow) or ``npz``.
        groups: ids or globs of the groups of measures and maps; by default all but single tensors.
        steps: a selection of checkpoints.
        shown: given a column's name and a word, the word as it is written; of a server, without its folders.

    Raises:
        UsageError: ``bad-format``, ``extra-missing``.
        NotFound: ``group-not-found``, ``step-not-found``.
        Refused: ``output-exists`` for a folder that has something in it.
        TrajsvcError: ``cannot-write``, ``disk-full``.
    """
    if format not in WRITERS:
        raise UsageError("bad-format", f"no format {format!r}", hint=f"use one of {', '.join(FORMATS)}")
    target, chosen = Path(folder), chosen_groups(run, groups)
    numbers = run.gram("network", steps).steps.tolist()
    with writing_result(target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            hint = "Name a folder that does not exist yet, or an empty one."
            raise Refused("output-exists", f"{target} exists", hint=hint)
    with whole_folder(target) as place:
        written = []
        for table in _tables(run, chosen, steps):
            file = f"{table.name}.{format}"
            rows = WRITERS[format](table if shown is None else table.with_words(shown), place / file)
            columns = describe(table.columns)
            written.append(
                {"name": table.name, "file": file, "description": table.description, "rows": rows, "columns": columns}
            )
        manifest = {
            "manifest": VERSION,
            "trajsvc": __version__,
            "run": run.name,
            "source": run.source if shown is None else shown("source", run.source),
            "parameters": run.parameters,
            "axis": run.axis,
            "steps": numbers,
            "estimate": run.estimate,
            "format": format,
            "groups": chosen,
            "tables": written,
        }
        (place / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return manifest


def _tables(run: Run, groups: Sequence[str], steps: Steps) -> Iterator[Table]:
    yield from run_tables(run, groups, steps)
    gradients = gradient_table(run, groups)
    if gradients is not None:
        yield gradients
    yield from spectrum_tables(run)
