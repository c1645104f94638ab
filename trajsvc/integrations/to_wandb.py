"""Log a run to Weights & Biases; with ``WANDB_MODE=offline`` to files that ``wandb sync`` sends later."""

from __future__ import annotations

import tempfile
from pathlib import Path

from trajsvc.integrations.content import Content


def send(content: Content, project: str) -> str:
    """Log curves by step, figures, and the numbers as the run's summary; return its address, or its folder where it is offline."""
    import wandb

    settings = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True)
    run = wandb.init(
        project=project, name=content.run, config=dict(content.facts), job_type="trajsvc", settings=settings
    )
    try:
        for step, values in content.by_step():
            run.log(values, step=step)
        with tempfile.TemporaryDirectory(prefix="trajsvc-wandb-") as folder:
            pictures = {}
            for name, png in content.pictures.items():
                path = Path(folder) / f"{name}.png"
                path.write_bytes(png)
                pictures[f"figures/{name}"] = wandb.Image(str(path))
            if pictures:
                run.log(pictures, step=content.last_step)
        run.summary.update(dict(content.numbers))
        place = run.url or str(run.dir).removesuffix("/files")
    finally:
        run.finish()
    return str(place)
