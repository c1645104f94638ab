"""``trajsvc push``: what each tracker wrote is read back with the tracker's own reader, and has the run's numbers."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import STEPS, Cli, Made

import trajsvc
from trajsvc.errors import NotFound, UsageError
from trajsvc.integrations.content import content_of
from trajsvc.integrations.push import push


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def pushed(store: Path, to: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Push in a process of its own: trackers start threads and processes that outlive a call."""
    words = [sys.executable, "-m", "trajsvc", "push", "nano", "--store", str(store), "--to", to, "--project", "maps"]
    given = {**os.environ, **environment}
    done = subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"pushed to {to}: " in done.stderr
    return done


@pytest.mark.slow
def test_content_is_the_curves_and_numbers_of_the_groups(store: Path, made: Made) -> None:
    content = content_of(trajsvc.open(store, "nano"), ["layer/1"], ["update_norm", "mds"])
    assert list(content.curves) == ["layer/1/update_norm"]
    norms = np.linalg.norm(np.diff(made.vectors(layer="1"), axis=0), axis=1)
    steps, values = zip(*content.curves["layer/1/update_norm"], strict=True)
    assert list(steps) == STEPS[1:]
    np.testing.assert_allclose(values, norms)
    assert content.numbers == {"layer/1/mds": trajsvc.open(store, "nano").mds("layer/1")}
    assert content.by_step()[0] == (1, {"layer/1/update_norm": pytest.approx(norms[0])})
    assert all(png.startswith(b"\x89PNG") for png in content.pictures.values())
    assert {"map", "layers"} <= set(content.pictures)


@pytest.mark.slow
@needs("tensorboard")
def test_tensorboard_reads_curves_and_pictures(store: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator

    for _ in range(2):  # a second push replaces the first
        push(trajsvc.open(store, "nano"), "tensorboard", str(tmp_path / "logs"))
    found = EventAccumulator(str(tmp_path / "logs" / "nano"), size_guidance={SCALARS: 0, IMAGES: 0})
    found.Reload()
    expected = trajsvc.open(store, "nano").update_angle("layer/1")
    points = found.Scalars("layer/1/update_angle")
    assert [point.step for point in points] == STEPS[1:-1]
    np.testing.assert_allclose([point.value for point in points], expected.values, rtol=1e-6)
    assert [point.step for point in found.Scalars("network/mds")] == [STEPS[-1]]
    (image,) = found.Images("figures/map")
    assert image.encoded_image_string.startswith(b"\x89PNG")


def records(path: Path) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, which a .wandb file has after seven bytes: blocks of 32 KiB, parts of 7 + n bytes."""
    data, at, held = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield held
            held = b""


@pytest.mark.slow
@needs("wandb")
def test_an_offline_run_of_wandb_has_the_history_and_summary(store: Path, tmp_path: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    pushed(store, "wandb", tmp_path, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    history: dict[str, dict[int, Any]] = {}
    summary: dict[str, Any] = {}
    project = ""
    for raw in records(path):
        record = Record.FromString(raw)
        items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
        for name, value in items.items():
            history.setdefault(name, {})[int(items["_step"])] = value
        for item in record.summary.update:
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        project = record.run.project or project
    run = trajsvc.open(store, "nano")
    assert project == "maps"
    assert list(history["network/update_norm"]) == STEPS[1:]
    np.testing.assert_allclose(list(history["network/update_norm"].values()), run.update_norm().values, rtol=1e-12)
    assert summary["network/mds"] == pytest.approx(run.mds(), rel=1e-12)
    assert history["figures/map/_type"] == {STEPS[-1]: "image-file"}


@needs("mlflow")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, by MLflow
def test_mlflow_has_parameters_metrics_and_figures(store: Path, tmp_path: Path) -> None:
    pushed(store, "mlflow", tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("maps")
    (found,) = client.search_runs([experiment.experiment_id])
    run = trajsvc.open(store, "nano")
    assert found.info.run_name == "nano"
    assert found.info.status == "FINISHED"
    assert found.data.params["parameters"] == str(run.parameters)
    history = sorted(client.get_metric_history(found.info.run_id, "layer/0/update_norm"), key=lambda m: m.step)
    assert [metric.step for metric in history] == STEPS[1:]
    np.testing.assert_allclose([metric.value for metric in history], run.update_norm("layer/0").values)
    assert "figures/map.png" in [file.path for file in client.list_artifacts(found.info.run_id, "figures")]


@needs("trackio")
def test_trackio_has_the_curves(store: Path, tmp_path: Path) -> None:
    pushed(store, "trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
    program = (
        "from trackio.sqlite_storage import SQLiteStorage; import json; "
        "print(json.dumps(SQLiteStorage.get_logs('maps', 'nano'), default=str))"
    )
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    read = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    rows = json.loads(read.stdout.splitlines()[-1])
    found = {row["step"]: row["network/update_norm"] for row in rows if "network/update_norm" in row}
    assert list(found) == STEPS[1:]
    np.testing.assert_allclose(list(found.values()), trajsvc.open(store, "nano").update_norm().values)


def test_what_is_wrong_is_said(cli: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = cli("push", "nano", "--to", "comet")
    assert unknown.exit_code == 2
    assert "tensorboard, wandb, mlflow, trackio" in unknown.stderr
    run = trajsvc.open(store, "nano")
    with pytest.raises(UsageError, match="trajectory_map"):
        push(run, "tensorboard", str(tmp_path), names=["trajectory_map"])
    with pytest.raises(NotFound, match="layer/99"):
        push(run, "tensorboard", str(tmp_path), groups=["layer/99"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="wandb is not installed") as caught:
        push(run, "wandb")
    assert caught.value.kind == "extra-missing"
    assert "trajsvc[wandb]" in caught.value.hint
