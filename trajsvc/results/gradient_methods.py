"""The measures of a set of gradients, one method each.

Every docstring begins with what ``trajsvc.measures.gradients.registry`` says of the measure (a test compares them).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from trajsvc.results.measure_methods import MeasureMethods, Steps

if TYPE_CHECKING:
    from xarray import DataArray

    from storage_schema.runs.gradient_source import VectorSet
    from trajsvc.measures.gradients.sample import GradientMeasure, GroupSample


class GradientMethods(ABC):
    """Every measure of a set of gradients as a method, along ``step``; undefined values are NaN.

    A measure that is not of the set's kind, or needs another set that the run does not have, raises NotFound.
    """

    run: MeasureMethods
    stored: VectorSet

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def n(self) -> int: ...

    @property
    @abstractmethod
    def stale(self) -> list[int]: ...

    @abstractmethod
    def selection(self, steps: Steps = None) -> list[int]: ...

    @abstractmethod
    def sample(self, step: int, group: str = "network") -> GroupSample: ...

    @abstractmethod
    def checked(self, name: str) -> GradientMeasure: ...

    @abstractmethod
    def measures_available(self) -> list[GradientMeasure]: ...

    @abstractmethod
    def values(self, name: str, group: str = "network", steps: Steps = None, **parameters: Any) -> list[Any]: ...

    @abstractmethod
    def measure(self, name: str, group: str = "network", steps: Steps = None, **parameters: Any) -> DataArray: ...

    def mu(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean over pairs i < j of ĝ_i·ĝ_j, ĝ the unit vectors. Axis (step); no unit. Of the sets example, batch, full,
        path, points, anchored, input_gradients. Source: Correlations (Rothchild et al.)."""
        return self.measure("mu", group, steps)

    def alpha(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Root mean square over pairs i < j of ĝ_i·ĝ_j. Axis (step); no unit. Of the sets example, batch, full, path,
        points, anchored, input_gradients. Source: Correlations (Rothchild et al.)."""
        return self.measure("alpha", group, steps)

    def inv_sqrt_parameters(self, group: str = "network", steps: Steps = None) -> DataArray:
        """1/√P, α of independent uniform directions. Axis (step); no unit. Of the sets example, batch, full, path,
        points, anchored, input_gradients. Source: Correlations (Rothchild et al.)."""
        return self.measure("inv_sqrt_parameters", group, steps)

    def mu_lag(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean over i of ĝ_i·ĝ_{i+k}. Axes (step, lag); no unit. Of the sets path, full, points, batch. Source:
        Correlations (Rothchild et al.)."""
        return self.measure("mu_lag", group, steps)

    def alpha_lag(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Root mean square over i of ĝ_i·ĝ_{i+k}. Axes (step, lag); no unit. Of the sets path, full, points, batch.
        Source: Correlations (Rothchild et al.)."""
        return self.measure("alpha_lag", group, steps)

    def explained_variance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of the variance of the vectors per component. Axes (step, component); no unit. Of the sets example,
        batch, full, path, points, anchored, input_gradients. Source: Correlations (Rothchild et al.)."""
        return self.measure("explained_variance", group, steps)

    def explained_variance_gaussian(self, group: str = "network", steps: Steps = None, *, seed: int = 0) -> DataArray:
        """Explained variance of as many Gaussian vectors. Axes (step, component); no unit. Of the sets example, batch, full,
        path, points, anchored, input_gradients. Source: Correlations (Rothchild et al.)."""
        return self.measure("explained_variance_gaussian", group, steps, seed=seed)

    def gradient_cosine(self, group: str = "network", steps: Steps = None) -> DataArray:
        """cos(g_i, g_{i+1}). Axes (step, pair); no unit. Of the sets path, full, points, batch. Source: Layer updates
        (Zhang et al.)."""
        return self.measure("gradient_cosine", group, steps)

    def mean_gradient_cosine(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean of cos(g_i, g_{i+1}). Axis (step); no unit. Of the sets path, full, points, batch. Source: Layer updates
        (Zhang et al.)."""
        return self.measure("mean_gradient_cosine", group, steps)

    def random_bound(self, group: str = "network", steps: Steps = None) -> DataArray:
        """sqrt(ln P / P) for P parameters. Axis (step); no unit. Of the sets path, full, points, batch. Source: Layer
        updates (Zhang et al.)."""
        return self.measure("random_bound", group, steps)

    def gradient_cosine_share(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of cos(g_i, g_{i+1}) above the random bound. Axis (step); no unit. Of the sets path, full, points,
        batch. Source: Layer updates (Zhang et al.)."""
        return self.measure("gradient_cosine_share", group, steps)

    def gradient_cosine_share_absolute(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of |cos(g_i, g_{i+1})| above the random bound. Axis (step); no unit. Of the sets path, full, points,
        batch. Source: Layer updates (Zhang et al.)."""
        return self.measure("gradient_cosine_share_absolute", group, steps)

    def norm(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖g_i‖. Axes (step, vector); unit: gradient. Of the sets example, batch, full, path, points, anchored,
        input_gradients. Source: common usage."""
        return self.measure("norm", group, steps)

    def mean_norm(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖ḡ‖, ḡ the mean of the vectors. Axis (step); unit: gradient. Of the sets example, batch, full, path, points,
        anchored, input_gradients. Source: common usage."""
        return self.measure("mean_norm", group, steps)

    def average_variance(
        self,
        group: str = "network",
        steps: Steps = None,
        *,
        batch: int = 1,
        population: int | None = None,
        replacement: bool = True,
    ) -> DataArray:
        """V₁/(B·P), variance of the mean of B examples per parameter (SG-B). Axis (step); unit: gradient². Of the sets
        example. Source: Variance (Faghri et al.)."""
        return self.measure(
            "average_variance", group, steps, batch=batch, population=population, replacement=replacement
        )

    def average_variance_sg2b(
        self,
        group: str = "network",
        steps: Steps = None,
        *,
        batch: int = 1,
        population: int | None = None,
        replacement: bool = True,
    ) -> DataArray:
        """V₁/(2B·P), variance of the mean of 2B examples per parameter (SG-2B). Axis (step); unit: gradient². Of the
        sets example. Source: Variance (Faghri et al.)."""
        return self.measure(
            "average_variance_sg2b", group, steps, batch=batch, population=population, replacement=replacement
        )

    def average_variance_svrg(self, group: str = "network", steps: Steps = None, *, batch: int = 1) -> DataArray:
        """V₁/(B·P) of the differences g_i(θ) − g_i(θ̃) (SVRG). Axis (step); unit: gradient². Of the sets anchored.
        Source: Variance (Faghri et al.)."""
        return self.measure("average_variance_svrg", group, steps, batch=batch)

    def average_variance_clustered(
        self, group: str = "network", steps: Steps = None, *, clusters: int = 8, seed: int = 0
    ) -> DataArray:
        """N⁻² Σ_k N_k² v_k/P, one example drawn from each of the clusters that are found (GC). Axis (step); unit:
        gradient². Of the sets example. Source: Variance (Faghri et al.)."""
        return self.measure("average_variance_clustered", group, steps, clusters=clusters, seed=seed)

    def average_variance_drawn(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Variance of the batches' gradients per parameter, unbiased: the Monte Carlo form of SG-B. Axis (step); unit:
        gradient². Of the sets batch. Source: Variance (Faghri et al.)."""
        return self.measure("average_variance_drawn", group, steps)

    def normalised_variance(self, group: str = "network", steps: Steps = None, *, batch: int = 1) -> DataArray:
        """V/(V + ‖ḡ‖²) with V = V₁/B, 0 … 1. Axis (step); no unit. Of the sets example, batch, full, path, points,
        anchored, input_gradients. Source: Variance (Faghri et al.)."""
        return self.measure("normalised_variance", group, steps, batch=batch)

    def noise_to_signal(self, group: str = "network", steps: Steps = None, *, batch: int = 1) -> DataArray:
        """V/‖ḡ‖² with V = V₁/B. Axis (step); no unit. Of the sets example, batch, full, path, points, anchored,
        input_gradients. Source: Variance (Faghri et al.)."""
        return self.measure("noise_to_signal", group, steps, batch=batch)

    def snr(self, group: str = "network", steps: Steps = None, *, batch: int = 1) -> DataArray:
        """‖ḡ‖²/V with V = V₁/B. Axis (step); no unit. Of the sets example, batch, full, path, points, anchored,
        input_gradients. Source: Variance (Faghri et al.)."""
        return self.measure("snr", group, steps, batch=batch)

    def normalised_variance_coordinates(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean over coordinates of Σ_s (ē − e_s)²/Σ_s e_s², ē the mean of other estimates. Axis (step); no unit. Of the
        sets batch. Source: Variance (Faghri et al.)."""
        return self.measure("normalised_variance_coordinates", group, steps)

    def noise_scale(self, group: str = "network", steps: Steps = None) -> DataArray:
        """tr Σ/‖ḡ‖², both unbiased: B_simple, the batch above which larger ones help little. Axis (step); unit:
        example. Of the sets example. Source: McCandlish et al.."""
        return self.measure("noise_scale", group, steps)

    def gradient_rank(self, group: str = "network", steps: Steps = None, *, seed: int = 0) -> DataArray:
        """Stable rank over that of a Gaussian matrix of the same shape. Axis (step); no unit. Of the sets example,
        batch, full, path, points, anchored, input_gradients. Source: Conditioning (Nelson)."""
        return self.measure("gradient_rank", group, steps, seed=seed)

    def stable_rank(self, group: str = "network", steps: Steps = None) -> DataArray:
        """tr K/λ_max(K). Axis (step); no unit. Of the sets example, batch, full, path, points, anchored,
        input_gradients. Source: common usage."""
        return self.measure("stable_rank", group, steps)

    def confusion(self, group: str = "network", steps: Steps = None) -> DataArray:
        """−min(min over pairs of cos(g_i, g_j), 0). Axis (step); no unit. Of the sets example, batch, full, path,
        points, anchored, input_gradients. Source: Conditioning (Nelson)."""
        return self.measure("confusion", group, steps)

    def confusion_bound(self, group: str = "network", steps: Steps = None) -> DataArray:
        """max(0, −min over pairs of g_i·g_j). Axis (step); unit: gradient². Of the sets example, batch, full, path,
        points, anchored, input_gradients. Source: Conditioning (Nelson)."""
        return self.measure("confusion_bound", group, steps)

    def diversity(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Σ‖g_i‖²/‖Σ g_i‖². Axis (step); no unit. Of the sets example, batch, full, path, points, anchored,
        input_gradients. Source: Conditioning (Nelson)."""
        return self.measure("diversity", group, steps)

    def coherence(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Σ⟨ḡ, g_i⟩/Σ‖g_i‖², 0 … 1. Axis (step); no unit. Of the sets example, batch, full, path, points, anchored,
        input_gradients. Source: Conditioning (Nelson)."""
        return self.measure("coherence", group, steps)

    def batch_dissonance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean over ordered pairs i ≠ j of ‖g_i − g_j‖/‖g_i‖. Axis (step); no unit. Of the sets example, batch, full,
        path, points, anchored, input_gradients. Source: Conditioning (Nelson)."""
        return self.measure("batch_dissonance", group, steps)

    def batch_dissonance_examples(self, group: str = "network", steps: Steps = None, *, batch: int = 1) -> DataArray:
        """Mean over batches χ and examples i of ‖ḡ_χ − g_i‖/‖ḡ_χ‖. Axis (step); no unit. Of the sets example. Source:
        Conditioning (Nelson)."""
        return self.measure("batch_dissonance_examples", group, steps, batch=batch)

    def gain_ratio(self, group: str = "network", steps: Steps = None) -> DataArray:
        """E‖ḡ_χ‖²/E‖g_i‖² of batches χ and examples i. Axis (step); no unit. Of the sets batch. Source: Conditioning
        (Nelson)."""
        return self.measure("gain_ratio", group, steps)

    def kappa_weights(self, group: str = "network", steps: Steps = None) -> DataArray:
        """max_k ‖ḡ(w+ω_k) − ḡ(w)‖‖w‖/(‖ω_k‖‖ḡ(w)‖). Axis (step); no unit. Of the sets weights. Source: Conditioning
        (Nelson)."""
        return self.measure("kappa_weights", group, steps)

    def kappa_weights_fine(self, group: str = "network", steps: Steps = None) -> DataArray:
        """kappa_weights at η/10. Axis (step); no unit. Of the sets weights. Source: Conditioning (Nelson)."""
        return self.measure("kappa_weights_fine", group, steps)

    def kappa_change(self, group: str = "network", steps: Steps = None) -> DataArray:
        """kappa_weights at η over that at η/10, far from 1 across kinks. Axis (step); no unit. Of the sets weights.
        Source: trajsvc."""
        return self.measure("kappa_change", group, steps)

    def kappa_weights_step(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean over t of ‖ḡ_{t+1} − ḡ_t‖‖w_t‖/(‖w_{t+1} − w_t‖‖ḡ_t‖), successive batches. Axis (step); no unit. Of the
        sets path. Source: Conditioning (Nelson)."""
        return self.measure("kappa_weights_step", group, steps)

    def kappa_weights_step_same(self, group: str = "network", steps: Steps = None) -> DataArray:
        """kappa_weights_step with one batch on both sides of a step. Axis (step); no unit. Of the sets path. Source:
        Conditioning (Nelson)."""
        return self.measure("kappa_weights_step_same", group, steps)

    def step_consistency(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean of ‖ḡ(w) − ḡ(w−α)‖/‖α‖ over steps α, one batch on both sides. Axis (step); unit: gradient/parameter. Of
        the sets path. Source: Conditioning (Nelson)."""
        return self.measure("step_consistency", group, steps)

    def kappa_inputs(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean over examples of max_k ‖g(x+δ_k) − g(x)‖‖x‖/(‖δ_k‖‖g(x)‖). Axis (step); no unit. Of the sets inputs.
        Source: Conditioning (Nelson)."""
        return self.measure("kappa_inputs", group, steps)

    def weight_cosine(self, group: str = "network", steps: Steps = None) -> DataArray:
        """min_k cos(ḡ(w+ω_k), ḡ(w)). Axis (step); no unit. Of the sets weights. Source: Conditioning (Nelson)."""
        return self.measure("weight_cosine", group, steps)

    def weight_cosine_distance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """max_k of 1 − cos(ḡ(w+ω_k), ḡ(w)), without cancellation. Axis (step); no unit. Of the sets weights. Source:
        trajsvc."""
        return self.measure("weight_cosine_distance", group, steps)

    def weight_diversity(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Σ‖ḡ(w+ω_k)‖²/‖Σ ḡ(w+ω_k)‖². Axis (step); no unit. Of the sets weights. Source: Conditioning (Nelson)."""
        return self.measure("weight_diversity", group, steps)

    def weight_coherence(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Σ⟨ḡ(w), ḡ(w+ω_k)⟩/Σ‖ḡ(w+ω_k)‖². Axis (step); no unit. Of the sets weights. Source: Conditioning (Nelson)."""
        return self.measure("weight_coherence", group, steps)
