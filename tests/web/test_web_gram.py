"""gram.js computes in the browser what trajsvc.measures computes: the same maps, measures and undefined entries."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trajsvc.gram import spanning
from trajsvc.measures import correlations, forgetting, maps, nulls, sparsity, spectral_edge
from trajsvc.measures.base import GroupGram
from trajsvc.measures.heterogeneity import qkv_heterogeneity
from trajsvc.measures.registry import MEASURES, compute
from trajsvc.measures.trees import Tree
from trajsvc.results.labels import plain

SCRIPT = Path(__file__).parent / "gram_answers.mjs"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
MEASURED = (
    "update_angle",
    "apex_angle_init",
    "sweep_angle_init",
    "apex_angle_origin",
    "sweep_angle_origin",
    "norm",
    "distance_from_init",
    "update_norm",
    "cosine_to_final",
    "settling_step",
    "path_length",
    "tortuosity",
    "mds",
    "relative_mds",
    "random_walk_mds",
    "mu",
    "alpha",
    "mu_lag",
    "alpha_lag",
    "update_cosine",
    "inv_sqrt_parameters",
    "random_bound",
    "nonrandom_fraction",
    "noise_floor",
)


def trajectory(kind: str, steps: int, size: int, seed: int) -> NDArray[np.float64]:
    """Updates of a trajectory, the first row the start: the cases where naive arithmetic fails among them."""
    rng = np.random.default_rng(seed)
    legs = rng.normal(size=(steps, size))
    if kind == "tiny":
        legs[1:] *= 1e-7
    if kind == "drift":
        legs[1:] = legs[1] + 0.1 * legs[1:]
    if kind == "repeats":
        legs[3] = 0.0
        legs[5] = -legs[4]
    if kind == "zero start":
        legs[0] = 0.0
    return legs


def in_trees(gram: GroupGram, points: NDArray[np.float64], scale: int = 0) -> GroupGram:
    """The same group in two bases that go round what is far away: one for each half of the coordinates."""
    trees = []
    for part in np.array_split(points, 2, axis=1):
        starts = spanning.grown(spanning.distances(part @ part.T))
        from_zero = np.vstack([np.zeros(part.shape[1]), part])
        legs = part - from_zero[starts]
        trees.append(Tree(starts, legs @ legs.T))
    every = np.arange(len(points))
    return replace(gram, scale=scale).along(tuple(trees), every, every)


def far_away(kind: str, steps: int, size: int, seed: int) -> NDArray[np.float64]:
    """Points of which some are far larger or smaller than others."""
    legs = trajectory("walk", steps, size, seed)
    legs[1:] *= 1e-2
    points = np.cumsum(legs, axis=0)
    if kind == "corrupted":
        points[5] *= 1e5
    if kind == "shrinking":
        points *= 0.01 ** np.arange(steps)[:, None]
    if kind == "out of range":
        points[3] = 1e200
    return points


def counted(steps: int, size: int, seed: int) -> NDArray[np.float64]:
    """Counts of changed values, and of those that changed twice in succession."""
    changed = np.random.default_rng(seed).random((steps, size)) < 0.7
    changed[0] = changed[4] = False
    twice = np.append(np.zeros((1, size), dtype=bool), changed[1:] & changed[:-1], axis=0)
    return np.stack([changed.sum(axis=1), twice.sum(axis=1)], axis=1).astype(np.float64)


def gram_of(kind: str, steps: int = 14, size: int = 40, seed: int = 1) -> GroupGram:
    legs = trajectory(kind, steps, size, seed)
    at = np.cumsum(np.arange(steps) ** 2)
    rounding = np.full(steps, 1e-6 if kind != "tiny" else 1e-14)
    gram = GroupGram("g", at.astype(np.int64), legs @ legs.T, size, rounding, changes=counted(steps, size, seed))
    if kind in FAR:
        with np.errstate(over="ignore", invalid="ignore"):
            return in_trees(gram, far_away(kind, steps, size, seed), 768 if kind == "shrinking" else 0)
    return gram


FAR = ("corrupted", "shrinking", "out of range")


CASES = [
    (kind, steps, chosen)
    for kind in ("walk", "tiny", "drift", "repeats", "zero start", *FAR)
    for steps, chosen in ((14, None), (14, (2, 3, 4, 5, 7, 8, 11)), (14, (0, 1, 2, 9, 10, 13)), (7, (1, 2, 3)))
]


def answered(grams: list[tuple[GroupGram, list[int]]]) -> list[dict[str, Any]]:
    """What gram.js makes of selections of Grams."""
    asked = [
        {
            "gram": plain(whole.gram),
            "steps": whole.steps.tolist(),
            "parameters": whole.parameters,
            "rounding": whole.rounding.tolist(),
            "changes": plain(whole.changes),
            "chosen": indices,
            "trees": [{"starts": t.starts.tolist(), "gram": plain(t.gram)} for t in whole.trees] or None,
            "scale": whole.scale,
        }
        for whole, indices in grams
    ]
    assert NODE is not None
    done = subprocess.run(
        [NODE, SCRIPT], input=json.dumps(asked), capture_output=True, text=True, timeout=600, check=True
    )
    return list(json.loads(done.stdout))


@pytest.fixture(scope="module")
def both() -> list[tuple[GroupGram, dict[str, Any]]]:
    """Every case: the Gram as Python sees it, and the answers of gram.js."""
    asked, chosen_grams = [], []
    for kind, steps, chosen in CASES:
        whole = gram_of(kind, steps)
        asked.append((whole, list(range(steps)) if chosen is None else list(chosen)))
        chosen_grams.append(whole if chosen is None else whole.select(list(chosen)))
    return list(zip(chosen_grams, answered(asked), strict=True))


def close(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Equal to a relative 1e-9, and undefined in the same places."""
    mine = np.array(found, dtype=np.float64)
    other = np.asarray(expected, dtype=np.float64)
    np.testing.assert_allclose(mine.reshape(other.shape), other, rtol=tolerance, atol=1e-13, equal_nan=True)


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{k}-{s}-{c}" for k, s, c in CASES])
class TestTheSameNumbers:
    def test_selection_keeps_updates(self, both: Any, case: int) -> None:
        gram, found = both[case]
        assert found["steps"] == gram.steps.tolist()
        np.testing.assert_allclose(
            np.array(found["gram"], dtype=np.float64).reshape(gram.gram.shape),
            gram.gram,
            rtol=1e-12,
            atol=1e-12 * np.nanmax(abs(gram.gram)),
        )

    @pytest.mark.parametrize("name", MEASURED)
    def test_measures(self, both: Any, case: int, name: str) -> None:
        gram, found = both[case]
        close(found["measures"][name], compute([name], gram)[name])

    def test_every_curve_and_scalar_of_the_page_is_in_the_registry(self, both: Any, case: int) -> None:
        assert set(both[case][1]["measures"]) == set(MEASURED) <= set(MEASURES)

    def test_maps_from_any_origin(self, both: Any, case: int) -> None:
        gram, found = both[case]
        count = len(gram.steps)
        for index, origin in enumerate((None, 0, count // 2, count - 1)):
            step = None if origin is None else int(gram.steps[origin])
            close(found["maps"][index], maps.trajectory_map(gram, step))

    def test_small_angles_keep_their_digits(self, both: Any, case: int) -> None:
        gram, found = both[case]
        expected = maps.dissimilarity_map(gram)
        mine = np.array(found["dissimilarity"], dtype=np.float64).reshape(expected.shape)
        np.testing.assert_allclose(mine, expected, rtol=1e-7, atol=1e-25, equal_nan=True)

    def test_updates_and_the_random_walk(self, both: Any, case: int) -> None:
        gram, found = both[case]
        close(found["updates"], correlations.update_map(gram))
        close(found["walk"], nulls.random_walk(gram))
        close(found["walkFromZero"], nulls.random_walk(gram, relative=False))
        below = [int(s) for s, b in zip(gram.steps[1:], nulls.below_floor(gram), strict=True) if b]
        assert found["below"] == below
        counts, count = nulls.undefined(gram), len(gram.steps)
        assert found["cells"] == [
            [count**2 - counts["map_cells"], count**2],
            [(count - 1) ** 2 - counts["relative_map_cells"], (count - 1) ** 2],
        ]

    def test_rolling_windows(self, both: Any, case: int) -> None:
        gram, found = both[case]
        for window, answer in zip((3, 10), found["windows"], strict=True):
            close(answer["forgetting_time"], forgetting.forgetting_time(gram, window))
            close(answer["edge"], spectral_edge.spectral_edge(gram, window), tolerance=1e-6)
            close(answer["rank"], spectral_edge.spectral_edge_rank(gram, window))
            close(answer["share"], spectral_edge.leading_share(gram, window))

    def test_unchanged_values(self, both: Any, case: int) -> None:
        gram, found = both[case]
        kept = sparsity.update_sparsity(gram)
        if np.isnan(kept).all():
            assert found["sparsity"] == {}
            return
        close(found["sparsity"]["kept"], kept)
        close(found["sparsity"]["overlap"], sparsity.update_overlap(gram))
        close(found["sparsity"]["chance"], sparsity.update_overlap_chance(gram))

    def test_distances_between_maps(self, both: Any, case: int) -> None:
        gram, found = both[case]
        other = replace(gram, gram=gram.gram + np.diag(np.diag(gram.gram)))
        for row, origin in zip(found["qkv"], (None, int(gram.steps[1])), strict=True):
            expected = qkv_heterogeneity(gram, other, gram, origin)
            for name in ("distance_qk", "rms_qk", "rms_qv", "rms_kv", "mds_k", "settling_step_v"):
                close(row[name], getattr(expected, name))
            close(row["rms"], expected.rms_mean)
            assert not row["rms_qv"]
        close(found["row"]["mds"], maps.mds(gram))
        known = [c for c in MEASURES["update_cosine"].compute(gram) if np.isfinite(c)]
        close(found["row"]["mean_update_cosine"], np.mean(known) if known else None)
        close(found["row"]["nonrandom_fraction"], MEASURES["nonrandom_fraction"].compute(gram))
