"""Gradient Clustering: the objective against its definition, its variance against all draws, descent, duplicates."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from trajsvc.measures.gradients.clustering import (
    Clustering,
    average_variance_clustered,
    cluster,
    cluster_by_iteration,
)
from trajsvc.measures.gradients.estimators import average_variance, objective, stratified_variance
from trajsvc.measures.gradients.vector_gram import VectorGram


def grouped(seed: int = 1, groups: int = 5, each: int = 12, parameters: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Vectors about some centres, and of which each is."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, parameters))
    truth = np.repeat(np.arange(groups), each)
    return centres[truth] + 0.1 * rng.normal(size=(len(truth), parameters)), truth


def test_the_objective_is_that_of_its_definition() -> None:
    g, _ = grouped()
    rng = np.random.default_rng(0)
    assignment = rng.integers(4, size=len(g))
    expected = sum(
        (assignment == k).sum() * ((g[assignment == k] - g[assignment == k].mean(axis=0)) ** 2).sum() for k in range(4)
    )
    assert objective(VectorGram.of_vectors(g), assignment) == pytest.approx(expected, rel=1e-9)


def test_the_estimator_has_the_mean_and_the_variance_of_all_its_draws() -> None:
    rng = np.random.default_rng(4)
    g = rng.normal(size=(7, 5))
    assignment = np.array([0, 0, 0, 1, 1, 2, 2])
    strata = [np.flatnonzero(assignment == k) for k in range(3)]
    draws = np.array(
        [sum(len(s) / 7 * g[i] for s, i in zip(strata, chosen, strict=True)) for chosen in itertools.product(*strata)]
    )
    assert np.allclose(draws.mean(axis=0), g.mean(axis=0))
    expected = ((draws - draws.mean(axis=0)) ** 2).sum() / len(draws) / 5
    assert stratified_variance(VectorGram.of_vectors(g), assignment) == pytest.approx(expected)


def test_one_cluster_is_a_single_example_and_one_for_each_is_the_full_gradient() -> None:
    gram = VectorGram.of_vectors(grouped()[0])
    assert cluster(gram, 1).average_variance == pytest.approx(average_variance(gram))
    assert cluster(gram, len(gram)).average_variance == 0.0


def test_true_groups_are_found_and_the_same_seed_finds_the_same() -> None:
    g, truth = grouped()
    found = cluster(VectorGram.of_vectors(g), 5, seed=2)
    together = found.assignment[:, None] == found.assignment[None, :]
    assert np.array_equal(together, truth[:, None] == truth[None, :])
    assert sorted(found.sizes.tolist()) == [12] * 5
    again = cluster(VectorGram.of_vectors(g), 5, seed=2)
    assert np.array_equal(found.assignment, again.assignment)
    assert found.objective == pytest.approx(float((found.sizes**2 * found.traces).sum()))


@pytest.mark.parametrize("seed", range(5))
def test_no_single_move_lowers_what_was_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gram = VectorGram.of_vectors(rng.normal(size=(14, 6)))
    found = cluster(gram, 3, seed=seed, restarts=1)
    for i, k in itertools.product(range(14), range(3)):
        moved = found.assignment.copy()
        moved[i] = k
        assert objective(gram, moved) >= found.objective * (1 - 1e-9)


def test_examples_that_are_repeated_add_no_variance() -> None:
    rng = np.random.default_rng(6)
    few = rng.normal(size=(5, 40))
    g = np.vstack([np.repeat(few, 18, axis=0), rng.normal(size=(10, 40))])  # 90 of 100 are copies
    gram = VectorGram.of_vectors(g)
    assert cluster(gram, 15, seed=0).average_variance < 0.05 * average_variance(gram, 2)


def test_an_assignment_is_worth_less_where_the_gradients_have_moved_on() -> None:
    g, _ = grouped()
    then = cluster(VectorGram.of_vectors(g), 5)
    later = VectorGram.of_vectors(g + 0.5 * np.random.default_rng(9).normal(size=g.shape))
    stale = Clustering.of(later, then.assignment)
    assert np.array_equal(stale.assignment, then.assignment)
    assert stale.objective >= cluster(later, 5).objective * (1 - 1e-9)


def test_what_cannot_be_clustered_is_refused() -> None:
    gram = VectorGram.of_vectors(grouped()[0])
    for clusters in (0, len(gram) + 1):
        with pytest.raises(ValueError, match="clusters of"):
            cluster(gram, clusters)
    near = 1e3 * np.ones(20) + 1e-6 * np.random.default_rng(0).normal(size=(6, 20))
    with pytest.raises(ValueError, match="rounding"):
        cluster(VectorGram.of_vectors(near), 2)


@pytest.mark.parametrize("seed", range(4))
def test_the_papers_iteration_keeps_its_clusters_and_its_best(seed: int) -> None:
    g, _ = grouped(seed, groups=5, each=12)
    gram = VectorGram.of_vectors(g)
    found = cluster_by_iteration(gram, 5, seed=seed)
    assert len(found.sizes) == 5
    assert found.sizes.min() >= 1
    more = cluster_by_iteration(gram, 5, seed=seed, rounds=20)
    start = cluster_by_iteration(gram, 5, seed=seed, rounds=0)
    assert more.objective <= found.objective <= start.objective
    assert cluster(gram, 5, seed=seed).objective <= found.objective * (1 + 1e-9)
    assert np.array_equal(cluster_by_iteration(gram, 5, seed=seed).assignment, found.assignment)


def test_a_step_of_the_papers_iteration_is_that_of_its_equation() -> None:
    g, _ = grouped(2, groups=3, each=6)
    gram = VectorGram.of_vectors(g)
    start = cluster_by_iteration(gram, 3, seed=1, rounds=0).assignment
    centres = np.array([g[start == k].mean(axis=0) for k in range(3)])
    costs = np.array([[(start == k).sum() * ((c - x) ** 2).sum() for k, c in enumerate(centres)] for x in g])
    expected = min(objective(gram, costs.argmin(axis=1)), objective(gram, start))
    assert cluster_by_iteration(gram, 3, seed=1, rounds=1).objective == pytest.approx(expected)


def test_copies_leave_no_cluster_empty() -> None:
    gram = VectorGram.of_vectors(np.vstack([np.ones((6, 4)), np.zeros((1, 4))]))
    assert cluster_by_iteration(gram, 4).sizes.tolist().count(0) == 0


def test_examples_come_in_the_order_of_their_clusters_the_largest_first() -> None:
    assignment = np.array([1, 0, 2, 1, 2, 1])
    gram = VectorGram.of_vectors(np.random.default_rng(0).normal(size=(6, 3)))
    assert Clustering.of(gram, assignment).order.tolist() == [0, 3, 5, 2, 4, 1]


def test_the_variance_of_clusters_is_that_of_the_best_found() -> None:
    gram = VectorGram.of_vectors(grouped()[0])
    assert average_variance_clustered(gram, 5, seed=3) == cluster(gram, 5, seed=3).average_variance
    assert average_variance_clustered(VectorGram.of_vectors(np.eye(3)), 8) == 0.0
