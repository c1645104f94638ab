"""Every measure under its own name, with its shape, unit, definition and source; and how to compute a choice of them.

``phases`` (``trajsvc.measures.phases``) and ``qkv_heterogeneity`` (``trajsvc.measures.heterogeneity``) answer with records instead of
numbers, the second about three groups at once, and are not in this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, Literal

from trajsvc.errors import NotFound
from trajsvc.measures import (
    angles,
    averages,
    correlations,
    forgetting,
    maps,
    norms,
    nulls,
    rows,
    sparsity,
    spectral_edge,
    variance,
)
from trajsvc.measures.base import Array, GroupGram, Measure

HALLMARKS: Final = "Hallmarks (arXiv 2403.07379)"
CORRELATIONS: Final = "Correlations (Rothchild et al.)"
LAYER_UPDATES: Final = "Layer updates (Zhang et al.)"
COMMON: Final = "common usage"
SERVICE: Final = "trajsvc"

_MAP = ("step", "step_2")
_RECORDS = {
    "phases": "`trajsvc.measures.phases.phases` finds them; a run has `phases()`.",
    "qkv_heterogeneity": "It compares three groups: `trajsvc qkv RUN`, or a run's `qkv()`.",
}


def _row(
    compute: Callable[..., Any],
    dims: tuple[str, ...],
    units: Literal["1", "degree", "parameter", "step"],
    definition: str,
    source: str,
) -> Measure:
    return Measure(compute.__name__, compute, dims, units, definition, source)


_ROWS: Final = (
    _row(maps.trajectory_map, _MAP, "1", "cos(θ_i, θ_j); with an origin o, cos(θ_i − θ_o, θ_j − θ_o)", HALLMARKS),
    _row(maps.mds, (), "1", "mean of all entries of the trajectory map", HALLMARKS),
    _row(maps.relative_mds, (), "1", "mean of all entries of the relative trajectory map at θ_0", HALLMARKS),
    _row(maps.mds_by_length, (), "1", "wᵀCw/(Σw)² of the trajectory map C, w_t half the updates beside t", SERVICE),
    _row(maps.relative_mds_by_length, (), "1", "wᵀCw/(Σw)² of the relative trajectory map at θ_0", SERVICE),
    _row(angles.update_angle, ("step",), "degree", "∠(θ_{t+1} − θ_t, θ_t − θ_{t−1})", HALLMARKS),
    _row(angles.apex_angle_init, ("step",), "degree", "∠(θ_1 − θ_0, θ_t − θ_0)", HALLMARKS),
    _row(angles.sweep_angle_init, ("step",), "degree", "∠(θ_t − θ_0, θ_{t+1} − θ_0)", HALLMARKS),
    _row(angles.apex_angle_origin, ("step",), "degree", "∠(θ_0, θ_t)", HALLMARKS),
    _row(angles.sweep_angle_origin, ("update",), "degree", "∠(θ_t, θ_{t+1})", HALLMARKS),
    _row(angles.update_location_angle, ("update",), "degree", "∠(θ_{t+1} − θ_t, θ_t)", HALLMARKS),
    _row(norms.norm, ("step",), "parameter", "‖θ_t‖", HALLMARKS),
    _row(norms.distance_from_init, ("step",), "parameter", "‖θ_t − θ_0‖", HALLMARKS),
    _row(norms.update_norm, ("update",), "parameter", "‖θ_{t+1} − θ_t‖", HALLMARKS),
    _row(norms.update_ratio, ("update",), "1", "‖θ_{t+1} − θ_t‖ / ‖θ_t‖", COMMON),
    _row(norms.update_rms, ("update",), "parameter", "‖θ_{t+1} − θ_t‖ / √P per step of training", COMMON),
    _row(norms.cosine_to_final, ("step",), "1", "cos(θ_t, θ_{T−1})", COMMON),
    _row(norms.settling_step, (), "step", "first step from which cos(θ_t, θ_{T−1}) ≥ 0.9, interpolated", SERVICE),
    _row(norms.path_length, (), "parameter", "Σ ‖θ_{t+1} − θ_t‖", COMMON),
    _row(norms.tortuosity, (), "1", "path length / ‖θ_{T−1} − θ_0‖", COMMON),
    _row(correlations.update_map, ("update", "update_2"), "1", "g_i·g_j of normalised updates", CORRELATIONS),
    _row(correlations.mu, (), "1", "mean of g_i·g_j over pairs of distinct updates", CORRELATIONS),
    _row(correlations.alpha, (), "1", "root mean square of g_i·g_j over pairs of distinct updates", CORRELATIONS),
    _row(correlations.inv_sqrt_parameters, (), "1", "1/√P, α of independent random directions", CORRELATIONS),
    _row(correlations.mu_lag, ("lag",), "1", "mean over i of g_i·g_{i+k}", CORRELATIONS),
    _row(correlations.alpha_lag, ("lag",), "1", "root mean square over i of g_i·g_{i+k}", CORRELATIONS),
    _row(correlations.update_cosine, ("step",), "1", "cos(U_t, U_{t+1})", LAYER_UPDATES),
    _row(correlations.random_bound, (), "1", "sqrt(ln n / n) for n parameters", LAYER_UPDATES),
    _row(correlations.nonrandom_fraction, (), "1", "share of update cosines above the random bound", LAYER_UPDATES),
    _row(
        correlations.nonrandom_fraction_absolute,
        (),
        "1",
        "share of absolute update cosines above the random bound",
        LAYER_UPDATES,
    ),
    _row(variance.explained_variance, ("component",), "1", "share of the points' variance per component", COMMON),
    _row(
        variance.explained_variance_updates,
        ("component",),
        "1",
        "share of the updates' variance per component",
        COMMON,
    ),
    _row(variance.participation_ratio, (), "1", "(Σλ)²/Σλ² of the points' covariance", COMMON),
    _row(variance.participation_ratio_updates, (), "1", "(Σλ)²/Σλ² of the updates' covariance", COMMON),
    _row(
        spectral_edge.spectral_edge,
        ("update",),
        "1",
        "largest σ_k/σ_{k+1} of the last 10 updates, σ their singular values",
        SERVICE,
    ),
    _row(
        spectral_edge.spectral_edge_rank, ("update",), "1", "singular values above the spectral edge, counted", SERVICE
    ),
    _row(spectral_edge.leading_share, ("update",), "1", "σ_1²/Σσ² of the last 10 updates", SERVICE),
    _row(
        spectral_edge.leading_residual,
        ("update",),
        "1",
        "‖U − (U·v_1)v_1‖ / ‖U‖, v_1 the leading direction of the last 10 updates",
        SERVICE,
    ),
    _row(
        spectral_edge.subspace_angle,
        ("update",),
        "degree",
        "largest principal angle between the leading subspaces of successive windows of 10 updates",
        SERVICE,
    ),
    _row(
        forgetting.forgetting_time,
        ("step",),
        "step",
        "τ of cos(θ_t, θ_{t+Δ}) = e^{−Δ/τ}, fitted to the next 10 checkpoints",
        COMMON,
    ),
    _row(forgetting.ornstein_uhlenbeck, _MAP, "1", "e^{−|s_i − s_j|/τ}, τ fitted to all pairs of checkpoints", COMMON),
    _row(forgetting.ornstein_uhlenbeck_mds, (), "1", "mean of all entries of the Ornstein–Uhlenbeck map", COMMON),
    _row(averages.average_distance, ("step",), "parameter", "‖mean(θ_t … θ_{T−1}) − θ_{T−1}‖", COMMON),
    _row(
        averages.average_variance_removed,
        ("step",),
        "1",
        "Σ‖θ_s − θ̄‖² / Σ‖θ_s − θ_0‖² over s = t … T − 1, θ̄ their mean",
        SERVICE,
    ),
    _row(averages.average_norm, ("step",), "parameter", "‖mean(θ_t … θ_{T−1})‖", COMMON),
    _row(
        sparsity.update_sparsity,
        ("update",),
        "1",
        "share of the stored values that an update leaves as they were",
        SERVICE,
    ),
    _row(
        sparsity.update_overlap,
        ("step",),
        "1",
        "|A_t ∩ A_{t+1}| / |A_t ∪ A_{t+1}|, A_t the values that update t changes",
        SERVICE,
    ),
    _row(
        sparsity.update_overlap_chance,
        ("step",),
        "1",
        "pq / (p + q − pq), the overlap of random sets with the shares p and q of the values",
        SERVICE,
    ),
    _row(
        rows.row_top_share,
        ("update",),
        "1",
        "share of the update's squared norm in the 5 % of rows that it moves most",
        SERVICE,
    ),
    _row(
        rows.row_participation,
        ("update",),
        "1",
        "(Σe)²/(R Σe²) of the R rows, e the squared norm of a row's update",
        COMMON,
    ),
    _row(rows.row_still, ("update",), "1", "share of the rows that an update leaves exactly as they were", SERVICE),
    _row(rows.row_never_moved, ("update",), "1", "share of the rows that no update up to this one has moved", SERVICE),
    _row(
        rows.row_angle,
        ("update",),
        "degree",
        "median over the rows of the angle between a row before and after",
        SERVICE,
    ),
    _row(rows.row_angle_spread, ("update",), "degree", "95th less 5th percentile of the angles of the rows", SERVICE),
    _row(
        rows.row_overlap,
        ("step",),
        "1",
        "|A_t ∩ A_{t+1}| / |A_t ∪ A_{t+1}|, A_t the 5 % of rows that update t moves most",
        SERVICE,
    ),
    _row(
        rows.row_overlap_chance,
        ("step",),
        "1",
        "pq / (p + q − pq), the overlap of random sets with the shares p and q of the rows",
        SERVICE,
    ),
    _row(nulls.random_walk, _MAP, "1", "relative map expected of a random walk with the same update norms", HALLMARKS),
    _row(nulls.random_walk_mds, (), "1", "mean of all entries of the random walk's map", HALLMARKS),
    _row(nulls.noise_floor, ("update",), "1", "sqrt(r_t + r_{t+1}) / ‖θ_{t+1} − θ_t‖, r_t from rounding", SERVICE),
)

MEASURES: Final[Mapping[str, Measure]] = MappingProxyType({row.name: row for row in _ROWS})


def names_in(text: str | None) -> list[str] | None:
    """Split names between commas, as users write them; None for no text.

    >>> names_in("mds, path_length,")
    ['mds', 'path_length']
    """
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def measure_named(name: str) -> Measure:
    """Return the measure called ``name``. Raises NotFound (``measure-not-found``) naming those that are close."""
    if name in MEASURES:
        return MEASURES[name]
    close = get_close_matches(name, [*MEASURES, *_RECORDS], n=3)
    hint = _RECORDS.get(name) or (
        f"Did you mean {' or '.join(close)}?" if close else f"There are {', '.join(sorted(MEASURES))}."
    )
    raise NotFound("measure-not-found", f"no measure {name!r}", hint=hint)


def compute(names: Iterable[str], gram: GroupGram) -> dict[str, float | Array]:
    """Compute the measures called ``names`` of one group, with default parameters: floats and float64 arrays, NaN where
    undefined.

    Raises NotFound (``measure-not-found``) before anything is computed.

    >>> gram = GroupGram.of_points([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> {name: round(value, 4) for name, value in compute(["mds", "path_length"], gram).items()}
    {'mds': 0.6476, 'path_length': 2.0}
    """
    chosen = [measure_named(name) for name in names]
    return {measure.name: measure.compute(gram) for measure in chosen}
