"""Write a run as one HTML file: the page of ``trajsvc serve`` with its modules and the run's data inlined, to open from
disk and to send.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

import api
from storage_schema.models.service import RunAnswer
from trajsvc.cli.output import write_file
from trajsvc.results import answers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trajsvc.measures.base import GroupGram
    from trajsvc.results.run import Run

WEB: Final = Path(api.__file__).resolve().parent / "web"
ROOM: Final = 4 * 10**6
"""bytes of Grams that a report holds at most: the network and its layers come first, then components, then parts of layers"""
ROUNDED: Final = 2.0**-16
"""what rounding the cosines of a Gram to 16 bits makes of its relative error"""
_IMPORT: Final = re.compile(r"""(\bfrom\s*|\bimport\s*\(\s*|^import\s+)(["'])(\.{1,2}/[^"']+)\2""", re.MULTILINE)

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<!-- trajsvc, Apache-2.0. Contains uPlot, copyright (c) 2025 Leon Sorokin, MIT licence. -->
<style>
{styles}
</style>
<script type="importmap">{imports}</script>
<script type="application/json" id="report-data">{data}</script>
<script type="module">import "trajsvc/main.js";</script>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header id="top"></header>
<main id="content" tabindex="-1"><p class="empty">Loading…</p></main>
<div id="said" class="hidden" role="status" aria-live="polite"></div>
</body>
</html>
"""


def write_report(run: Run, output: Path, *, room: int = ROOM, quiet: bool = False) -> None:
    """Write the report of ``run``, with at most ``room`` bytes of Grams; an old file stays until the new one is whole.

    Raises TrajsvcError (``cannot-write``).
    """
    text = report(run, room)
    write_file(output, lambda out: out.write(text.encode()), quiet=quiet)


def report(run: Run, room: int = ROOM) -> str:
    """Return the report of ``run`` as HTML."""
    styles = [_read("vendor/uplot/uPlot.min.css"), _read("style.css")]
    return _PAGE.format(
        title=_escaped(f"{run.name} · trajsvc"),
        styles="\n".join(styles).replace("</", "<\\/"),
        imports=_json({"imports": modules()}),
        data=_json(contents(run, room)),
    )


def modules() -> dict[str, str]:
    """Return every module of the page by name, as a data URL; the modules import one another by these names."""
    found = {}
    for path in sorted(WEB.rglob("*.js")):
        place = path.relative_to(WEB).as_posix()
        source = _renamed(place, path.read_text("utf-8"))
        encoded = base64.b64encode(source.encode()).decode()
        found[f"trajsvc/{place}"] = f"data:text/javascript;charset=utf-8;base64,{encoded}"
    return found


def contents(run: Run, room: int = ROOM) -> dict[str, Any]:
    """Return what the page requests from a server about this run."""
    chosen, rounded = _groups(run, room)
    row = answers.run_row(run)
    answer = RunAnswer(
        run=run.name,
        row=row,
        digest=run.stored.digest,
        generation=run.stored.generation,
        attributes={},
        hyperparameters=run.hyperparameter_rows,
        links={},
    )
    return {
        "run": run.name,
        "answer": answer.model_dump(),
        "summary": answers.summary(run).model_dump(),
        "checkpoints": [c.model_dump(exclude={"files"}) for c in answers.checkpoints(run)],
        "groups": [g.model_dump() for g in answers.groups(run) if g.id in chosen],
        "phases": {g: [p.model_dump() for p in answers.phases(run, g)] for g in chosen},
        "steps": run.gram().steps.tolist(),
        "grams": {g: (_rounded if g in rounded else _packed)(run.gram(g)) for g in chosen},
    }


def _groups(run: Run, room: int) -> tuple[list[str], set[str]]:
    """Return the groups that a report holds, those that the page shows first, and which of them are rounded: all but the network where not
    all fit exactly. Tensors are left out.
    """
    known = [g for g in run.groups() if not g.startswith("tensor/")]
    count = len(run.steps)
    exact = count * (count + 1) // 2 * 8 * 4 // 3 + 1

    def rank(group: str) -> int:
        if group.startswith("network"):
            return 0
        return 2 if group.startswith("component/") else 3 if group.count("/") > 1 else 1

    rounded = {g for g in known if rank(g) and _can_round(run.gram(g))} if exact * len(known) > room else set()
    kept: set[str] = set()
    for group in sorted(known, key=rank):
        room -= exact // 4 + count * 11 if group in rounded else exact
        if room < 0 and kept:
            break
        kept.add(group)
    return [g for g in known if g in kept], rounded & kept


def _can_round(gram: GroupGram) -> bool:
    return not gram.trees and bool(np.isfinite(gram.gram).all())


def _rounded(gram: GroupGram) -> dict[str, Any]:
    """Return a Gram as the norms of its vectors and the cosines between them, these in 16 bits: a quarter of the bytes, five digits."""
    norms = np.sqrt(np.diag(gram.gram))
    sizes = np.outer(norms, norms)
    cosines = np.divide(gram.gram, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    whole = np.rint(np.clip(cosines, -1.0, 1.0) * 32767)[np.triu_indices(len(norms))].astype("<i2")
    return {
        **_packed(gram), "gram": "", "norms": _base64(norms), "cosines": base64.b64encode(whole.tobytes()).decode(),
        "error": max(gram.error, ROUNDED),
    }  # fmt: skip


def _packed(gram: GroupGram) -> dict[str, Any]:
    upper = gram.gram[np.triu_indices(len(gram.steps))]
    trees = {
        "trees": [{"starts": tree.starts.tolist(), "gram": _base64(tree.gram)} for tree in gram.trees],
        "at": gram.at.tolist(),
        "scale": gram.scale,
    }
    return {
        **(trees if gram.trees else {}),
        "gram": _base64(upper),
        "rounding": _base64(gram.rounding),
        "parameters": gram.parameters,
        "error": gram.error,
        "same": None if gram.same is None else gram.same.tolist(),
    }


def _base64(values: NDArray[np.float64]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode()


def _json(value: Any) -> str:
    """Encode JSON for a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _replaced(text, (("<", "\\u003c"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")))


def _escaped(text: str) -> str:
    return _replaced(text, (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")))


def _replaced(text: str, pairs: Iterable[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _renamed(place: str, source: str) -> str:
    return _IMPORT.sub(lambda m: f"{m[1]}{m[2]}{_name(place, m[3])}{m[2]}", source)


def _name(place: str, relative: str) -> str:
    parts: list[str] = list(PurePosixPath(place).parent.parts)
    for part in PurePosixPath(relative).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(["trajsvc", *parts])


def _read(name: str) -> str:
    return (WEB / name).read_text("utf-8")
