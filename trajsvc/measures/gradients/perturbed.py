"""How a gradient answers to a small change of the parameters or of the input: κ, and the cosine, diversity and coherence of perturbed ones.

Source: *Conditioning* (Nelson, thesis), chapters 2 and 4. A set is the vectors [g, d_1 … d_n]: a gradient g = ḡ(w) and the differences
d_k = ḡ(w + ω_k) − g, formed before anything is multiplied, since they are 1e-3 … 1e-6 of g. ``moves`` are ‖ω_k‖², (n), and ``weights`` is
‖w‖²: of the whole network also where the Gram is of a part of it, whose answer to the network's move is meant. float64.
"""

from __future__ import annotations

import numpy as np

from trajsvc.measures.base import Array
from trajsvc.measures.geometry import mean_defined, one_minus_cosine
from trajsvc.measures.gradients.vector_gram import VectorGram


def kappa_weights(gram: VectorGram, weights: float, moves: Array) -> float:
    """max_k ‖ḡ(w + ω_k) − ḡ(w)‖ ‖w‖ / (‖ω_k‖ ‖ḡ(w)‖), one batch on both sides (*Conditioning* 2.5); ≥ 0.

    A lower bound of ‖H‖₂ ‖w‖ / ‖ḡ‖ up to o(ω), H the Hessian, where the loss is smooth; steps across kinks of ReLU exceed it. NaN where
    the gradient is zero. A zero ω_k is left out.
    """
    return _largest(_relative(gram.squares[1:], weights, moves, gram.squares[0]))


def kappa_change(coarse: float, fine: float) -> float:
    """``kappa_weights`` at η over that at η / 10: about 1 where the gradient is linear in the move, far from it across kinks."""
    return coarse / fine if fine > 0.0 else float("nan")


def kappa_weights_step(gram: VectorGram, weights: Array, moves: Array) -> float:
    """Mean over t of ‖ḡ_{t+1} − ḡ_t‖ ‖w_t‖ / (‖w_{t+1} − w_t‖ ‖ḡ_t‖) along a training (*Conditioning*, after 2.24).

    The gradients are of successive batches, ḡ_{t+1} = ḡ_{χ_{t+1}}(w_{t+1}), so the difference holds the noise of both. ``weights`` and
    ``moves`` are (n), ‖w_t‖² and ‖w_{t+1} − w_t‖². Undefined terms are left out; NaN without any.
    """
    changes = np.diagonal(gram.squared_distances, 1)
    return mean_defined(_relative(changes, weights[:-1], moves[:-1], gram.squares[:-1]))


def kappa_weights_step_same(gram: VectorGram, weights: Array, moves: Array, responses: Array) -> float:
    """``kappa_weights_step`` with the same batch on both sides: ``responses`` are ‖ḡ_{χ_t}(w_{t+1}) − ḡ_{χ_t}(w_t)‖², (n)."""
    return mean_defined(_relative(responses, weights, moves, gram.squares))


def kappa_inputs(gram: VectorGram, inputs: Array, moves: Array) -> float:
    """Mean over m examples of max_k ‖g(x + δ_k) − g(x)‖ ‖x‖ / (‖δ_k‖ ‖g(x)‖), the label kept (*Conditioning* 3.4, 3.16).

    The vectors are, example by example, [g(x), d_1 … d_n]; ``inputs`` is ‖x‖², (m), ``moves`` ‖δ_k‖², (m, n). An example with x = 0 or
    g(x) = 0 is left out; NaN without any.
    """
    squares = gram.squares.reshape(len(inputs), -1)
    terms = _relative(squares[:, 1:], inputs[:, None], moves, squares[:, :1])
    terms[inputs <= 0.0] = np.nan
    return mean_defined(np.array([_largest(row) for row in terms]))


def step_consistency(responses: Array, moves: Array) -> float:
    """Mean of ‖ḡ(w) − ḡ(w − α)‖ / ‖α‖ over moves α along the gradient, one batch on both sides (*Conditioning* 2.1): what κ normalises.

    ``responses`` and ``moves`` are the squares of both norms. In units of the gradient over those of a parameter. NaN without a move.
    """
    return mean_defined(_root(responses, moves))


def weight_cosine(gram: VectorGram) -> float:
    """min_k cos(ḡ(w + ω_k), ḡ(w)), −1 … 1 (*Conditioning* 4.1, not clipped at 0). NaN where a gradient is zero throughout."""
    return 1.0 - weight_cosine_distance(gram)


def weight_cosine_distance(gram: VectorGram) -> float:
    """max_k of 1 − cos(ḡ(w + ω_k), ḡ(w)), 0 … 2, without cancellation: it is 1e-4 … 1e-8. NaN as ``weight_cosine``."""
    changed = _moved(gram)
    base, squares, along = gram.gram[0, 0], np.diag(changed), gram.gram[0, 0] + gram.gram[0, 1:]
    excess = -(2.0 * gram.gram[0, 1:] + gram.squares[1:])
    return _largest(one_minus_cosine(np.full(len(squares), base), squares, along, gram.squares[1:], excess))


def weight_diversity(gram: VectorGram) -> float:
    """Σ_k ‖ḡ(w + ω_k)‖² / ‖Σ_k ḡ(w + ω_k)‖² (*Conditioning* 4.2): 1/n in the limit of small moves. NaN where all are zero."""
    changed = _moved(gram)
    total, whole = float(np.trace(changed)), float(changed.sum())
    return total / whole if whole > 0.0 else float("nan")


def weight_coherence(gram: VectorGram) -> float:
    """Σ_k ⟨ḡ(w), ḡ(w + ω_k)⟩ / Σ_k ‖ḡ(w + ω_k)‖² (*Conditioning* 4.3): about 1, and not bounded by it. NaN where all are zero."""
    total = float(np.trace(_moved(gram)))
    along = float((gram.gram[0, 0] + gram.gram[0, 1:]).sum())
    return along / total if total > 0.0 else float("nan")


def _moved(gram: VectorGram) -> Array:
    """⟨g + d_k, g + d_l⟩, (n, n)."""
    g, along, inner = gram.gram[0, 0], gram.gram[0, 1:], gram.gram[1:, 1:]
    return np.asarray(g + along[:, None] + along[None, :] + inner)


def _relative(responses: Array, size: Array | float, moves: Array, base: Array | float) -> Array:
    """sqrt(responses · size / (moves · base)), NaN where the move or the base is zero."""
    return np.asarray(_root(responses, moves) * _root(np.asarray(size), np.asarray(base)))


def _root(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0.0, np.sqrt(np.maximum(above, 0.0)) / np.sqrt(np.maximum(below, 0.0)), np.nan)


def _largest(values: Array) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.max()) if defined.size else float("nan")
