"""What is kept of an experiment: in the store, and as ``result.json`` and a page, ``result.md``, beside its figures."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage_schema.models.experiments import ExperimentResult
from storage_schema.runs.store import RunStore
from trajsvc.experiments.base import Experiment, Verdict
from trajsvc.experiments.kept import save_result
from trajsvc.experiments.paper_scale import PAPER_SCALES
from trajsvc.families.file import family_names
from trajsvc.version import __version__

_SHOWN = 12
"""values of a list or table that a page shows"""


def tag_of(experiment: str) -> str:
    """Return the tag of the runs of an experiment."""
    return f"experiment:{experiment}"


def family_of(experiment: str) -> str:
    """Return the name of the family of the trainings of an experiment."""
    return f"experiment-{experiment}"


def keep(
    found: Experiment, verdict: Verdict, folder: Path, store: Path, seeds: Sequence[int], scale: str, seconds: float
) -> ExperimentResult:  # fmt: skip
    """Keep the result in the store, write it to the folder, and return it: claim, what was measured, verdict, seeds, settings, versions."""
    import numpy as np
    import torch

    runs, tag, family = RunStore(store), tag_of(found.name), family_of(found.name)
    facts: dict[str, Any] = {
        "name": found.name, "title": found.title, "paper": found.paper, "figure": found.figure, "claim": found.claim,
        "criterion": found.criterion, "measured": dict(verdict.measured),
        "verdict": "reproduced" if verdict.reproduced else "not reproduced", "notes": list(verdict.notes), "seeds": list(seeds),
        "scale": scale, "settings": _scaled(found) if scale == "paper" else found.small, "paper_settings": found.scale,
        "versions": {
            "trajsvc": __version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
        },
        "seconds": round(seconds, 1), "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "family": family if family in family_names(store) else None,
        "runs": [name for name in runs.names() if tag in runs.open(name).tags],
    }  # fmt: skip
    result = save_result(store, facts, verdict.figures)
    (folder / "result.json").write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    (folder / "result.md").write_text(page(result), "utf-8")
    return result


def _scaled(found: Experiment) -> str:
    """Return what was trained at the scale of the paper."""
    told = PAPER_SCALES.get(found.name)
    return found.scale if told is None else told.run_here


def page(result: ExperimentResult) -> str:
    """Return a result's page in Markdown: claim, criterion, verdict, figures, values."""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    options = f"--seeds {len(result.seeds)}" + ("" if result.scale == "small" else f" --scale {result.scale}")
    lines = [
        f"# {result.name}: {result.title}", "",
        f"*{result.paper}*, {result.figure}. **{result.verdict.capitalize()}** with {len(result.seeds)} seeds.", "",
        f"**Claim.** {result.claim}.", "", f"**Reproduced when** {result.criterion}.", "",
        f"**Here.** {result.settings}.", "", f"**The paper.** {result.paper_settings}.", "",
        *(f"![{Path(figure.file).stem}]({figure.file})" for figure in result.figures), "",
        "| measured | value |", "|---|---|",
        *(f"| {key.replace('_', ' ')} | {short(value)} |" for key, value in result.measured.items()), "",
        *(f"Note: {note}." for note in result.notes),
        f"Made by `trajsvc experiment run {result.name} {options}` with {versions}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def short(value: Any) -> str:
    """Return a measured value in a line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {short(v)}" for k, v in list(value.items())[:_SHOWN])
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return "; ".join(short(v) for v in value[:_SHOWN]) + (" …" if len(value) > _SHOWN else "")
    if isinstance(value, list):
        return (" ".join(short(v) for v in value[:_SHOWN]) + (" …" if len(value) > _SHOWN else "")) or "none"
    return str(value)
