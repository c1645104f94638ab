"""A module lies in a room; at the top of the package stands only what all rooms share."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "trajsvc"
SHARED = {"__init__", "__main__", "client", "errors", "logs", "settings", "steps", "version"}


def test_nothing_lies_outside_the_rooms() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == SHARED
