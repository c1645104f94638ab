"""Gradients of perturbed parameters and inputs against the vectors themselves; a quadratic, where κ and the Hessian are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trajsvc.measures.gradients import perturbed
from trajsvc.measures.gradients.vector_gram import VectorGram

RNG = np.random.default_rng(7)
P, N = 12, 9
SQUARE = RNG.normal(size=(P, P))
HESSIAN = SQUARE @ SQUARE.T
W = RNG.normal(size=P)
TARGET = RNG.normal(size=P)
G = HESSIAN @ W - TARGET
MOVES = 1e-3 * RNG.normal(size=(N, P))
CHANGES = MOVES @ HESSIAN


def of(g: np.ndarray, changes: np.ndarray) -> VectorGram:
    return VectorGram.of_vectors(np.vstack([g, changes]))


def squares(vectors: np.ndarray) -> np.ndarray:
    return (vectors**2).sum(axis=-1)


def long(values: np.ndarray) -> np.ndarray:
    return values.astype(np.longdouble)


def test_kappa_of_a_quadratic_is_that_of_its_hessian() -> None:
    norm = np.linalg.norm
    expected = max(norm(HESSIAN @ m) * norm(W) / (norm(m) * norm(G)) for m in MOVES)
    found = perturbed.kappa_weights(of(G, CHANGES), float(W @ W), squares(MOVES))
    assert found == pytest.approx(expected, rel=1e-12)
    bound = norm(HESSIAN, 2) * norm(W) / norm(G)
    assert found <= bound
    steepest = np.linalg.eigh(HESSIAN)[1][:, -1:].T * 1e-3
    along = perturbed.kappa_weights(of(G, steepest @ HESSIAN), float(W @ W), squares(steepest))
    assert along == pytest.approx(bound, rel=1e-12)
    assert perturbed.kappa_change(found, found) == 1.0
    assert math.isnan(perturbed.kappa_change(found, math.nan))


def test_kappa_of_a_block_is_its_answer_to_the_move_of_all() -> None:
    half = slice(0, P // 2)
    expected = max(
        np.linalg.norm(c[half]) * np.linalg.norm(W) / (np.linalg.norm(m) * np.linalg.norm(G[half]))
        for c, m in zip(CHANGES, MOVES, strict=True)
    )
    found = perturbed.kappa_weights(of(G[half], CHANGES[:, half]), float(W @ W), squares(MOVES))
    assert found == pytest.approx(expected, rel=1e-12)


def test_cosine_diversity_and_coherence_are_those_of_the_perturbed_gradients() -> None:
    gram, moved = of(G, CHANGES), long(G) + long(CHANGES)
    cosines = moved @ long(G) / np.sqrt(squares(moved) * squares(long(G)))
    distance = float(max(1 - c for c in cosines))
    assert perturbed.weight_cosine_distance(gram) == pytest.approx(distance, rel=1e-9)
    assert perturbed.weight_cosine(gram) == pytest.approx(float(min(cosines)), rel=1e-15)
    expected = float(squares(moved).sum() / squares(moved.sum(axis=0)))
    assert perturbed.weight_diversity(gram) == pytest.approx(expected, rel=1e-12)
    assert perturbed.weight_diversity(of(G, 1e-9 * CHANGES)) == pytest.approx(1 / N)
    expected = float((moved @ long(G)).sum() / squares(moved).sum())
    assert perturbed.weight_coherence(gram) == pytest.approx(expected, rel=1e-12)


def test_a_large_change_turns_the_gradient_round() -> None:
    gram = of(G, np.vstack([-2.0 * G, -0.5 * G]))
    assert perturbed.weight_cosine(gram) == pytest.approx(-1.0)
    assert perturbed.weight_cosine_distance(gram) == pytest.approx(2.0)


def test_kappa_of_steps_is_that_of_the_vectors_with_either_batch() -> None:
    steps, lr = 6, 0.01
    targets = TARGET + 0.1 * RNG.normal(size=(steps, P))
    w, g, same = [W], [], []
    for target in targets:
        g.append(HESSIAN @ w[-1] - target)
        w.append(w[-1] - lr * g[-1])
        same.append(HESSIAN @ w[-1] - target - g[-1])
    at, moves = np.array(w[:-1]), np.diff(np.array(w), axis=0)
    norm = np.linalg.norm
    gram = VectorGram.of_vectors(np.array(g))
    pairs = [norm(g[t + 1] - g[t]) * norm(at[t]) / (norm(moves[t]) * norm(g[t])) for t in range(steps - 1)]
    found = perturbed.kappa_weights_step(gram, squares(at), squares(moves))
    assert found == pytest.approx(np.mean(pairs), rel=1e-9)
    one = [norm(same[t]) * norm(at[t]) / (norm(moves[t]) * norm(g[t])) for t in range(steps)]
    responses = squares(np.array(same))
    found = perturbed.kappa_weights_step_same(gram, squares(at), squares(moves), responses)
    assert found == pytest.approx(np.mean(one), rel=1e-12)
    expected = np.mean([norm(same[t]) / norm(moves[t]) for t in range(steps)])
    assert perturbed.step_consistency(responses, squares(moves)) == pytest.approx(expected, rel=1e-12)
    assert perturbed.step_consistency(responses, squares(moves)) <= norm(HESSIAN, 2)


def test_kappa_of_inputs_is_a_mean_over_the_examples_that_have_one() -> None:
    x = RNG.normal(size=(4, 5))
    a = RNG.normal(size=(P, 5))
    delta = 1e-3 * RNG.normal(size=(3, 5))
    x[1] = 0.0
    g = x @ a.T
    changes = delta @ a.T
    rows = np.concatenate([np.vstack([g[i], changes]) for i in range(4)])
    norm = np.linalg.norm
    expected = np.mean(
        [
            max(norm(c) * norm(x[i]) / (norm(d) * norm(g[i])) for c, d in zip(changes, delta, strict=True))
            for i in (0, 2, 3)
        ]
    )
    moves = np.tile(squares(delta), (4, 1))
    found = perturbed.kappa_inputs(VectorGram.of_vectors(rows), squares(x), moves)
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_gradient_or_a_move_of_zero_has_no_condition() -> None:
    nothing = of(np.zeros(P), CHANGES)
    assert math.isnan(perturbed.kappa_weights(nothing, 1.0, squares(MOVES)))
    still = squares(MOVES) * (np.arange(N) == 0)
    first = perturbed.kappa_weights(of(G, CHANGES[:1]), 1.0, squares(MOVES[:1]))
    assert perturbed.kappa_weights(of(G, CHANGES), 1.0, still) == first
    zeros = of(np.zeros(P), np.zeros((2, P)))
    for value in (
        perturbed.weight_cosine(zeros),
        perturbed.weight_diversity(zeros),
        perturbed.weight_coherence(zeros),
        perturbed.step_consistency(np.ones(3), np.zeros(3)),
        perturbed.kappa_inputs(zeros, np.zeros(1), np.ones((1, 2))),
    ):
        assert math.isnan(value)
