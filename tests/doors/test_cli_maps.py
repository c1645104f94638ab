"""``trajsvc map --groups`` and ``run.maps``: the maps of several groups at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from in_process import trajsvc as run
from safetensors.numpy import save_file

import trajsvc
from trajsvc.errors import NotFound

STEPS = [0, 10, 20, 30]
NAMES = [f"model.layers.{k}.mlp.{part}_proj.weight" for k in range(2) for part in ("up", "down")]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{name: rng.standard_normal((5, 5)).astype(np.float32) for name in NAMES} for _ in STEPS]


@pytest.fixture(scope="module")
def store(checkpoints: list[dict[str, np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    for step, tensors in zip(STEPS, checkpoints, strict=True):
        (folder / "made" / f"step-{step}").mkdir(parents=True)
        save_file(tensors, folder / "made" / f"step-{step}" / "model.safetensors")
    trajsvc.analyze(folder / "made", store=folder / "store")
    return folder / "store"


def cosines(checkpoints: list[dict[str, np.ndarray]], layer: int, origin: int | None) -> np.ndarray:
    """Compute a layer's map from its parameters in float64."""
    vectors = np.array(
        [np.concatenate([c[n].ravel() for n in NAMES if f".{layer}." in n]) for c in checkpoints], dtype=np.float64
    )
    if origin is not None:
        vectors = np.delete(vectors - vectors[STEPS.index(origin)], STEPS.index(origin), axis=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


@pytest.mark.parametrize("origin", [None, 10])
def test_every_array_is_the_map_of_its_group(
    checkpoints: list[dict[str, np.ndarray]], store: Path, tmp_path: Path, origin: int | None
) -> None:
    target = tmp_path / "maps.npz"
    words = ["map", "made", "--store", str(store), "--groups", "layer/model.layers.1,layer/model.layers.0"]
    words += [] if origin is None else ["--origin", str(origin)]
    assert run(*words, "-o", str(target)).returncode == 0
    found = np.load(target)
    assert set(found) == {"layer/model.layers.0", "layer/model.layers.1", "steps"}
    assert found["steps"].tolist() == [step for step in STEPS if step != origin]
    answer = json.loads(run(*words, "--format", "json").stdout)
    assert answer["steps"] == found["steps"].tolist()
    assert list(answer["maps"]) == ["layer/model.layers.0", "layer/model.layers.1"]
    in_python = trajsvc.open(store, "made").maps(["layer/*"], origin)
    assert in_python.dims == ("group", "step", "step_2")
    for layer in (0, 1):
        want, group = cosines(checkpoints, layer, origin), f"layer/model.layers.{layer}"
        for values in (found[group], answer["maps"][group], in_python.sel(group=group)):
            np.testing.assert_allclose(values, want, rtol=0, atol=1e-6)


def test_what_cannot_be_says_what_can(store: Path) -> None:
    made = ["map", "made", "--store", str(store), "--groups"]
    done = run(*made, "layer/model.layers.0", "--format", "csv")
    assert done.returncode == 2
    assert "npz or json" in done.stderr
    done = run(*made, "layer/model.layers.0", "--group", "layer/model.layers.1", "--format", "json")
    assert done.returncode == 2
    assert "--groups takes the place" in done.stderr
    with pytest.raises(NotFound, match="no group 'layer/9'"):
        trajsvc.open(store, "made").maps(["layer/model.layers.0", "layer/9"])
