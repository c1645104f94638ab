"""What must hold for every trajectory (hypothesis): symmetry, bounds, invariances, and that Grams of disjoint blocks add."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_trajectories import Trajectory, made
from numpy.testing import assert_allclose

from trajsvc.measures import angles, correlations, maps, norms, nulls, variance
from trajsvc.measures.base import GroupGram
from trajsvc.measures.registry import MEASURES, compute

SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def trajectories(draw: st.DrawFn, smallest: int = 1) -> Trajectory:
    """Of 1 to 9 points in 1 to 30 dimensions; updates of any size, some of them zero."""
    g = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(smallest, 9))
    dimensions = draw(st.integers(1, 30))
    sizes = draw(st.lists(st.sampled_from([0.0, 1e-5, 1e-2, 1.0, 30.0]), min_size=count - 1, max_size=count - 1))
    steps = np.cumsum([0, *draw(st.lists(st.integers(1, 1000), min_size=count - 1, max_size=count - 1))])
    updates = g.normal(size=(count - 1, dimensions)) * np.reshape(sizes, (-1, 1))
    return made(g.normal(size=dimensions), updates, steps.tolist())


def defined(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def tolerance(name: str) -> dict[str, float]:
    """Where the Gram itself is rounded otherwise: a difference of points that is small beside the path between them loses digits,
    and an angle near 0 or 180 half of those that its cosine has."""
    return {"rtol": 1e-6, "atol": 5e-3 if MEASURES[name].units == "degree" else 1e-6}


@SETTINGS
@given(trajectories(2))
def test_maps_are_symmetric_with_a_unit_diagonal_and_positive(case: Trajectory) -> None:
    for origin in (None, *case.steps.tolist()):
        values = maps.trajectory_map(case.gram, origin)
        known = ~np.isnan(np.diag(values))
        assert np.array_equal(values, values.T, equal_nan=True)
        assert np.all(np.diag(values)[known] == 1.0)
        assert np.array_equal(np.isnan(values), ~np.logical_and.outer(known, known))
        assert np.all(np.abs(defined(values)) <= 1.0)
        if known.any():
            assert np.linalg.eigvalsh(values[np.ix_(known, known)])[0] > -1e-8


@SETTINGS
@given(trajectories())
def test_means_are_bounded(case: Trajectory) -> None:
    for value in (maps.mds(case.gram), maps.relative_mds(case.gram), nulls.random_walk_mds(case.gram)):
        assert np.isnan(value) or -1e-9 <= value <= 1.0 + 1e-12
    assert (
        np.isnan(correlations.mu(case.gram)) or abs(correlations.mu(case.gram)) <= correlations.alpha(case.gram) + 1e-12
    )
    assert np.isnan(norms.tortuosity(case.gram)) or norms.tortuosity(case.gram) >= 1.0 - 1e-9


@SETTINGS
@given(trajectories(2), st.sampled_from([2.0**-20, 0.5, 4096.0]))
def test_scale_changes_lengths_and_nothing_else(case: Trajectory, factor: float) -> None:
    """By a power of two, which rounds nothing."""
    scaled = made(case.basis[0] * factor, case.basis[1:] * factor, case.steps.tolist()).gram
    before, after = compute(MEASURES, case.gram), compute(MEASURES, scaled)
    for name, measure in MEASURES.items():
        if name == "noise_floor":
            continue
        expected = np.asarray(before[name]) * (factor if measure.units == "parameter" else 1.0)
        assert_allclose(after[name], expected, rtol=1e-9, atol=1e-9, err_msg=name)


@SETTINGS
@given(trajectories(2), st.integers(0, 2**32 - 1))
def test_order_of_coordinates_does_not_matter(case: Trajectory, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(case.basis.shape[1])
    shuffled = made(case.basis[0][order], case.basis[1:, order], case.steps.tolist()).gram
    before, after = compute(MEASURES, case.gram), compute(MEASURES, shuffled)
    for name in MEASURES:
        assert_allclose(after[name], before[name], **tolerance(name), err_msg=name)


@SETTINGS
@given(trajectories(2), st.integers(0, 30))
def test_grams_of_blocks_add(case: Trajectory, cut: int) -> None:
    left, right = case.basis[:, :cut], case.basis[:, cut:]
    total = GroupGram("sum", case.steps, left @ left.T + right @ right.T, case.gram.parameters, case.gram.rounding)
    before, after = compute(MEASURES, case.gram), compute(MEASURES, total)
    for name in MEASURES:
        assert_allclose(after[name], before[name], **tolerance(name), err_msg=name)


@SETTINGS
@given(trajectories(3), st.data())
def test_selecting_twice_is_selecting_once(case: Trajectory, data: st.DataObject) -> None:
    count = len(case.steps)
    first = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=2)))
    second = sorted(data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1)))
    once, twice = case.gram.select([first[i] for i in second]), case.gram.select(first).select(second)
    assert once.steps.tolist() == twice.steps.tolist()
    assert_allclose(once.gram, twice.gram, rtol=1e-9, atol=1e-12 * np.abs(case.gram.gram).max())


@SETTINGS
@given(trajectories(3))
def test_angles_between_neighbours_add_up_to_at_least_the_whole(case: Trajectory) -> None:
    """The triangle inequality on the sphere."""
    sweep, apex = angles.sweep_angle_origin(case.gram), angles.apex_angle_origin(case.gram)
    assert sweep.sum() >= apex[-1] * (1 - 1e-9) - 1e-5


@SETTINGS
@given(trajectories(3))
def test_shares_of_variance_are_shares(case: Trajectory) -> None:
    for found in (variance.explained_variance(case.gram), variance.explained_variance_updates(case.gram)):
        if not np.isnan(found).any():
            assert np.all(np.diff(found) <= 1e-12)
            assert np.all(found >= 0.0)
            assert_allclose(found.sum(), 1.0)
