"""Every measure of a set of gradients under its own name, with the sets that it is of, its shape, unit, definition and source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from trajsvc.errors import NotFound
from trajsvc.measures.gradients import clustering, conditioning, correlations, estimators, perturbed
from trajsvc.measures.gradients.sample import GradientMeasure, GroupSample

CORRELATIONS: Final = "Correlations (Rothchild et al.)"
LAYER_UPDATES: Final = "Layer updates (Zhang et al.)"
VARIANCE: Final = "Variance (Faghri et al.)"
CONDITIONING: Final = "Conditioning (Nelson)"
MCCANDLISH: Final = "McCandlish et al."
COMMON: Final = "common usage"
SERVICE: Final = "trajsvc"

PLAIN: Final = ("example", "batch", "full", "path", "points", "anchored", "input_gradients")
"""Sets whose vectors are gradients, one like the other."""
ORDERED: Final = ("path", "full", "points", "batch")
"""Sets whose vectors follow one another."""
DRAWN: Final = ("batch",)
EXAMPLES: Final = ("example",)
WEIGHTS: Final = ("weights",)
PATH: Final = ("path",)
INPUTS: Final = ("inputs",)
_MOVES: Final = ("weight_squares", "perturbation_squares")
_STEPS: Final = ("weight_squares", "update_squares")


def _row(
    function: Callable[..., Any],
    sets: tuple[str, ...],
    definition: str,
    source: str,
    *,
    dims: tuple[str, ...] = (),
    units: str = "1",
    parameters: tuple[str, ...] = (),
) -> GradientMeasure:
    """Make the row of a measure that is a function of the Gram alone."""

    def compute(sample: GroupSample, **given: Any) -> Any:
        return function(sample.gram, **given)

    return GradientMeasure(function.__name__, compute, function, sets, dims, units, definition, source, parameters)


def _beside(
    name: str,
    function: Callable[..., Any],
    compute: Callable[[GroupSample], Any],
    sets: tuple[str, ...],
    definition: str,
    source: str,
    *,
    units: str = "1",
    scalars: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
) -> GradientMeasure:
    """Make the row of a measure that is a function of more than the Gram."""
    return GradientMeasure(name, compute, function, sets, (), units, definition, source, (), scalars, beside)


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


_BATCH: Final = ("batch",)
_ROWS: Final = (
    _row(correlations.mu, PLAIN, "Mean over pairs i < j of ĝ_i·ĝ_j, ĝ the unit vectors", CORRELATIONS),
    _row(correlations.alpha, PLAIN, "Root mean square over pairs i < j of ĝ_i·ĝ_j", CORRELATIONS),
    _row(correlations.inv_sqrt_parameters, PLAIN, "1/√P, α of independent uniform directions", CORRELATIONS),
    _row(correlations.mu_lag, ORDERED, "Mean over i of ĝ_i·ĝ_{i+k}", CORRELATIONS, dims=("lag",)),
    _row(correlations.alpha_lag, ORDERED, "Root mean square over i of ĝ_i·ĝ_{i+k}", CORRELATIONS, dims=("lag",)),
    _row(
        correlations.explained_variance,
        PLAIN,
        "Share of the variance of the vectors per component",
        CORRELATIONS,
        dims=("component",),
    ),
    _row(
        correlations.explained_variance_gaussian,
        PLAIN,
        "Explained variance of as many Gaussian vectors",
        CORRELATIONS,
        dims=("component",),
        parameters=("seed",),
    ),
    _row(correlations.gradient_cosine, ORDERED, "cos(g_i, g_{i+1})", LAYER_UPDATES, dims=("pair",)),
    _row(correlations.mean_gradient_cosine, ORDERED, "Mean of cos(g_i, g_{i+1})", LAYER_UPDATES),
    _row(correlations.random_bound, ORDERED, "sqrt(ln P / P) for P parameters", LAYER_UPDATES),
    _row(
        correlations.gradient_cosine_share, ORDERED, "Share of cos(g_i, g_{i+1}) above the random bound", LAYER_UPDATES
    ),
    _row(
        correlations.gradient_cosine_share_absolute,
        ORDERED,
        "Share of |cos(g_i, g_{i+1})| above the random bound",
        LAYER_UPDATES,
    ),
    _row(conditioning.norm, PLAIN, "‖g_i‖", COMMON, dims=("vector",), units="gradient"),
    _row(conditioning.mean_norm, PLAIN, "‖ḡ‖, ḡ the mean of the vectors", COMMON, units="gradient"),
    _row(
        estimators.average_variance,
        EXAMPLES,
        "V₁/(B·P), variance of the mean of B examples per parameter (SG-B)",
        VARIANCE,
        units="gradient²",
        parameters=("batch", "population", "replacement"),
    ),
    _row(
        estimators.average_variance_sg2b,
        EXAMPLES,
        "V₁/(2B·P), variance of the mean of 2B examples per parameter (SG-2B)",
        VARIANCE,
        units="gradient²",
        parameters=("batch", "population", "replacement"),
    ),
    _row(
        estimators.average_variance_svrg,
        ("anchored",),
        "V₁/(B·P) of the differences g_i(θ) − g_i(θ̃) (SVRG)",
        VARIANCE,
        units="gradient²",
        parameters=_BATCH,
    ),
    _row(
        clustering.average_variance_clustered,
        EXAMPLES,
        "N⁻² Σ_k N_k² v_k/P, one example drawn from each of the clusters that are found (GC)",
        VARIANCE,
        units="gradient²",
        parameters=("clusters", "seed"),
    ),
    _row(
        estimators.average_variance_drawn,
        DRAWN,
        "Variance of the batches' gradients per parameter, unbiased: the Monte Carlo form of SG-B",
        VARIANCE,
        units="gradient²",
    ),
    _row(
        estimators.normalised_variance,
        PLAIN,
        "V/(V + ‖ḡ‖²) with V = V₁/B, 0 … 1",
        VARIANCE,
        parameters=_BATCH,
    ),
    _row(estimators.noise_to_signal, PLAIN, "V/‖ḡ‖² with V = V₁/B", VARIANCE, parameters=_BATCH),
    _row(estimators.snr, PLAIN, "‖ḡ‖²/V with V = V₁/B", VARIANCE, parameters=_BATCH),
    _beside(
        "normalised_variance_coordinates",
        estimators.normalised_variance_coordinates,
        _coordinates,
        DRAWN,
        "Mean over coordinates of Σ_s (ē − e_s)²/Σ_s e_s², ē the mean of other estimates",
        VARIANCE,
        scalars=("coordinate_ratio_sum", "coordinate_count"),
    ),
    _row(
        estimators.noise_scale,
        EXAMPLES,
        "tr Σ/‖ḡ‖², both unbiased: B_simple, the batch above which larger ones help little",
        MCCANDLISH,
        units="example",
    ),
    _row(
        conditioning.gradient_rank,
        PLAIN,
        "Stable rank over that of a Gaussian matrix of the same shape",
        CONDITIONING,
        parameters=("seed",),
    ),
    _row(conditioning.stable_rank, PLAIN, "tr K/λ_max(K)", COMMON),
    _row(conditioning.confusion, PLAIN, "−min(min over pairs of cos(g_i, g_j), 0)", CONDITIONING),
    _row(
        conditioning.confusion_bound, PLAIN, "max(0, −min over pairs of g_i·g_j)", CONDITIONING, units="gradient²"
    ),
    _row(conditioning.diversity, PLAIN, "Σ‖g_i‖²/‖Σ g_i‖²", CONDITIONING),
    _row(conditioning.coherence, PLAIN, "Σ⟨ḡ, g_i⟩/Σ‖g_i‖², 0 … 1", CONDITIONING),
    _row(
        conditioning.batch_dissonance, PLAIN, "Mean over ordered pairs i ≠ j of ‖g_i − g_j‖/‖g_i‖", CONDITIONING
    ),
    _row(
        conditioning.batch_dissonance_examples,
        EXAMPLES,
        "Mean over batches χ and examples i of ‖ḡ_χ − g_i‖/‖ḡ_χ‖",
        CONDITIONING,
        parameters=_BATCH,
    ),
    _beside(
        "gain_ratio",
        conditioning.gain_ratio,
        _gain_ratio,
        DRAWN,
        "E‖ḡ_χ‖²/E‖g_i‖² of batches χ and examples i",
        CONDITIONING,
        beside=("example",),
    ),
    _beside(
        "kappa_weights",
        perturbed.kappa_weights,
        _kappa_weights,
        WEIGHTS,
        "max_k ‖ḡ(w+ω_k) − ḡ(w)‖‖w‖/(‖ω_k‖‖ḡ(w)‖)",
        CONDITIONING,
        scalars=_MOVES,
    ),
    _beside(
        "kappa_weights_fine",
        kappa_weights_fine,
        kappa_weights_fine,
        WEIGHTS,
        "kappa_weights at η/10",
        CONDITIONING,
        scalars=_MOVES,
    ),
    _beside(
        "kappa_change",
        perturbed.kappa_change,
        _kappa_change,
        WEIGHTS,
        "kappa_weights at η over that at η/10, far from 1 across kinks",
        SERVICE,
        scalars=_MOVES,
    ),
    _beside(
        "kappa_weights_step",
        perturbed.kappa_weights_step,
        _kappa_step,
        PATH,
        "Mean over t of ‖ḡ_{t+1} − ḡ_t‖‖w_t‖/(‖w_{t+1} − w_t‖‖ḡ_t‖), successive batches",
        CONDITIONING,
        scalars=_STEPS,
    ),
    _beside(
        "kappa_weights_step_same",
        perturbed.kappa_weights_step_same,
        _kappa_step_same,
        PATH,
        "kappa_weights_step with one batch on both sides of a step",
        CONDITIONING,
        scalars=(*_STEPS, "response_squares"),
    ),
    _beside(
        "step_consistency",
        perturbed.step_consistency,
        _step_consistency,
        PATH,
        "Mean of ‖ḡ(w) − ḡ(w−α)‖/‖α‖ over steps α, one batch on both sides",
        CONDITIONING,
        units="gradient/parameter",
        scalars=("update_squares", "response_squares"),
    ),
    _beside(
        "kappa_inputs",
        perturbed.kappa_inputs,
        _kappa_inputs,
        INPUTS,
        "Mean over examples of max_k ‖g(x+δ_k) − g(x)‖‖x‖/(‖δ_k‖‖g(x)‖)",
        CONDITIONING,
        scalars=("input_squares", "perturbation_squares"),
    ),
    _beside(
        "weight_cosine",
        perturbed.weight_cosine,
        _of_moved(perturbed.weight_cosine),
        WEIGHTS,
        "min_k cos(ḡ(w+ω_k), ḡ(w))",
        CONDITIONING,
        scalars=_MOVES,
    ),
    _beside(
        "weight_cosine_distance",
        perturbed.weight_cosine_distance,
        _of_moved(perturbed.weight_cosine_distance),
        WEIGHTS,
        "max_k of 1 − cos(ḡ(w+ω_k), ḡ(w)), without cancellation",
        SERVICE,
        scalars=_MOVES,
    ),
    _beside(
        "weight_diversity",
        perturbed.weight_diversity,
        _of_moved(perturbed.weight_diversity),
        WEIGHTS,
        "Σ‖ḡ(w+ω_k)‖²/‖Σ ḡ(w+ω_k)‖²",
        CONDITIONING,
        scalars=_MOVES,
    ),
    _beside(
        "weight_coherence",
        perturbed.weight_coherence,
        _of_moved(perturbed.weight_coherence),
        WEIGHTS,
        "Σ⟨ḡ(w), ḡ(w+ω_k)⟩/Σ‖ḡ(w+ω_k)‖²",
        CONDITIONING,
        scalars=_MOVES,
    ),
)  # fmt: skip

GRADIENT_MEASURES: Final[Mapping[str, GradientMeasure]] = MappingProxyType({row.name: row for row in _ROWS})


def gradient_measure_named(name: str) -> GradientMeasure:
    """Return the gradient measure called ``name``.

    Raises NotFound (``measure-not-found``) naming those that are close.
    """
    if name in GRADIENT_MEASURES:
        return GRADIENT_MEASURES[name]
    close = get_close_matches(name, GRADIENT_MEASURES, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(sorted(GRADIENT_MEASURES))}."
    raise NotFound("measure-not-found", f"no measure of gradients {name!r}", hint=hint)


def measures_of(kind: str) -> list[GradientMeasure]:
    """Return the measures of sets of a kind."""
    return [measure for measure in GRADIENT_MEASURES.values() if kind in measure.sets]
