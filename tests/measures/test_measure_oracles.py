"""Every measure against a plain oracle from the explicit vectors, over the whole table of cases, and NaN exactly where it has NaN."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from made_trajectories import (
    CASES,
    Floats,
    Trajectory,
    angle,
    cosine,
    curve,
    length,
    made,
    mean,
    one_minus_cosine,
    table,
)
from numpy.testing import assert_allclose

from trajsvc.errors import NotFound
from trajsvc.measures import angles, correlations, maps, norms, variance
from trajsvc.measures.nulls import undefined

ANGLE = {"rtol": 1e-9, "atol": 3e-6}
"""degrees; 1 − cos is good to 1e-15 where vectors differ in length, which is 3e-6 degrees of an angle of 0 or 180"""


def test_trajectory_map(case: Trajectory) -> None:
    found = maps.trajectory_map(case.gram)
    assert found.shape == (len(case.steps), len(case.steps))
    assert_allclose(found, table(cosine, case.points), rtol=0, atol=1e-14)


def test_relative_map_at_every_origin(case: Trajectory) -> None:
    for origin, step in enumerate(case.steps.tolist()):
        expected = table(cosine, case.about(origin))
        found = maps.trajectory_map(case.gram, step)
        assert found.shape == (len(case.steps) - 1, len(case.steps) - 1)
        assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert_allclose(maps.relative_mds(case.gram, step), mean(expected), rtol=0, atol=1e-12)


def test_dissimilarity_map_keeps_its_digits(case: Trajectory) -> None:
    expected = table(one_minus_cosine, case.points)
    assert_allclose(maps.dissimilarity_map(case.gram), expected, rtol=1e-9, atol=1e-17)


def test_mds_is_the_squared_norm_of_the_mean_unit_vector(case: Trajectory) -> None:
    units = [p / length(p) for p in case.points if p.any()]
    total = sum(units) / len(units) if units else np.array([np.nan])
    assert_allclose(maps.mds(case.gram), float((total * total).sum()), rtol=1e-12)
    assert_allclose(maps.mds(case.gram), mean(table(cosine, case.points)), rtol=1e-12)
    assert_allclose(maps.relative_mds(case.gram), mean(table(cosine, case.about(0))), rtol=0, atol=1e-12)


def test_update_angle(case: Trajectory) -> None:
    assert_allclose(angles.update_angle(case.gram), curve(angle, list(pairwise(case.updates))), **ANGLE)


def test_cones_at_initialisation(case: Trajectory) -> None:
    moved = case.about(0)
    assert_allclose(angles.apex_angle_init(case.gram), curve(angle, [(moved[0], m) for m in moved]), **ANGLE)
    assert_allclose(angles.sweep_angle_init(case.gram), curve(angle, list(pairwise(moved))), **ANGLE)


def test_cones_at_the_origin(case: Trajectory) -> None:
    pairs = [(case.points[0], p) for p in case.points[1:]]
    assert_allclose(angles.apex_angle_origin(case.gram), curve(angle, pairs), **ANGLE)
    assert_allclose(angles.sweep_angle_origin(case.gram), curve(angle, list(pairwise(case.points))), **ANGLE)


def test_norms(case: Trajectory) -> None:
    expected = [float(length(p)) for p in case.points]
    assert_allclose(norms.norm(case.gram), expected, rtol=1e-12)
    assert_allclose(
        norms.distance_from_init(case.gram), [float(length(p - case.points[0])) for p in case.points], rtol=1e-12
    )
    assert_allclose(norms.update_norm(case.gram), [float(length(u)) for u in case.updates], rtol=1e-12)


def test_path(case: Trajectory) -> None:
    path = float(sum((length(u) for u in case.updates), np.longdouble(0)))
    displacement = float(length(case.points[-1] - case.points[0]))
    assert_allclose(norms.path_length(case.gram), path, rtol=1e-12)
    assert_allclose(norms.tortuosity(case.gram), path / displacement if displacement else np.nan, rtol=1e-12)


def test_cosine_to_final(case: Trajectory) -> None:
    expected = [cosine(p, case.points[-1]) for p in case.points]
    assert_allclose(norms.cosine_to_final(case.gram), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.999])
def test_settling_step(case: Trajectory, threshold: float) -> None:
    points = [(int(s), cosine(p, case.points[-1])) for s, p in zip(case.steps, case.points, strict=True)]
    points = [(s, c) for s, c in points if c == c]
    expected = float(points[0][0]) if points else math.nan
    for (s, c), (s2, c2) in pairwise(points):
        if c < threshold <= c2:
            expected = s + (s2 - s) * (threshold - c) / (c2 - c)
    assert_allclose(norms.settling_step(case.gram, threshold), expected, rtol=1e-6)


def test_update_map_and_its_means(case: Trajectory) -> None:
    expected = table(cosine, case.updates)
    pairs = expected[np.triu_indices(len(expected), 1)]
    assert_allclose(correlations.update_map(case.gram), expected, rtol=0, atol=1e-13)
    assert_allclose(correlations.mu(case.gram), mean(pairs), rtol=0, atol=1e-13)
    assert_allclose(correlations.alpha(case.gram), math.sqrt(mean(pairs**2)), rtol=1e-9)
    assert_allclose(correlations.update_cosine(case.gram), np.diagonal(expected, 1), rtol=0, atol=1e-13)


def test_lags(case: Trajectory) -> None:
    expected = table(cosine, case.updates)
    by_lag = [np.diagonal(expected, k) for k in range(len(expected))]
    assert_allclose(correlations.mu_lag(case.gram), [mean(d) for d in by_lag], rtol=0, atol=1e-13)
    assert_allclose(correlations.alpha_lag(case.gram), [math.sqrt(mean(d**2)) for d in by_lag], rtol=1e-9)


def test_random_bound_and_the_share_above_it(case: Trajectory) -> None:
    n = case.basis.shape[1]
    bound = math.sqrt(math.log(n) / n)
    cosines = [c for c in curve(cosine, list(pairwise(case.updates))).tolist() if c == c]
    above = sum(c > bound for c in cosines) / len(cosines) if cosines else math.nan
    either = sum(abs(c) > bound for c in cosines) / len(cosines) if cosines else math.nan
    assert_allclose(correlations.random_bound(case.gram), bound)
    assert_allclose(correlations.inv_sqrt_parameters(case.gram), 1 / math.sqrt(n))
    assert_allclose(correlations.nonrandom_fraction(case.gram), above)
    assert_allclose(correlations.nonrandom_fraction_absolute(case.gram), either)


def shares(vectors: list[Floats]) -> Floats:
    """Squared singular values of the centred vectors, as shares."""
    rows = np.array(vectors, dtype=np.longdouble)
    centred = np.asarray(rows - rows.mean(axis=0), dtype=np.float64)
    squares = np.linalg.svd(centred, compute_uv=False)[: len(rows) - 1] ** 2
    padded = np.zeros(len(rows) - 1)
    padded[: len(squares)] = squares
    return padded / padded.sum()


STILL = ("all zero", "never moves", "one checkpoint", "one zero checkpoint")


@pytest.mark.parametrize("name", [n for n in CASES if n not in STILL])
def test_explained_variance_of_points(name: str) -> None:
    case = CASES[name]
    expected = shares(case.points)
    assert_allclose(variance.explained_variance(case.gram), expected, rtol=0, atol=1e-12)
    assert_allclose(variance.participation_ratio(case.gram), 1 / (expected**2).sum(), rtol=1e-9)


@pytest.mark.parametrize("name", [n for n in CASES if len(CASES[n].steps) > 2 and n not in STILL])
def test_explained_variance_of_updates(name: str) -> None:
    case = CASES[name]
    expected = shares(case.updates)
    assert_allclose(variance.explained_variance_updates(case.gram), expected, rtol=0, atol=1e-12)
    assert_allclose(variance.participation_ratio_updates(case.gram), 1 / (expected**2).sum(), rtol=1e-9)


def test_undefined_counts(case: Trajectory) -> None:
    expected = {
        "points": sum(not p.any() for p in case.points),
        "updates": sum(not u.any() for u in case.updates),
        "relative_points": sum(not p.any() for p in case.about(0)),
        "map_cells": int(np.isnan(table(cosine, case.points)).sum()),
        "relative_map_cells": int(np.isnan(table(cosine, case.about(0))).sum()),
    }
    assert undefined(case.gram) == expected


SUBSETS = [[0], [0, 1], [0, 2], [0, 2, 3, 7], [1, 4, 8], [3], [5, 6], [0, 1, 2, 3, 4, 5, 6, 7, 8]]


@pytest.mark.parametrize(("name", "index"), [(n, i) for i in SUBSETS for n in CASES if i[-1] < len(CASES[n].steps)])
def test_a_selection_is_the_trajectory_of_its_points(name: str, index: list[int]) -> None:
    case = CASES[name]
    part, selected = case.subset(index), case.gram.select(index)
    assert selected.steps.tolist() == part.steps.tolist()
    assert_allclose(maps.trajectory_map(selected), table(cosine, part.points), rtol=0, atol=1e-13)
    assert_allclose(maps.trajectory_map(selected, int(part.steps[0])), table(cosine, part.about(0)), rtol=0, atol=1e-12)
    assert_allclose(angles.update_angle(selected), curve(angle, list(pairwise(part.updates))), **ANGLE)
    assert_allclose(norms.update_norm(selected), [float(length(u)) for u in part.updates], rtol=1e-12)
    assert undefined(selected) == undefined(part.gram)


@pytest.mark.parametrize("index", [[], [2, 1], [1, 1], [-1, 0], [0, 9]], ids=str)
def test_a_selection_that_is_none(index: list[int]) -> None:
    with pytest.raises(ValueError, match="must increase"):
        CASES["walk"].gram.select(index)


def test_an_origin_that_is_no_checkpoint() -> None:
    with pytest.raises(NotFound, match="no step 45") as caught:
        maps.trajectory_map(CASES["walk"].gram, 45)
    assert caught.value.kind == "step-not-found"
    assert "40, 50" in caught.value.hint


def test_update_location_angle(case: Trajectory) -> None:
    pairs = list(zip(case.updates, case.points[:-1], strict=True))
    assert_allclose(angles.update_location_angle(case.gram), curve(angle, pairs), **ANGLE)


def test_update_ratio_and_rms(case: Trajectory) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = [
            float(length(u) / length(p)) if p.any() else math.nan
            for u, p in zip(case.updates, case.points[:-1], strict=True)
        ]
    assert_allclose(norms.update_ratio(case.gram), ratio, rtol=1e-12)
    between = np.diff(case.steps)
    rms = [float(np.sqrt((u * u).mean())) / n for u, n in zip(case.updates, between, strict=True)]
    assert_allclose(norms.update_rms(case.gram), rms, rtol=1e-12)


def test_mds_by_length_weights_points_by_the_path_beside_them(case: Trajectory) -> None:
    lengths = [float(length(u)) for u in case.updates]
    weights = (np.array([*lengths, 0.0]) + np.array([0.0, *lengths])) / 2
    for relative in (False, True):
        points = case.about(0) if relative else case.points
        w = weights[1:] if relative else weights
        kept = [i for i, p in enumerate(points) if p.any()]
        total = sum(w[i] for i in kept)
        mean_unit = (
            sum((w[i] * points[i] / length(points[i]) for i in kept), np.zeros(1)) / total if total > 0 else None
        )
        expected = math.nan if mean_unit is None else float((mean_unit * mean_unit).sum())
        found = maps.relative_mds_by_length(case.gram) if relative else maps.mds_by_length(case.gram)
        assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_mds_by_length_hardly_depends_on_which_checkpoints_were_kept() -> None:
    g = np.random.default_rng(5)
    updates = g.normal(size=(120, 40)) * np.linspace(1.0, 0.05, 120)[:, None]
    whole = made(g.normal(size=40), updates)
    dense_end = whole.subset([0, *range(60, 121)])
    apart = abs(maps.mds(whole.gram) - maps.mds(dense_end.gram))
    by_length = abs(maps.mds_by_length(whole.gram) - maps.mds_by_length(dense_end.gram))
    assert by_length < apart / 2
