"""The measures of gradients that need more than a set's Gram: sums beside it, or the Gram of another set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trajsvc.measures.gradients import conditioning, estimators, perturbed
from trajsvc.measures.gradients.describe import (
    CONDITIONING,
    DRAWN,
    INPUTS,
    PATH,
    SERVICE,
    VARIANCE,
    WEIGHTS,
    of_sums,
)
from trajsvc.measures.gradients.sample import GroupSample

_MOVES: Final = ("weight_squares", "perturbation_squares")
_STEPS: Final = ("weight_squares", "update_squares")


def kappa_weights_fine(sample: GroupSample) -> float:
    """``kappa_weights`` at η / 10. NaN where the set was computed at η alone."""
    if len(sample.facts.get("etas", ())) < 2:
        return float("nan")
    return perturbed.kappa_weights(*sample.perturbed(fine=True))


def _kappa_weights(sample: GroupSample) -> float:
    return perturbed.kappa_weights(*sample.perturbed())


def _kappa_change(sample: GroupSample) -> float:
    return perturbed.kappa_change(_kappa_weights(sample), kappa_weights_fine(sample))


def _kappa_step(sample: GroupSample) -> float:
    return perturbed.kappa_weights_step(sample.gram, *(sample.whole[name] for name in _STEPS))


def _kappa_step_same(sample: GroupSample) -> float:
    weights, moves = (sample.whole[name] for name in _STEPS)
    return perturbed.kappa_weights_step_same(sample.gram, weights, moves, sample.scalars["response_squares"])


def _step_consistency(sample: GroupSample) -> float:
    return perturbed.step_consistency(sample.scalars["response_squares"], sample.whole["update_squares"])


def _kappa_inputs(sample: GroupSample) -> float:
    return perturbed.kappa_inputs(sample.gram, sample.whole["input_squares"], sample.whole["perturbation_squares"])


def _gain_ratio(sample: GroupSample) -> float:
    return conditioning.gain_ratio(sample.gram, sample.beside["example"])


def _coordinates(sample: GroupSample) -> float:
    return estimators.normalised_variance_coordinates(
        sample.number("coordinate_ratio_sum"), sample.number("coordinate_count")
    )


def _of_moved(function: Callable[..., float]) -> Callable[[GroupSample], float]:
    return lambda sample: function(sample.perturbed()[0])


ROWS: Final = (
    of_sums(
        "normalised_variance_coordinates",
        estimators.normalised_variance_coordinates,
        _coordinates,
        DRAWN,
        "Mean over coordinates of Σ_s (ē − e_s)²/Σ_s e_s², ē the mean of other estimates",
        VARIANCE,
        scalars=("coordinate_ratio_sum", "coordinate_count"),
    ),
    of_sums(
        "gain_ratio",
        conditioning.gain_ratio,
        _gain_ratio,
        DRAWN,
        "E‖ḡ_χ‖²/E‖g_i‖² of batches χ and examples i",
        CONDITIONING,
        beside=("example",),
    ),
    of_sums(
        "kappa_weights",
        perturbed.kappa_weights,
        _kappa_weights,
        WEIGHTS,
        "max_k ‖ḡ(w+ω_k) − ḡ(w)‖‖w‖/(‖ω_k‖‖ḡ(w)‖)",
        CONDITIONING,
        scalars=_MOVES,
    ),
    of_sums(
        "kappa_weights_fine",
        kappa_weights_fine,
        kappa_weights_fine,
        WEIGHTS,
        "kappa_weights at η/10",
        CONDITIONING,
        scalars=_MOVES,
    ),
    of_sums(
        "kappa_change",
        perturbed.kappa_change,
        _kappa_change,
        WEIGHTS,
        "kappa_weights at η over that at η/10, far from 1 across kinks",
        SERVICE,
        scalars=_MOVES,
    ),
    of_sums(
        "kappa_weights_step",
        perturbed.kappa_weights_step,
        _kappa_step,
        PATH,
        "Mean over t of ‖ḡ_{t+1} − ḡ_t‖‖w_t‖/(‖w_{t+1} − w_t‖‖ḡ_t‖), successive batches",
        CONDITIONING,
        scalars=_STEPS,
    ),
    of_sums(
        "kappa_weights_step_same",
        perturbed.kappa_weights_step_same,
        _kappa_step_same,
        PATH,
        "kappa_weights_step with one batch on both sides of a step",
        CONDITIONING,
        scalars=(*_STEPS, "response_squares"),
    ),
    of_sums(
        "step_consistency",
        perturbed.step_consistency,
        _step_consistency,
        PATH,
        "Mean of ‖ḡ(w) − ḡ(w−α)‖/‖α‖ over steps α, one batch on both sides",
        CONDITIONING,
        units="gradient/parameter",
        scalars=("update_squares", "response_squares"),
    ),
    of_sums(
        "kappa_inputs",
        perturbed.kappa_inputs,
        _kappa_inputs,
        INPUTS,
        "Mean over examples of max_k ‖g(x+δ_k) − g(x)‖‖x‖/(‖δ_k‖‖g(x)‖)",
        CONDITIONING,
        scalars=("input_squares", "perturbation_squares"),
    ),
    of_sums(
        "weight_cosine",
        perturbed.weight_cosine,
        _of_moved(perturbed.weight_cosine),
        WEIGHTS,
        "min_k cos(ḡ(w+ω_k), ḡ(w))",
        CONDITIONING,
        scalars=_MOVES,
    ),
    of_sums(
        "weight_cosine_distance",
        perturbed.weight_cosine_distance,
        _of_moved(perturbed.weight_cosine_distance),
        WEIGHTS,
        "max_k of 1 − cos(ḡ(w+ω_k), ḡ(w)), without cancellation",
        SERVICE,
        scalars=_MOVES,
    ),
    of_sums(
        "weight_diversity",
        perturbed.weight_diversity,
        _of_moved(perturbed.weight_diversity),
        WEIGHTS,
        "Σ‖ḡ(w+ω_k)‖²/‖Σ ḡ(w+ω_k)‖²",
        CONDITIONING,
        scalars=_MOVES,
    ),
    of_sums(
        "weight_coherence",
        perturbed.weight_coherence,
        _of_moved(perturbed.weight_coherence),
        WEIGHTS,
        "Σ⟨ḡ(w), ḡ(w+ω_k)⟩/Σ‖ḡ(w+ω_k)‖²",
        CONDITIONING,
        scalars=_MOVES,
    ),
)  # fmt: skip
