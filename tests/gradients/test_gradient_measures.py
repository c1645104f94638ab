"""Measures of sets of gradients against float64 oracles from the vectors themselves, their identities and their edges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from trajsvc.measures.gradients import conditioning, correlations, estimators
from trajsvc.measures.gradients.vector_gram import VectorGram

RNG = np.random.default_rng(3)
SETS = {
    "wide": RNG.normal(size=(12, 300)),
    "with a common direction": RNG.normal(size=(9, 40)) + 3.0 * RNG.normal(size=40),
    "tall": RNG.normal(size=(30, 5)),
    "two": RNG.normal(size=(2, 7)),
    "with a zero": np.vstack([RNG.normal(size=(5, 20)), np.zeros((1, 20))]),
    "tiny differences": 1e3 * RNG.normal(size=20) + 1e-3 * RNG.normal(size=(6, 20)),
    "of sizes far apart": RNG.normal(size=(8, 50)) * np.logspace(-8, 8, 8)[:, None],
}


def cosines(g: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = g / np.linalg.norm(g, axis=1, keepdims=True)
    return unit @ unit.T


def pairs(values: np.ndarray) -> np.ndarray:
    found = values[np.triu_indices(len(values), 1)]
    return found[~np.isnan(found)]


def trace_of_covariance(g: np.ndarray) -> float:
    return float(((g - g.mean(axis=0)) ** 2).sum() / len(g))


def dissonance(g: np.ndarray) -> float:
    terms = [
        np.linalg.norm(a - b) / np.linalg.norm(a)
        for (i, a), (j, b) in itertools.product(enumerate(g), enumerate(g))
        if i != j and np.linalg.norm(a) > 0
    ]
    return float(np.mean(terms))


ORACLES: dict[str, Callable[[np.ndarray], float]] = {
    "mu": lambda g: pairs(cosines(g)).mean(),
    "alpha": lambda g: math.sqrt((pairs(cosines(g)) ** 2).mean()),
    "confusion": lambda g: max(0.0, -pairs(cosines(g)).min()),
    "confusion_bound": lambda g: max(0.0, -pairs(g @ g.T).min()),
    "diversity": lambda g: (g**2).sum() / (g.sum(axis=0) ** 2).sum(),
    "coherence": lambda g: (g @ g.mean(axis=0)).sum() / (g**2).sum(),
    "batch_dissonance": dissonance,
    "stable_rank": lambda g: (np.linalg.svd(g, compute_uv=False) ** 2).sum() / np.linalg.norm(g, 2) ** 2,
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("measure", ORACLES)
def test_a_measure_is_that_of_the_vectors(name: str, measure: str) -> None:
    g = SETS[name]
    mine = getattr(correlations if measure in ("mu", "alpha") else conditioning, measure)(VectorGram.of_vectors(g))
    assert mine == pytest.approx(ORACLES[measure](g), rel=1e-9, abs=1e-12) or (
        measure == "batch_dissonance" and name == "tiny differences" and math.isnan(mine)
    )


@pytest.mark.parametrize("name", [n for n in SETS if n != "tiny differences"])
def test_the_trace_of_the_covariance_is_that_of_the_vectors(name: str) -> None:
    g = SETS[name]
    gram = VectorGram.of_vectors(g)
    assert gram.variance == pytest.approx(trace_of_covariance(g), rel=1e-9)
    assert gram.mean_square == pytest.approx(float((g.mean(axis=0) ** 2).sum()), rel=1e-9)
    assert estimators.average_variance(gram, 4) == pytest.approx(trace_of_covariance(g) / 4 / g.shape[1], rel=1e-9)
    whole = trace_of_covariance(g) + float((g.mean(axis=0) ** 2).sum())
    assert estimators.normalised_variance(gram) == pytest.approx(trace_of_covariance(g) / whole, rel=1e-9)


def test_a_variance_that_rounding_could_explain_is_undefined_until_differences_are_formed_first() -> None:
    g = SETS["tiny differences"]
    assert math.isnan(VectorGram.of_vectors(g).variance)
    differences = VectorGram.of_vectors(g - g[0])
    assert differences.variance == pytest.approx(trace_of_covariance(g), rel=1e-9)


def test_copies_that_differ_in_rounding_alone_leave_the_variance_as_it_is() -> None:
    g = np.vstack([SETS["wide"], SETS["wide"][:3] * (1.0 + 2.0**-51)])
    gram = VectorGram.of_vectors(g)
    assert math.isnan(gram.squared_distances[0, 12])
    assert gram.variance == pytest.approx(trace_of_covariance(g), rel=1e-9)


@pytest.mark.parametrize("name", SETS)
def test_lags_and_components_are_those_of_the_vectors(name: str) -> None:
    g = SETS[name]
    gram, c = VectorGram.of_vectors(g), cosines(g)
    for k in range(len(g)):
        along = np.diagonal(c, k)
        along = along[~np.isnan(along)]
        if not along.size:
            assert np.isnan(correlations.mu_lag(gram)[k])
            continue
        assert correlations.mu_lag(gram)[k] == pytest.approx(along.mean(), abs=1e-12)
        assert correlations.alpha_lag(gram)[k] == pytest.approx(math.sqrt((along**2).mean()), abs=1e-12)
    assert np.allclose(correlations.gradient_cosine(gram), np.diagonal(c, 1), atol=1e-12, equal_nan=True)
    if name not in ("tiny differences", "of sizes far apart"):
        values = np.linalg.svd(g - g.mean(axis=0), compute_uv=False) ** 2
        expected = np.zeros(len(g) - 1)
        expected[: min(len(values), len(expected))] = (values / values.sum())[: len(expected)]
        assert np.allclose(correlations.explained_variance(gram), expected, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in SETS if n != "tiny differences"])
def test_the_identities_hold(name: str) -> None:
    gram = VectorGram.of_vectors(SETS[name])
    coherence = conditioning.coherence(gram)
    assert estimators.normalised_variance(gram) == pytest.approx(1.0 - coherence, rel=1e-9)
    assert conditioning.diversity(gram) == pytest.approx(1.0 / (len(gram) * coherence), rel=1e-12)
    assert conditioning.gain_ratio(gram, gram) == 1.0
    assert estimators.average_variance(gram, 8) == estimators.average_variance(gram, 4) / 2


def test_grams_of_parts_add_to_that_of_the_whole() -> None:
    g = SETS["wide"]
    parts = VectorGram.of_vectors(g[:, :130]) + VectorGram.of_vectors(g[:, 130:])
    whole = VectorGram.of_vectors(g)
    assert parts.parameters == whole.parameters
    assert np.allclose(parts.gram, whole.gram, rtol=1e-13)
    assert conditioning.coherence(parts) == pytest.approx(conditioning.coherence(whole), rel=1e-12)


def test_vectors_that_are_all_equal() -> None:
    gram = VectorGram.of_vectors(np.tile(SETS["wide"][:1], (7, 1)))
    assert conditioning.confusion(gram) == 0.0
    assert conditioning.diversity(gram) == pytest.approx(1 / 7)
    assert conditioning.coherence(gram) == pytest.approx(1.0)
    assert conditioning.stable_rank(gram) == pytest.approx(1.0)
    assert correlations.mu(gram) == pytest.approx(1.0)
    assert gram.variance == 0.0
    assert np.isnan(correlations.explained_variance(gram)).all()
    assert conditioning.batch_dissonance(gram) == 0.0


def test_vectors_that_are_orthogonal() -> None:
    gram = VectorGram.of_vectors(3.0 * np.eye(6, 20))
    assert conditioning.diversity(gram) == pytest.approx(1.0)
    assert conditioning.coherence(gram) == pytest.approx(1 / 6)
    assert conditioning.confusion(gram) == correlations.mu(gram) == correlations.alpha(gram) == 0.0
    assert conditioning.stable_rank(gram) == pytest.approx(6.0)
    assert np.allclose(correlations.explained_variance(gram), 1 / 5)


def test_vectors_that_sum_to_zero_and_vectors_of_zeros() -> None:
    opposed = VectorGram.of_vectors([[1.0, 2.0], [-1.0, -2.0]])
    assert conditioning.diversity(opposed) == estimators.noise_to_signal(opposed) == math.inf
    assert conditioning.coherence(opposed) == 0.0
    assert conditioning.confusion(opposed) == pytest.approx(1.0)
    nothing = VectorGram.of_vectors(np.zeros((3, 4)))
    assert nothing.zero_vectors == 3
    for value in (
        correlations.mu(nothing), conditioning.confusion(nothing), conditioning.diversity(nothing), conditioning.coherence(nothing),
        conditioning.batch_dissonance(nothing), conditioning.gradient_rank(nothing), estimators.noise_to_signal(nothing),
        conditioning.gain_ratio(nothing, nothing), estimators.normalised_variance(nothing),
    ):  # fmt: skip
        assert math.isnan(value)


def test_one_vector() -> None:
    one = VectorGram.of_vectors([[3.0, 4.0]])
    assert conditioning.coherence(one) == conditioning.diversity(one) == conditioning.stable_rank(one) == 1.0
    assert conditioning.norm(one).tolist() == [5.0]
    assert one.variance == 0.0
    assert correlations.explained_variance(one).size == correlations.gradient_cosine(one).size == 0
    for value in (
        correlations.mu(one),
        conditioning.confusion(one),
        conditioning.confusion_bound(one),
        estimators.noise_scale(one),
    ):
        assert math.isnan(value)


@pytest.mark.parametrize("replacement", [True, False])
def test_the_variance_of_a_batch_is_that_of_all_batches(replacement: bool) -> None:
    g = RNG.normal(size=(6, 11))
    draws = itertools.product(range(6), repeat=2) if replacement else itertools.permutations(range(6), 2)
    means = np.array([g[list(draw)].mean(axis=0) for draw in draws])
    expected = trace_of_covariance(means) / 11
    assert estimators.average_variance(VectorGram.of_vectors(g), 2, replacement=replacement) == pytest.approx(expected)


def test_the_variance_from_some_of_the_examples_is_unbiased() -> None:
    g = RNG.normal(size=(6, 11))
    known = [
        estimators.average_variance(VectorGram.of_vectors(g[list(some)]), 1, population=6, replacement=True)
        for some in itertools.product(range(6), repeat=3)
    ]
    assert np.mean(known) == pytest.approx(trace_of_covariance(g) / 11)  # all samples of three, drawn with replacement


def test_the_noise_scale_is_that_of_the_sums() -> None:
    g = RNG.normal(size=(50, 30)) + 1.0
    trace = float(np.cov(g.T).trace())
    expected = trace / (float((g.mean(axis=0) ** 2).sum()) - trace / 50)
    assert estimators.noise_scale(VectorGram.of_vectors(g)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(40, 500), (3, 400), (12, 12), (20, 5), (1, 50)])
def test_the_rank_of_a_gaussian_matrix_is_about_that_expected(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    drawn = [conditioning.stable_rank(VectorGram.of_vectors(rng.normal(size=shape))) for _ in range(40)]
    assert conditioning.gaussian_rank(*shape) == pytest.approx(np.mean(drawn), rel=0.08)
    assert conditioning.gaussian_rank(*shape, 5) == conditioning.gaussian_rank(*shape, 5)


def test_what_is_no_set_of_vectors_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        VectorGram.of_vectors([[1.0, math.nan]])
    with pytest.raises(ValueError, match="square"):
        VectorGram(np.zeros((2, 3)), 3)
    with pytest.raises(ValueError, match="labels"):
        VectorGram(np.eye(2), 3, ("one",))
    with pytest.raises(ValueError, match="do not add"):
        VectorGram(np.eye(2), 3) + VectorGram(np.eye(3), 3)
    with pytest.raises(ValueError, match="batches of 9"):
        estimators.average_variance(VectorGram(np.eye(3), 3), 9, replacement=False)


def test_the_ratios_of_signal_and_noise_are_each_others_inverse() -> None:
    gram = VectorGram.of_vectors(SETS["wide"])
    for batch in (1, 4):
        assert estimators.snr(gram, batch) * estimators.noise_to_signal(gram, batch) == pytest.approx(1.0)
    assert estimators.snr(VectorGram.of_vectors(np.ones((3, 2)))) == math.inf
    assert math.isnan(estimators.snr(VectorGram.of_vectors(np.zeros((3, 2)))))


def test_a_variance_of_drawn_batches_agrees_with_that_of_examples() -> None:
    g = RNG.normal(size=(20, 6)) + 1.0
    means = np.array([g[RNG.integers(20, size=4)].mean(axis=0) for _ in range(4000)])
    drawn = np.mean([estimators.average_variance_drawn(VectorGram.of_vectors(m)) for m in np.split(means, 400)])
    assert drawn == pytest.approx(estimators.average_variance(VectorGram.of_vectors(g), 4), rel=0.05)
    assert math.isnan(estimators.average_variance_drawn(VectorGram.of_vectors(g[:1])))


def test_svrg_has_no_variance_where_it_was_renewed_and_twice_the_batch_half_of_it() -> None:
    then, now = RNG.normal(size=(10, 7)), RNG.normal(size=(10, 7))
    assert estimators.average_variance_svrg(VectorGram.of_vectors(then - then), 3) == 0.0
    expected = trace_of_covariance(now - then) / 3 / 7
    assert estimators.average_variance_svrg(VectorGram.of_vectors(now - then), 3) == pytest.approx(expected)
    gram = VectorGram.of_vectors(now)
    assert estimators.average_variance_sg2b(gram, 3) == estimators.average_variance(gram, 3) / 2


def test_pure_noise_takes_the_published_ratio_past_one() -> None:
    s, coordinates = 10, 20000
    estimates, others = RNG.normal(size=(2, s, coordinates))
    ratios = ((others.mean(axis=0) - estimates) ** 2).sum(axis=0) / (estimates**2).sum(axis=0)
    found = estimators.normalised_variance_coordinates(float(ratios.sum()), coordinates)
    assert found == pytest.approx(1 + 1 / (s - 2), rel=0.01)
    assert math.isnan(estimators.normalised_variance_coordinates(0.0, 0))


def test_shares_above_chance_are_those_of_the_cosines() -> None:
    g = SETS["with a common direction"]
    along = np.diagonal(cosines(g), 1)
    gram = VectorGram.of_vectors(g)
    bound = math.sqrt(math.log(40) / 40)
    assert correlations.random_bound(gram) == pytest.approx(bound)
    assert correlations.mean_gradient_cosine(gram) == pytest.approx(along.mean())
    assert correlations.gradient_cosine_share(gram) == (along > bound).mean()
    assert correlations.gradient_cosine_share_absolute(gram) == (np.abs(along) > bound).mean()
    assert correlations.inv_sqrt_parameters(gram) == pytest.approx(40**-0.5)
    assert conditioning.mean_norm(gram) == pytest.approx(np.linalg.norm(g.mean(axis=0)))


def test_some_of_the_vectors_are_chosen() -> None:
    g = SETS["wide"]
    chosen = VectorGram.of_vectors(g, [str(i) for i in range(len(g))]).select([4, 0, 7])
    assert np.allclose(chosen.gram, g[[4, 0, 7]] @ g[[4, 0, 7]].T)
    assert chosen.labels == ("4", "0", "7")


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_the_dissonance_of_batches_and_examples_is_that_of_the_vectors(batch: int) -> None:
    g = SETS["wide"]
    means = [g[at : at + batch].mean(axis=0) for at in range(0, len(g) - batch + 1, batch)]
    expected = np.mean([np.linalg.norm(m - x) / np.linalg.norm(m) for m in means for x in g])
    found = conditioning.batch_dissonance_examples(VectorGram.of_vectors(g), batch)
    assert found == pytest.approx(expected, rel=1e-9)
    assert math.isnan(conditioning.batch_dissonance_examples(VectorGram.of_vectors(g), len(g) + 1))


@pytest.mark.parametrize("shape", [(20, 300), (12, 5)])
def test_gaussian_vectors_explain_what_chance_gives(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    drawn = [correlations.explained_variance(VectorGram.of_vectors(rng.normal(size=shape))) for _ in range(60)]
    found = correlations.explained_variance_gaussian(VectorGram.of_vectors(rng.normal(size=shape)))
    assert found == pytest.approx(np.mean(drawn, axis=0), rel=0.25, abs=1e-9)
    assert found.sum() == pytest.approx(1.0)
