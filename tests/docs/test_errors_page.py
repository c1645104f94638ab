"""docs/errors.md has every error kind, in the section of its exit code and HTTP status, with when it is raised and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage_schema.error_kinds import KINDS, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
SECTION = re.compile(r"## Exit code (\d+), HTTP (\d+): ")


@dataclass(frozen=True)
class Row:
    kind: str
    outcome: Outcome
    when: str
    action: str


def rows() -> list[Row]:
    """The rows of the page's tables, in order."""
    found: list[Row] = []
    outcome: Outcome | None = None
    for line in PAGE.read_text("utf-8").splitlines():
        if match := SECTION.match(line):
            outcome = Outcome(int(match[1]), int(match[2]))
        elif line.startswith("| `") and outcome is not None:
            kind, when, action = (cell.strip() for cell in line.strip("|").split(" | "))
            found.append(Row(kind.strip("` "), outcome, when, action.strip("| ")))
    return found


ROWS = rows()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_one_row_in_the_section_of_its_outcome(kind: str) -> None:
    outcome = KINDS[kind]
    section = f"## Exit code {outcome.exit_code}, HTTP {outcome.status}: …"
    found = [row for row in ROWS if row.kind == kind]
    assert found, f"add to docs/errors.md, under {section!r}:  | `{kind}` | <when it is raised> | <what to do> |"
    assert len(found) == 1, f"docs/errors.md has {len(found)} rows for {kind}"
    assert found[0].outcome == outcome, f"move the row of {kind} in docs/errors.md to {section!r}"
    assert found[0].when, f"say in docs/errors.md when {kind} is raised"
    assert found[0].action, f"say in docs/errors.md what to do about {kind}"


def test_the_page_has_no_kind_that_does_not_exist() -> None:
    unknown = sorted({row.kind for row in ROWS} - KINDS.keys())
    assert not unknown, f"docs/errors.md describes {unknown}, which storage_schema/error_kinds.py does not have"


def test_rows_are_in_alphabetical_order() -> None:
    for outcome in dict.fromkeys(row.outcome for row in ROWS):
        kinds = [row.kind for row in ROWS if row.outcome == outcome]
        assert kinds == sorted(kinds), f"sort the rows of exit code {outcome.exit_code}, HTTP {outcome.status}"
