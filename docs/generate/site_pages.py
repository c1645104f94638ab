"""The pages of the site: which files of the repository they come from, and their links.

Links in the sources are those that work in the repository. On the site they are rewritten to the page that the file became; a link to a
file that is no page of the site is an error.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BESIDE: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "LICENSE",
    "api/openapi.json": "openapi.json",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
}
"""files outside docs/ that are part of the site"""
KEPT: Final = (".md", ".png", ".svg")
LINK: Final = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
FENCE: Final = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """{path in the repository: path on the site} of every file that is copied."""
    found = dict(BESIDE)
    for path in sorted((ROOT / "docs").rglob("*")):
        relative = path.relative_to(ROOT).as_posix()
        if path.suffix in KEPT and not relative.startswith("docs/generate/"):
            found[relative] = relative.removeprefix("docs/")
    return found


def write(target: Path, references: dict[str, str | bytes]) -> None:
    """Write the site's sources to the folder ``target``, which is replaced.

    ``references`` are generated: {path on the site: text, or the bytes of a picture}.

    Raises SystemExit where a link leads to a file that is not on the site.
    """
    shutil.rmtree(target, ignore_errors=True)
    known = pages()
    places = {**known, **{f"docs/{name}": name for name in references}, "docs/decisions": "decisions/index.md"}
    places["examples/first-look.ipynb"] = "first-look.md"
    for source, place in known.items():
        goal = target / place
        goal.parent.mkdir(parents=True, exist_ok=True)
        if goal.suffix == ".md":
            goal.write_text(relinked((ROOT / source).read_text("utf-8"), source, places), "utf-8")
        else:
            shutil.copyfile(ROOT / source, goal)
    for place, text in references.items():
        goal = target / place
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_bytes(text.encode() if isinstance(text, str) else text)


def relinked(text: str, source: str, places: dict[str, str]) -> str:
    """``text`` of the file ``source`` with links between files of the repository as links between pages of the site."""

    def target(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        path, mark, anchor = link.partition("#")
        if "://" in link or link.startswith(("#", "mailto:")):
            return match[0]
        full = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if full not in places:
            raise SystemExit(
                f"{source}: the link {link} leads to {full}, which is no page of the site (docs/generate/site_pages.py)"
            )
        here = posixpath.dirname(places[source])
        return f"{before}{posixpath.relpath(places[full], here or '.')}{mark}{anchor}{after}"

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(target, part) for part in parts)
