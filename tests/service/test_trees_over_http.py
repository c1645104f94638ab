"""A group in other bases than its updates' comes over HTTP with all its digits, as arrays and as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from asgi_asking import App
from safetensors.numpy import save_file

import trajsvc
from trajsvc.results.remote_run import ServerGrams
from trajsvc.results.run import Run


class Asking:
    """What ``ServerGrams`` needs of a client."""

    def __init__(self, app: App) -> None:
        self.app = app

    def get(self, path: str) -> Any:
        return json.loads(self.app.ask(f"/v1/{path}").body)

    def arrays(self, path: str, **params: Any) -> dict[str, Any]:
        answer = self.app.ask(f"/v1/{path}?{urlencode({**params, 'f': 'npz'})}")
        with np.load(io.BytesIO(answer.body)) as found:
            return {name: found[name] for name in found.files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run whose fifth checkpoint is a hundred thousand times too large in one tensor."""
    folder = tmp_path_factory.mktemp("corrupted")
    rng = np.random.default_rng(0)
    parts = {f"layers.{i}.weight": rng.standard_normal((20, 30)) for i in range(2)}
    for step in range(8):
        parts = {name: v + 1e-2 * rng.standard_normal(v.shape) for name, v in parts.items()}
        place = folder / "run" / f"step{step}"
        place.mkdir(parents=True)
        factor = {"layers.1.weight": 1e5 if step == 4 else 1.0}
        stored = {n: (v * factor.get(n, 1.0)).astype(np.float32) for n, v in parts.items()}
        save_file(stored, place / "model.safetensors")
    trajsvc.analyze(str(folder / "run"), store=str(folder / "store"), name="run")
    return folder


def test_a_servers_run_answers_as_the_stored_one(folder: Path) -> None:
    local = trajsvc.open(folder / "store", "run")
    remote = Run("run", ServerGrams(Asking(App(folder)), "run"))  # type: ignore[arg-type]
    for group in ("network", "layer/layers.0", "layer/layers.1"):
        for steps in (None, [0, 1, 2, 3, 5, 6, 7]):
            for name in ("trajectory_map", "norm", "update_angle", "mds", "relative_mds"):
                mine, theirs = local.measure(name, group, steps), remote.measure(name, group, steps)
                np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=1e-13)
                assert np.isfinite(np.asarray(mine)).all()


def test_a_gram_has_its_trees_where_it_needs_them(folder: Path) -> None:
    app = App(folder)
    whole = json.loads(app.ask("/v1/runs/run/gram?f=json").body)
    assert np.array(whole["tree_gram"]).shape == (2, 8, 8)
    assert np.array(whole["tree_start"]).tolist()[0] == list(range(8))
    assert "tree_gram" not in json.loads(app.ask("/v1/runs/run/gram?group=layer/layers.0&f=json").body)
