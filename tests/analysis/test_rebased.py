"""Runs whose digits are lost in the update basis, from files to every door: as exact as any, or undefined with a finding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import trajsvc
from trajsvc.cli.terminal import cells_noted
from trajsvc.results.run import Run

Array = NDArray[np.float64]
TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


def walk(steps: int, size: float, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal(6000) + np.cumsum(size * rng.standard_normal((steps, 6000)), axis=0))


def written(folder: Path, points: Array, dtype: torch.dtype, first: int = 0) -> Array:
    """Checkpoints of three tensors; returns what was stored of them."""
    stored = []
    for t, values in enumerate(points, start=first):
        target = folder / f"step{t}"
        target.mkdir(parents=True)
        kept = torch.from_numpy(values).to(dtype)
        stored.append(kept.double().numpy())
        parts = {
            "layers.0.weight": kept[:5000].reshape(50, 100),
            "layers.1.weight": kept[5000:5900].reshape(9, 100),
            "layers.1.bias": kept[5900:],
        }
        save_file({n: v.contiguous() for n, v in parts.items()}, target / "model.safetensors")
    return np.array(stored)


def analysed(folder: Path, store: Path, **options: object) -> Run:
    trajsvc.analyze(str(folder), store=str(store), name="run", **options)  # type: ignore[arg-type]
    return trajsvc.open(store, "run")  # type: ignore[return-value]


def check(run: Run, points: Array, steps: list[int] | None = None) -> None:
    kept = points if steps is None else points[steps]
    exact = kept.astype(np.longdouble)
    np.testing.assert_allclose(run.norm(steps=steps), lengths(exact), rtol=1e-9)
    np.testing.assert_allclose(run.update_norm(steps=steps), lengths(np.diff(exact, axis=0)), rtol=1e-9)
    np.testing.assert_allclose(run.trajectory_map(steps=steps), cosines(exact), atol=1e-12)
    first = 0 if steps is None else steps[0]
    np.testing.assert_allclose(run.trajectory_map(origin=first, steps=steps), cosines(exact[1:] - exact[0]), atol=1e-12)
    assert run.mds(steps=steps) == pytest.approx(float(cosines(exact).mean()), rel=1e-12)


def corrupted(factor: float) -> Array:
    points = walk(10, 1e-2)
    points[4] *= factor
    return points


def half_corrupted() -> Array:
    points = walk(10, 1e-3)
    points[4, 5000:] *= 1e4
    return points


CASES: dict[str, tuple[Array, tuple[str, ...]]] = {
    "ten times": (corrupted(10.0), ("float16", "bfloat16", "float32", "float64")),
    "a thousand times": (corrupted(1e3), ("float16", "bfloat16", "float32", "float64")),
    "a hundred thousand times": (corrupted(1e5), ("bfloat16", "float32", "float64")),
    "one tensor": (half_corrupted(), ("bfloat16", "float32", "float64")),
    "shrinking": (walk(8, 1e-2) * 0.01 ** np.arange(8)[:, None], ("bfloat16", "float32", "float64")),
    "huge": (walk(8, 1e-2) * 1e200, ("float64",)),
    "tiny": (walk(8, 1e-2) * 1e-200, ("float64",)),
    "huge and small": (np.hstack([walk(8, 1e-2)[:, :5000] * 1e200, walk(8, 1e-2)[:, 5000:]]), ("float64",)),
}


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n, (_, kinds) in CASES.items() for d in kinds])
def test_the_numbers_are_exact_with_the_outlier_and_without(tmp_path: Path, name: str, dtype: str) -> None:
    points = written(tmp_path / "run", CASES[name][0], TYPES[dtype])
    run = analysed(tmp_path / "run", tmp_path / "store")
    assert run.stored.trees is not None  # type: ignore[attr-defined]
    check(run, points)
    check(run, points, [t for t in range(len(points)) if t != 4])
    assert not [f for f in run.findings if f.kind == "lost-digits"]
    layer = np.delete(points, np.s_[5000:], axis=1)
    np.testing.assert_allclose(run.norm("layer/layers.0"), lengths(layer.astype(np.longdouble)), rtol=1e-9)


def swinging(steps: int, share: float) -> Array:
    """Points whose updates nearly undo each other: ``share`` of every update is taken back by the next."""
    rng = np.random.default_rng(3)
    update, points = np.zeros(6000), [rng.standard_normal(6000)]
    for _ in range(steps - 1):
        update = -share * update + (1 - share**2) ** 0.5 * 1e-2 * rng.standard_normal(6000)
        points.append(points[-1] + update)
    return np.asarray(points)


SINGLE = {name: points for name, (points, kinds) in CASES.items() if "float32" in kinds} | {
    "halved at every step": walk(12, 1e-2) * 0.5 ** np.arange(12)[:, None],
    "swinging": swinging(40, 0.9),
    "swinging on the spot": swinging(40, 0.999),
}


@pytest.mark.parametrize("name", list(SINGLE))
def test_products_in_float32_are_held_to_1e_6(tmp_path: Path, name: str) -> None:
    points = written(tmp_path / "run", SINGLE[name], torch.float32).astype(np.longdouble)
    run = analysed(tmp_path / "run", tmp_path / "store", precision="float32")
    np.testing.assert_allclose(run.norm(), lengths(points), rtol=1e-6)
    np.testing.assert_allclose(run.distance_from_init()[1:], lengths(points[1:] - points[0]), rtol=1e-6)
    np.testing.assert_allclose(run.trajectory_map(), cosines(points), atol=1e-6)
    np.testing.assert_allclose(run.trajectory_map(origin=0), cosines(points[1:] - points[0]), atol=1e-6)
    assert not [f for f in run.findings if f.kind == "lost-digits"]


def test_products_in_float32_of_an_ordinary_run_are_computed_once(tmp_path: Path) -> None:
    written(tmp_path / "run", walk(30, 1e-3), torch.float32)
    assert analysed(tmp_path / "run", tmp_path / "store", precision="float32").stored.trees is None  # type: ignore[attr-defined]


def test_a_run_that_loses_nothing_has_no_other_basis(tmp_path: Path) -> None:
    written(tmp_path / "run", walk(8, 1e-4), torch.float32)
    assert analysed(tmp_path / "run", tmp_path / "store").stored.trees is None  # type: ignore[attr-defined]


def test_what_is_appended_is_as_if_computed_anew(tmp_path: Path) -> None:
    points = corrupted(1e5)
    stored = written(tmp_path / "run", points[:7], torch.float32)
    analysed(tmp_path / "run", tmp_path / "store")
    stored = np.concatenate([stored, written(tmp_path / "run", points[7:], torch.float32, 7)])
    appended = analysed(tmp_path / "run", tmp_path / "store")
    check(appended, stored)
    anew = analysed(tmp_path / "run", tmp_path / "other")
    for name in ("block", "start", "scale", "gram"):
        mine, theirs = getattr(appended.stored.trees, name), getattr(anew.stored.trees, name)  # type: ignore[attr-defined]
        assert np.array_equal(mine, theirs), name


def test_an_append_brings_the_corrupted_checkpoint(tmp_path: Path) -> None:
    points = corrupted(1e5)
    stored = written(tmp_path / "run", points[:4], torch.float32)
    assert analysed(tmp_path / "run", tmp_path / "store").stored.trees is None  # type: ignore[attr-defined]
    stored = np.concatenate([stored, written(tmp_path / "run", points[4:], torch.float32, 4)])
    check(analysed(tmp_path / "run", tmp_path / "store", recompute=False), stored)


def test_what_float64_cannot_hold_is_undefined_with_a_finding(tmp_path: Path) -> None:
    points = walk(8, 1e-2)
    points[3] = 1e200
    written(tmp_path / "run", points, torch.float64)
    run = analysed(tmp_path / "run", tmp_path / "store")
    assert np.isnan(np.asarray(run.norm())).tolist() == [t == 3 for t in range(8)]
    [finding] = [f for f in run.findings if f.kind == "lost-digits"]
    assert finding.steps == (3,)
    undefined = run.measures()["undefined"]
    assert (undefined["map_cells"], undefined["relative_map_cells"]) == (15, 13)
    assert cells_noted(undefined, 8) == [
        "mds is the mean over 49 of 64 cells of the map; the others are undefined",
        "relative mds is the mean over 36 of 49 cells of the map; the others are undefined",
    ]


def test_the_bits_do_not_depend_on_threads_and_memory(tmp_path: Path) -> None:
    written(tmp_path / "run", corrupted(1e4), torch.float32)
    first = analysed(tmp_path / "run", tmp_path / "one", threads=1)
    second = analysed(tmp_path / "run", tmp_path / "two", threads=2, memory=2**26)
    assert np.array_equal(first.stored.trees.gram, second.stored.trees.gram)  # type: ignore[attr-defined]


def lengths(vectors: NDArray[np.longdouble]) -> Array:
    return np.asarray(np.sqrt((vectors * vectors).sum(axis=1)), dtype=np.float64)


def cosines(vectors: NDArray[np.longdouble]) -> Array:
    unit = vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(unit @ unit.T, dtype=np.float64)
