"""docs/architecture.md names files that exist, and every package of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("trajsvc", "workers", "api", "storage_schema")
NAMED = re.compile(r"`((?:trajsvc|workers|api|storage_schema|tests|docs|benchmarks|examples)/[\w./-]*)`")
PAGES = (
    ROOT / "docs" / "architecture.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    missing = sorted({name for name in NAMED.findall(page.read_text("utf-8")) if not (ROOT / name).exists()})
    assert not missing, f"{page.relative_to(ROOT)} names {missing}: correct the paths"


def test_every_package_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms = {
        p.parent.relative_to(ROOT).as_posix() for room in ROOMS for p in (ROOT / room).glob("*/__init__.py")
    } | set(ROOMS)
    rooms -= {"storage_schema/migrations", "trajsvc"}
    missing = sorted(room for room in rooms if f"`{room}/`" not in text)
    assert not missing, f"say in docs/architecture.md what {missing} hold"
