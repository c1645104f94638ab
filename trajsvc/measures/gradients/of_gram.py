"""The measures of gradients that are functions of a set's Gram alone."""

from __future__ import annotations

from typing import Final

from trajsvc.measures.gradients import clustering, conditioning, correlations, estimators
from trajsvc.measures.gradients.describe import (
    COMMON,
    CONDITIONING,
    CORRELATIONS,
    DRAWN,
    EXAMPLES,
    LAYER_UPDATES,
    MCCANDLISH,
    ORDERED,
    PLAIN,
    VARIANCE,
    of_gram,
)

_BATCH: Final = ("batch",)
ROWS: Final = (
    of_gram(correlations.mu, PLAIN, "Mean over pairs i < j of ĝ_i·ĝ_j, ĝ the unit vectors", CORRELATIONS),
    of_gram(correlations.alpha, PLAIN, "Root mean square over pairs i < j of ĝ_i·ĝ_j", CORRELATIONS),
    of_gram(correlations.inv_sqrt_parameters, PLAIN, "1/√P, α of independent uniform directions", CORRELATIONS),
    of_gram(correlations.mu_lag, ORDERED, "Mean over i of ĝ_i·ĝ_{i+k}", CORRELATIONS, dims=("lag",)),
    of_gram(correlations.alpha_lag, ORDERED, "Root mean square over i of ĝ_i·ĝ_{i+k}", CORRELATIONS, dims=("lag",)),
    of_gram(
        correlations.explained_variance,
        PLAIN,
        "Share of the variance of the vectors per component",
        CORRELATIONS,
        dims=("component",),
    ),
    of_gram(
        correlations.explained_variance_gaussian,
        PLAIN,
        "Explained variance of as many Gaussian vectors",
        CORRELATIONS,
        dims=("component",),
        parameters=("seed",),
    ),
    of_gram(correlations.gradient_cosine, ORDERED, "cos(g_i, g_{i+1})", LAYER_UPDATES, dims=("pair",)),
    of_gram(correlations.mean_gradient_cosine, ORDERED, "Mean of cos(g_i, g_{i+1})", LAYER_UPDATES),
    of_gram(correlations.random_bound, ORDERED, "sqrt(ln P / P) for P parameters", LAYER_UPDATES),
    of_gram(
        correlations.gradient_cosine_share, ORDERED, "Share of cos(g_i, g_{i+1}) above the random bound", LAYER_UPDATES
    ),
    of_gram(
        correlations.gradient_cosine_share_absolute,
        ORDERED,
        "Share of |cos(g_i, g_{i+1})| above the random bound",
        LAYER_UPDATES,
    ),
    of_gram(conditioning.norm, PLAIN, "‖g_i‖", COMMON, dims=("vector",), units="gradient"),
    of_gram(conditioning.mean_norm, PLAIN, "‖ḡ‖, ḡ the mean of the vectors", COMMON, units="gradient"),
    of_gram(
        estimators.average_variance,
        EXAMPLES,
        "V₁/(B·P), variance of the mean of B examples per parameter (SG-B)",
        VARIANCE,
        units="gradient²",
        parameters=("batch", "population", "replacement"),
    ),
    of_gram(
        estimators.average_variance_sg2b,
        EXAMPLES,
        "V₁/(2B·P), variance of the mean of 2B examples per parameter (SG-2B)",
        VARIANCE,
        units="gradient²",
        parameters=("batch", "population", "replacement"),
    ),
    of_gram(
        estimators.average_variance_svrg,
        ("anchored",),
        "V₁/(B·P) of the differences g_i(θ) − g_i(θ̃) (SVRG)",
        VARIANCE,
        units="gradient²",
        parameters=_BATCH,
    ),
    of_gram(
        clustering.average_variance_clustered,
        EXAMPLES,
        "N⁻² Σ_k N_k² v_k/P, one example drawn from each of the clusters that are found (GC)",
        VARIANCE,
        units="gradient²",
        parameters=("clusters", "seed"),
    ),
    of_gram(
        estimators.average_variance_drawn,
        DRAWN,
        "Variance of the batches' gradients per parameter, unbiased: the Monte Carlo form of SG-B",
        VARIANCE,
        units="gradient²",
    ),
    of_gram(
        estimators.normalised_variance,
        PLAIN,
        "V/(V + ‖ḡ‖²) with V = V₁/B, 0 … 1",
        VARIANCE,
        parameters=_BATCH,
    ),
    of_gram(estimators.noise_to_signal, PLAIN, "V/‖ḡ‖² with V = V₁/B", VARIANCE, parameters=_BATCH),
    of_gram(estimators.snr, PLAIN, "‖ḡ‖²/V with V = V₁/B", VARIANCE, parameters=_BATCH),
    of_gram(
        estimators.noise_scale,
        EXAMPLES,
        "tr Σ/‖ḡ‖², both unbiased: B_simple, the batch above which larger ones help little",
        MCCANDLISH,
        units="example",
    ),
    of_gram(
        conditioning.gradient_rank,
        PLAIN,
        "Stable rank over that of a Gaussian matrix of the same shape",
        CONDITIONING,
        parameters=("seed",),
    ),
    of_gram(conditioning.stable_rank, PLAIN, "tr K/λ_max(K)", COMMON),
    of_gram(conditioning.confusion, PLAIN, "−min(min over pairs of cos(g_i, g_j), 0)", CONDITIONING),
    of_gram(
        conditioning.confusion_bound, PLAIN, "max(0, −min over pairs of g_i·g_j)", CONDITIONING, units="gradient²"
    ),
    of_gram(conditioning.diversity, PLAIN, "Σ‖g_i‖²/‖Σ g_i‖²", CONDITIONING),
    of_gram(conditioning.coherence, PLAIN, "Σ⟨ḡ, g_i⟩/Σ‖g_i‖², 0 … 1", CONDITIONING),
    of_gram(
        conditioning.batch_dissonance, PLAIN, "Mean over ordered pairs i ≠ j of ‖g_i − g_j‖/‖g_i‖", CONDITIONING
    ),
    of_gram(
        conditioning.batch_dissonance_examples,
        EXAMPLES,
        "Mean over batches χ and examples i of ‖ḡ_χ − g_i‖/‖ḡ_χ‖",
        CONDITIONING,
        parameters=_BATCH,
    ),
)  # fmt: skip
