"""The notebooks under examples/, executed: what their cells print, show and draw stands on the page as it came.

A cell that raises ends the build. Each notebook runs in an empty folder beside the example run.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from markdown_text import NOTICE, code

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
NOTEBOOKS: Final = ("first-look",)
SECONDS: Final = 300
"""for one cell"""


def pages() -> dict[str, str | bytes]:
    """{path on the site: text of a page, or bytes of its pictures} of all notebooks."""
    found: dict[str, str | bytes] = {}
    for name in NOTEBOOKS:
        pictures: dict[str, bytes] = {}
        text = "\n\n".join(_cells(executed(EXAMPLES / f"{name}.ipynb"), name, pictures))
        found[f"{name}.md"] = f"{NOTICE}\n\n{text}\n"
        found |= pictures
    return found


def executed(path: Path) -> Any:
    """Return the notebook with the outputs of its cells. Raises nbclient's CellExecutionError."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="trajsvc-notebook-") as folder:
        for run in EXAMPLES.iterdir():
            if run.is_dir():
                (Path(folder) / run.name).symlink_to(run)
        NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": folder}}).execute()
    return notebook


def _cells(notebook: Any, name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield cell.source
        elif cell.cell_type == "code":
            yield code(cell.source, "python").strip()
            yield from _outputs(cell.outputs, name, pictures)


def _outputs(outputs: Sequence[Mapping[str, Any]], name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            place = f"{name}-{len(pictures) + 1}.png"
            pictures[place] = base64.b64decode(data["image/png"])
            yield f"![What the cell draws]({place})"
        elif "text/html" in data:
            lines = (
                line for line in data["text/html"].splitlines() if line.strip()
            )  # a blank line ends HTML in Markdown
            yield "<div>\n" + "\n".join(lines) + "\n</div>"
        elif text := output.get("text") or data.get("text/plain"):
            yield code(text, "text").strip()
