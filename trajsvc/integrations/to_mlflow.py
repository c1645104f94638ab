"""Log a run to MLflow: the server or file of ``MLFLOW_TRACKING_URI``, else MLflow's default."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Final

from trajsvc.integrations.content import Content

BATCH: Final = 1000
"""metrics that MLflow takes at once, at most"""


def send(content: Content, project: str) -> str:
    """Log parameters, metrics by step and figures as a run of the experiment ``project``; return experiment and run."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient()
    experiment = client.get_experiment_by_name(project)
    place = experiment.experiment_id if experiment is not None else client.create_experiment(project)
    run = client.create_run(place, run_name=content.run, tags={"trajsvc.run": content.run}).info.run_id
    try:
        for name, fact in content.facts.items():
            client.log_param(run, name, fact)
        now = int(time.time() * 1000)
        points = [(name, step, value) for name, curve in content.curves.items() for step, value in curve]
        points += [(name, content.last_step, value) for name, value in content.numbers.items()]
        metrics = [Metric(_name(name), value, now, step) for name, step, value in points]
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run, metrics=metrics[start : start + BATCH])
        with tempfile.TemporaryDirectory(prefix="trajsvc-mlflow-") as folder:
            for name, png in content.pictures.items():
                path = Path(folder) / f"{name}.png"
                path.write_bytes(png)
                client.log_artifact(run, str(path), "figures")
    except BaseException:
        client.set_terminated(run, "FAILED")
        raise
    client.set_terminated(run)
    return f"experiment {project}, run {run}"


def _name(text: str) -> str:
    """Return a name of letters that MLflow takes: those of a tensor's part, as in ``weight[q]``, are not among them."""
    return re.sub(r"[^\w. /-]", "_", text)
