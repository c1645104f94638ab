"""Log a run to trackio: the files of ``TRACKIO_DIR``, or the space that trackio's own settings name."""

from __future__ import annotations

import tempfile
from pathlib import Path

from trajsvc.integrations.content import Content


def send(content: Content, project: str) -> str:
    """Log curves by step, the numbers at the last step, and figures; return project and run, for ``trackio show``."""
    import trackio

    trackio.init(project=project, name=content.run, config=dict(content.facts), embed=False)
    try:
        for step, values in content.by_step():
            trackio.log(values, step=step)
        with tempfile.TemporaryDirectory(prefix="trajsvc-trackio-") as folder:
            last: dict[str, object] = dict(content.numbers)
            for name, png in content.pictures.items():
                path = Path(folder) / f"{name}.png"
                path.write_bytes(png)
                last[f"figures/{name}"] = trackio.Image(str(path))
            trackio.log(last, step=content.last_step)
    finally:
        trackio.finish()
    return f"project {project}, run {content.run}"
