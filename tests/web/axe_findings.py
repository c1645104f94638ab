"""What axe finds on a page: everything that keeps people who cannot see or point from using it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AXE = Path(__file__).parent / "vendor" / "axe.min.js"


def findings(page: Any, *rules: str) -> list[Any]:
    """All its findings, whatever their impact, each with the first elements; of some ``rules`` only, where they are named."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    only = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    found = page.evaluate("(only) => axe.run(document, {resultTypes: ['violations'], ...only})", only)
    return [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found["violations"]]
