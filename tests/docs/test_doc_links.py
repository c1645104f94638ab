"""Links between files of the documentation lead to files and headings that exist."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BESIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md", "examples/README.md")
PAGES = sorted([*(ROOT / name for name in BESIDE), *(ROOT / "docs").rglob("*.md")])
GENERATED = ("docs/reference/", "docs/decisions/index.md")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def links(text: str) -> list[str]:
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [link for link in LINK.findall(plain) if "://" not in link and not link.startswith("mailto:")]


def anchors(text: str) -> set[str]:
    """Ids of a page's headings, as Markdown's table of contents makes them."""
    found = set(re.findall(r"\{ #([\w-]+) \}", text))
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", plain, re.MULTILINE):
        ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_a_page_resolve(page: Path, site: Path) -> None:
    for link in links(page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        relative = str(target.relative_to(ROOT))
        if relative.startswith(GENERATED):
            target = site / relative.removeprefix("docs/")
        assert target.exists(), f"{page.relative_to(ROOT)}: {link} leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text("utf-8")), f"{page.relative_to(ROOT)}: {link} has no such heading"
