"""What is kept of an experiment: ``result.json`` and a page, ``result.md``, beside its figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trajsvc.experiments.base import Experiment, Verdict
from trajsvc.version import __version__

_SHOWN = 12
"""values of a list or table that a page shows"""


def keep(found: Experiment, verdict: Verdict, folder: Path, seeds: Sequence[int], scale: str) -> dict[str, Any]:
    """Write and return the result: claim, what was measured, the verdict, seeds, figures, settings and versions."""
    import numpy as np
    import torch

    answer = {
        "name": found.name,
        "claim": found.claim,
        "measured": dict(verdict.measured),
        "verdict": "reproduced" if verdict.reproduced else "not reproduced",
        "seeds": list(seeds),
        "figures": [str(figure) for figure in verdict.figures],
        "criterion": found.criterion,
        "notes": list(verdict.notes),
        "scale": scale,
        "settings": found.small,
        "versions": {
            "trajsvc": __version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
        },
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(answer, indent=1, allow_nan=False) + "\n", "utf-8")
    (folder / "result.md").write_text(page(found, answer), "utf-8")
    return answer


def page(found: Experiment, answer: Mapping[str, Any]) -> str:
    """Return an experiment's page in Markdown: claim, criterion, verdict, figures, values."""
    versions = ", ".join(f"{name} {version}" for name, version in answer["versions"].items())
    lines = [
        f"# {found.name}: {found.title}", "",
        f"*{found.paper}*, {found.figure}. **{answer['verdict'].capitalize()}** with {len(answer['seeds'])} seeds.", "",
        f"**Claim.** {found.claim}.", "", f"**Reproduced when** {found.criterion}.", "",
        f"**Here.** {found.small}.", "", f"**The paper.** {found.scale}.", "",
        *(f"![{Path(figure).stem}]({Path(figure).name})" for figure in answer["figures"]), "",
        "| measured | value |", "|---|---|",
        *(f"| {key.replace('_', ' ')} | {short(value)} |" for key, value in answer["measured"].items()), "",
        *(f"Note: {note}." for note in answer["notes"]),
        f"Made by `trajsvc experiment run {found.name} --seeds {len(answer['seeds'])}` with {versions}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def short(value: Any) -> str:
    """Return a measured value in a line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {short(v)}" for k, v in list(value.items())[:_SHOWN])
    if isinstance(value, list):
        return " ".join(short(v) for v in value[:_SHOWN]) + (" …" if len(value) > _SHOWN else "")
    return str(value)
