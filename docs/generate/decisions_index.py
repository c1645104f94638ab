"""The list of decision notes, from their files."""

from __future__ import annotations

from pathlib import Path

from markdown_text import page, table

FOLDER = Path(__file__).parents[1] / "decisions"
INTRO = "Why things are as they are: one short note for each decision. A later note may replace an earlier one."


def text() -> str:
    rows = (_row(path) for path in sorted(FOLDER.glob("[0-9]*.md")))
    return page("Decisions", INTRO, table(("note", "decision"), rows))


def _row(path: Path) -> tuple[str, str]:
    """(link to the note, its title without its number)."""
    title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
    number = path.name[:3]
    return f"[{number}]({path.name})", title.removeprefix(number).strip(" :")
