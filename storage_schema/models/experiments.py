"""What is kept and said of an experiment: its claim, what was measured, and the verdict (pydantic models)."""

from __future__ import annotations

from typing import Any, Literal

from storage_schema.models.results import Answer

Outcome = Literal["reproduced", "not reproduced"]


class ExperimentFigure(Answer):
    """A figure of a result."""

    file: str
    """its name, such as ``h7-maps.png``"""
    sha256: str


class ExperimentResult(Answer):
    """The last result of an experiment, as the store keeps it."""

    name: str
    title: str
    paper: str
    figure: str
    """of the paper"""
    claim: str
    criterion: str
    """when the claim counts as reproduced"""
    measured: dict[str, Any]
    verdict: Outcome
    notes: list[str]
    """what else the claim says and did not come out, or was not tried"""
    seeds: list[int]
    scale: Literal["small", "brief", "paper"]
    settings: str
    """of this scale"""
    paper_settings: str
    versions: dict[str, str]
    seconds: float
    """that the recipe took"""
    made: str
    """when, in UTC"""
    family: str | None
    """in the same store; None where nothing was trained"""
    runs: list[str]
    """that are tagged ``experiment:NAME``"""
    figures: list[ExperimentFigure]


class ExperimentRow(Answer):
    """An experiment in a list, and the verdict of its last result."""

    name: str
    title: str
    paper: str
    figure: str
    claim: str
    verdict: Outcome | None
    """None where the store has no result of it"""
    seeds: list[int] | None
    scale: str | None
    made: str | None
