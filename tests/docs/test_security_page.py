"""SECURITY.md's table of attacks: every row names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| (?P<attack>[^|]+) \| (?P<outcome>[^|]+) \| `(?P<test>tests/[\w/]+\.py(?:::\w+)*)` \|$", re.MULTILINE
)
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
TABLE = PAGE.partition("## Attacks and their outcome")[2].partition("\n## ")[0]
ROWS = [m.groupdict() for m in ROW.finditer(TABLE)]


def test_every_row_is_read() -> None:
    lines = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith("| attack ")]
    assert len(lines) == len(ROWS) > 40, "a row of the table has another form"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["attack"])
def test_a_row_names_a_test_that_exists(row: dict[str, str]) -> None:
    place, *names = row["test"].split("::")
    path = ROOT / place
    assert path.is_file(), f"{place} is gone"
    tree: ast.Module | ast.ClassDef = ast.parse(path.read_text("utf-8"))
    for name in names:
        found = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name]
        assert found, f"{place} has no {name}"
        tree = found[0] if isinstance(found[0], ast.ClassDef) else tree


def test_no_attack_stands_twice() -> None:
    attacks = [row["attack"] for row in ROWS]
    assert len(set(attacks)) == len(attacks)
