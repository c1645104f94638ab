"""Results of experiments in a store.

::

    <store>/experiments/NAME.json              the last result (``ExperimentResult``)
    <store>/experiments/NAME/<digest>-FIGURE   its figures

Figures are durable before the result that names them replaces the old one; those of the old one are removed after. A reader that has a
result finds its figures, or the result of another writer in its place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from storage_schema.files.durable import make_dir, replace_file, writing
from storage_schema.files.regular import read_file
from storage_schema.format.names import check_name
from storage_schema.models.experiments import ExperimentFigure, ExperimentResult
from storage_schema.runs.store import RunStore
from trajsvc.errors import DamagedStore, NotFound

FOLDER: Final = "experiments"
VERSION: Final = 1


def save_result(store: Path, facts: dict[str, Any], figures: Iterable[Path]) -> ExperimentResult:
    """Keep a result and copies of its figures as the experiment's last one. ``facts`` are the fields but ``figures``.

    Raises what writing a store raises.
    """
    RunStore(store).make()
    place = _file(store, facts["name"])
    folder = place.with_suffix("")
    with writing(place):
        make_dir(folder)
        kept = []
        for figure in figures:
            data = read_file(figure)
            digest = hashlib.sha256(data).hexdigest()
            replace_file(folder / _stored(figure.name, digest), data)
            kept.append(ExperimentFigure(file=figure.name, sha256=digest))
        result = ExperimentResult(**facts, figures=kept)
        text = json.dumps({"version": VERSION, "result": result.model_dump(mode="json")}, allow_nan=False, indent=1)
        replace_file(place, text.encode() + b"\n")
        named = {_stored(f.file, f.sha256) for f in kept}
        for old in folder.iterdir():
            if old.name not in named:
                old.unlink(missing_ok=True)
    return result


def result_names(store: str | os.PathLike[str]) -> list[str]:
    """Return the experiments that the store has results of, sorted."""
    return sorted(path.stem for path in (Path(store) / FOLDER).glob("[!.]*.json"))


def open_result(store: str | os.PathLike[str], name: str) -> ExperimentResult:
    """Read the last result of an experiment.

    Raises NotFound (``experiment-not-run``) and DamagedStore (``experiment-damaged``).
    """
    path = _file(Path(store), name)
    try:
        data = read_file(path)
    except FileNotFoundError:
        hint = f"`trajsvc experiment run {name}` makes one."
        raise NotFound("experiment-not-run", f"the store has no result of the experiment {name}", hint=hint) from None
    again = f"`trajsvc experiment run {name}` writes it anew; the stored file may be removed."
    try:
        kept = json.loads(data)
        if (version := kept["version"]) == VERSION:
            return ExperimentResult.model_validate(kept["result"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise DamagedStore(
            "experiment-damaged", f"the result of {name} cannot be read", hint=again, file=path
        ) from error
    raise DamagedStore("experiment-damaged", f"the result of {name} is of format {version!r}", hint=again, file=path)


def last_result(store: str | os.PathLike[str], name: str) -> ExperimentResult | None:
    """Return the last result of an experiment, None where there is none. Raises DamagedStore (``experiment-damaged``)."""
    with suppress(NotFound):
        return open_result(store, name)
    return None


def figure_bytes(store: str | os.PathLike[str], result: ExperimentResult, file: str) -> bytes:
    """Read a figure of a result.

    Raises NotFound (``figure-not-found``), where another result has replaced it too, and DamagedStore (``experiment-damaged``).
    """
    for figure in result.figures:
        if figure.file != file:
            continue
        path = _file(Path(store), result.name).with_suffix("") / _stored(figure.file, figure.sha256)
        try:
            data = read_file(path)
        except FileNotFoundError:
            break
        if hashlib.sha256(data).hexdigest() != figure.sha256:
            again = f"`trajsvc experiment run {result.name}` draws it anew."
            raise DamagedStore(
                "experiment-damaged", f"the figure {file} is not as it was written", hint=again, file=path
            )
        return data
    there = ", ".join(f.file for f in result.figures)
    raise NotFound(
        "figure-not-found",
        f"{result.name} has no figure {file!r}",
        hint=f"It has {there}." if there else "It has none.",
    )


def _file(store: Path, name: str) -> Path:
    return store / FOLDER / f"{check_name(name)}.json"


def _stored(file: str, digest: str) -> str:
    return f"{digest[:16]}-{file}"
