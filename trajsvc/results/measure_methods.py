"""The measures of a run, one method each.

Every docstring begins with what ``trajsvc.measures.registry`` says of the measure (a test compares them).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xarray import DataArray

    from storage_schema.models.results import LoggedSeries
    from storage_schema.runs.gram_store import GramStore
    from trajsvc.anatomy.blocks import Group
    from trajsvc.measures.base import GroupGram

Steps = str | Sequence[int] | None


class MeasureMethods(ABC):
    """Every measure of a group as a method; ``steps`` restricts it to a selection of checkpoints (``"0..512,every:4"``).

    A scalar is a float, everything else a DataArray with named axes; undefined values are NaN.
    """

    name: str
    stored: GramStore

    @property
    @abstractmethod
    def architecture(self) -> str: ...

    @property
    @abstractmethod
    def axis(self) -> str: ...

    @property
    @abstractmethod
    def logged(self) -> list[LoggedSeries]: ...

    @property
    @abstractmethod
    def estimate(self) -> dict[str, Any] | None: ...

    @abstractmethod
    def groups(self) -> dict[str, Group]: ...

    @abstractmethod
    def layer_ids(self) -> list[str]: ...

    @abstractmethod
    def selection(self, steps: Steps = None) -> NDArray[np.int64]: ...

    @abstractmethod
    def gram(self, group: str = "network", steps: Steps = None) -> GroupGram: ...

    @abstractmethod
    def standard_error(
        self, name: str, group: str = "network", steps: Steps = None, **parameters: Any
    ) -> NDArray[np.float64] | None: ...

    @abstractmethod
    def measure(
        self, name: str, group: str = "network", steps: Steps = None, **parameters: Any
    ) -> DataArray | float: ...

    def _array(self, name: str, group: str, steps: Steps, **parameters: Any) -> DataArray:
        return cast("DataArray", self.measure(name, group, steps, **parameters))

    def _scalar(self, name: str, group: str, steps: Steps, **parameters: Any) -> float:
        return cast(float, self.measure(name, group, steps, **parameters))

    def trajectory_map(self, group: str = "network", origin: int | None = None, steps: Steps = None) -> DataArray:
        """cos(θ_i, θ_j); with an origin o, cos(θ_i − θ_o, θ_j − θ_o). Axes (step, step_2); no unit. Source: Hallmarks
        (arXiv 2403.07379).

        ``origin`` is a step; the point o is left out of a relative map.
        """
        return self._array("trajectory_map", group, steps, origin=origin)

    def mds(self, group: str = "network", steps: Steps = None) -> float:
        """Mean of all entries of the trajectory map. A scalar; no unit. Source: Hallmarks (arXiv 2403.07379)."""
        return self._scalar("mds", group, steps)

    def relative_mds(self, group: str = "network", origin: int | None = None, steps: Steps = None) -> float:
        """Mean of all entries of the relative trajectory map at θ_0. A scalar; no unit. Source: Hallmarks (arXiv
        2403.07379).

        ``origin`` is another step to take the relative map at.
        """
        return self._scalar("relative_mds", group, steps, origin=origin)

    def mds_by_length(self, group: str = "network", origin: int | None = None, steps: Steps = None) -> float:
        """wᵀCw/(Σw)² of the trajectory map C, w_t half the updates beside t. A scalar; no unit. Source: trajsvc.

        ``w_t`` is half the length of the updates before and after the point: an MDS that depends little on how
        densely a run was sampled.
        """
        return self._scalar("mds_by_length", group, steps, origin=origin)

    def relative_mds_by_length(self, group: str = "network", origin: int | None = None, steps: Steps = None) -> float:
        """wᵀCw/(Σw)² of the relative trajectory map at θ_0. A scalar; no unit. Source: trajsvc.

        ``origin`` is another step to take the relative map at.
        """
        return self._scalar("relative_mds_by_length", group, steps, origin=origin)

    def update_location_angle(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_{t+1} − θ_t, θ_t). Axes (update); unit: degree. Source: Hallmarks (arXiv 2403.07379)."""
        return self._array("update_location_angle", group, steps)

    def update_ratio(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_{t+1} − θ_t‖ / ‖θ_t‖. Axes (update); no unit. Source: common usage."""
        return self._array("update_ratio", group, steps)

    def update_rms(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_{t+1} − θ_t‖ / √P per step of training. Axes (update); unit: parameter. Source: common usage."""
        return self._array("update_rms", group, steps)

    def update_angle(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_{t+1} − θ_t, θ_t − θ_{t−1}). Axes (step); unit: degree. Source: Hallmarks (arXiv 2403.07379).

        The angle between one update and the next.
        """
        return self._array("update_angle", group, steps)

    def apex_angle_init(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_1 − θ_0, θ_t − θ_0). Axes (step); unit: degree. Source: Hallmarks (arXiv 2403.07379).

        A cone with its vertex at the first checkpoint.
        """
        return self._array("apex_angle_init", group, steps)

    def sweep_angle_init(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_t − θ_0, θ_{t+1} − θ_0). Axes (step); unit: degree. Source: Hallmarks (arXiv 2403.07379)."""
        return self._array("sweep_angle_init", group, steps)

    def apex_angle_origin(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_0, θ_t). Axes (step); unit: degree. Source: Hallmarks (arXiv 2403.07379).

        A cone with its vertex at the zero vector.
        """
        return self._array("apex_angle_origin", group, steps)

    def sweep_angle_origin(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_t, θ_{t+1}). Axes (update); unit: degree. Source: Hallmarks (arXiv 2403.07379)."""
        return self._array("sweep_angle_origin", group, steps)

    def norm(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_t‖. Axes (step); unit: parameter. Source: Hallmarks (arXiv 2403.07379)."""
        return self._array("norm", group, steps)

    def distance_from_init(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_t − θ_0‖. Axes (step); unit: parameter. Source: Hallmarks (arXiv 2403.07379)."""
        return self._array("distance_from_init", group, steps)

    def update_norm(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_{t+1} − θ_t‖. Axes (update); unit: parameter. Source: Hallmarks (arXiv 2403.07379)."""
        return self._array("update_norm", group, steps)

    def cosine_to_final(self, group: str = "network", steps: Steps = None) -> DataArray:
        """cos(θ_t, θ_{T−1}). Axes (step); no unit. Source: common usage."""
        return self._array("cosine_to_final", group, steps)

    def path_length(self, group: str = "network", steps: Steps = None) -> float:
        """Σ ‖θ_{t+1} − θ_t‖. A scalar; unit: parameter. Source: common usage."""
        return self._scalar("path_length", group, steps)

    def tortuosity(self, group: str = "network", steps: Steps = None) -> float:
        """Path length / ‖θ_{T−1} − θ_0‖. A scalar; no unit. Source: common usage."""
        return self._scalar("tortuosity", group, steps)

    def update_map(self, group: str = "network", steps: Steps = None) -> DataArray:
        """g_i·g_j of normalised updates. Axes (update, update_2); no unit. Source: Correlations (Rothchild et al.).

        The cosine of every two updates.
        """
        return self._array("update_map", group, steps)

    def mu(self, group: str = "network", steps: Steps = None) -> float:
        """Mean of g_i·g_j over pairs of distinct updates. A scalar; no unit. Source: Correlations (Rothchild et al.)."""
        return self._scalar("mu", group, steps)

    def alpha(self, group: str = "network", steps: Steps = None) -> float:
        """Root mean square of g_i·g_j over pairs of distinct updates. A scalar; no unit. Source: Correlations
        (Rothchild et al.).
        """
        return self._scalar("alpha", group, steps)

    def inv_sqrt_parameters(self, group: str = "network", steps: Steps = None) -> float:
        """1/√P, α of independent random directions. A scalar; no unit. Source: Correlations (Rothchild et al.).

        What ``alpha`` is compared to.
        """
        return self._scalar("inv_sqrt_parameters", group, steps)

    def mu_lag(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean over i of g_i·g_{i+k}. Axes (lag); no unit. Source: Correlations (Rothchild et al.)."""
        return self._array("mu_lag", group, steps)

    def alpha_lag(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Root mean square over i of g_i·g_{i+k}. Axes (lag); no unit. Source: Correlations (Rothchild et al.)."""
        return self._array("alpha_lag", group, steps)

    def update_cosine(self, group: str = "network", steps: Steps = None) -> DataArray:
        """cos(U_t, U_{t+1}). Axes (step); no unit. Source: Layer updates (Zhang et al.)."""
        return self._array("update_cosine", group, steps)

    def random_bound(self, group: str = "network", steps: Steps = None) -> float:
        """sqrt(ln n / n) for n parameters. A scalar; no unit. Source: Layer updates (Zhang et al.).

        What ``update_cosine`` is compared to.
        """
        return self._scalar("random_bound", group, steps)

    def nonrandom_fraction(self, group: str = "network", steps: Steps = None) -> float:
        """Share of update cosines above the random bound. A scalar; no unit. Source: Layer updates (Zhang et al.)."""
        return self._scalar("nonrandom_fraction", group, steps)

    def nonrandom_fraction_absolute(self, group: str = "network", steps: Steps = None) -> float:
        """Share of absolute update cosines above the random bound. A scalar; no unit. Source: Layer updates (Zhang et
        al.).
        """
        return self._scalar("nonrandom_fraction_absolute", group, steps)

    def explained_variance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of the points' variance per component. Axes (component); no unit. Source: common usage."""
        return self._array("explained_variance", group, steps)

    def explained_variance_updates(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of the updates' variance per component. Axes (component); no unit. Source: common usage."""
        return self._array("explained_variance_updates", group, steps)

    def participation_ratio(self, group: str = "network", steps: Steps = None) -> float:
        """(Σλ)²/Σλ² of the points' covariance. A scalar; no unit. Source: common usage.

        An effective number of dimensions, at least 1.
        """
        return self._scalar("participation_ratio", group, steps)

    def participation_ratio_updates(self, group: str = "network", steps: Steps = None) -> float:
        """(Σλ)²/Σλ² of the updates' covariance. A scalar; no unit. Source: common usage.

        An effective number of dimensions, at least 1.
        """
        return self._scalar("participation_ratio_updates", group, steps)

    def spectral_edge(self, group: str = "network", window: int = 10, steps: Steps = None) -> DataArray:
        """Largest σ_k/σ_{k+1} of the last 10 updates, σ their singular values. Axes (update); no unit. Source: trajsvc.

        ``window`` is how many updates a window holds; a value belongs to the update that ends it.
        """
        return self._array("spectral_edge", group, steps, window=window)

    def spectral_edge_rank(self, group: str = "network", window: int = 10, steps: Steps = None) -> DataArray:
        """Singular values above the spectral edge, counted. Axes (update); no unit. Source: trajsvc.

        How many directions stand out in a window of updates.
        """
        return self._array("spectral_edge_rank", group, steps, window=window)

    def leading_share(self, group: str = "network", window: int = 10, steps: Steps = None) -> DataArray:
        """σ_1²/Σσ² of the last 10 updates. Axes (update); no unit. Source: trajsvc.

        ``window`` is how many updates a window holds.
        """
        return self._array("leading_share", group, steps, window=window)

    def leading_residual(self, group: str = "network", window: int = 10, steps: Steps = None) -> DataArray:
        """‖U − (U·v_1)v_1‖ / ‖U‖, v_1 the leading direction of the last 10 updates. Axes (update); no unit. Source:
        trajsvc.

        The part of the newest update that the leading direction of its window does not have.
        """
        return self._array("leading_residual", group, steps, window=window)

    def subspace_angle(self, group: str = "network", window: int = 10, steps: Steps = None) -> DataArray:
        """Largest principal angle between the leading subspaces of successive windows of 10 updates. Axes (update);
        unit: degree. Source: trajsvc.

        Of as many dimensions as ``spectral_edge_rank`` gives.
        """
        return self._array("subspace_angle", group, steps, window=window)

    def forgetting_time(self, group: str = "network", window: int = 10, steps: Steps = None) -> DataArray:
        """τ of cos(θ_t, θ_{t+Δ}) = e^{−Δ/τ}, fitted to the next 10 checkpoints. Axes (step); unit: step. Source: common
        usage.

        ``window`` is the number of later checkpoints fitted. A stationary run forgets in 1/(learning rate · weight decay).
        """
        return self._array("forgetting_time", group, steps, window=window)

    def ornstein_uhlenbeck(self, group: str = "network", steps: Steps = None) -> DataArray:
        """e^{−|s_i − s_j|/τ}, τ fitted to all pairs of checkpoints. Axes (step, step_2); no unit. Source: common usage.

        The map of a stationary process that forgets as fast as the run.
        """
        return self._array("ornstein_uhlenbeck", group, steps)

    def ornstein_uhlenbeck_mds(self, group: str = "network", steps: Steps = None) -> float:
        """Mean of all entries of the Ornstein–Uhlenbeck map. A scalar; no unit. Source: common usage.

        What ``mds`` is compared to.
        """
        return self._scalar("ornstein_uhlenbeck_mds", group, steps)

    def random_walk_mds(self, group: str = "network", steps: Steps = None) -> float:
        """Mean of all entries of the random walk's map. A scalar; no unit. Source: Hallmarks (arXiv 2403.07379).

        What ``relative_mds`` is compared to.
        """
        return self._scalar("random_walk_mds", group, steps)

    def average_distance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖mean(θ_t … θ_{T−1}) − θ_{T−1}‖. Axes (step); unit: parameter. Source: common usage."""
        return self._array("average_distance", group, steps)

    def average_variance_removed(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Σ‖θ_s − θ̄‖² / Σ‖θ_s − θ_0‖² over s = t … T − 1, θ̄ their mean. Axes (step); no unit. Source: trajsvc."""
        return self._array("average_variance_removed", group, steps)

    def average_norm(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖mean(θ_t … θ_{T−1})‖. Axes (step); unit: parameter. Source: common usage."""
        return self._array("average_norm", group, steps)

    def update_sparsity(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of the stored values that an update leaves as they were. Axes (update); no unit. Source: trajsvc.

        Bits are compared; NaN where a checkpoint between two was left out.
        """
        return self._array("update_sparsity", group, steps)

    def update_overlap(self, group: str = "network", steps: Steps = None) -> DataArray:
        """|A_t ∩ A_{t+1}| / |A_t ∪ A_{t+1}|, A_t the values that update t changes. Axes (step); no unit. Source: trajsvc."""
        return self._array("update_overlap", group, steps)

    def update_overlap_chance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """pq / (p + q − pq), the overlap of random sets with the shares p and q of the values. Axes (step); no unit.
        Source: trajsvc.
        """
        return self._array("update_overlap_chance", group, steps)

    def row_top_share(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of the update's squared norm in the 5 % of rows that it moves most. Axes (update); no unit.
        Source: trajsvc.

        Rows are those of the group's matrices: neurons, and tokens of an embedding. NaN where they were not counted.
        """
        return self._array("row_top_share", group, steps)

    def row_participation(self, group: str = "network", steps: Steps = None) -> DataArray:
        """(Σe)²/(R Σe²) of the R rows, e the squared norm of a row's update. Axes (update); no unit.
        Source: common usage.
        """
        return self._array("row_participation", group, steps)

    def row_still(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of the rows that an update leaves exactly as they were. Axes (update); no unit. Source:
        trajsvc.
        """
        return self._array("row_still", group, steps)

    def row_never_moved(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of the rows that no update up to this one has moved. Axes (update); no unit. Source:
        trajsvc.
        """
        return self._array("row_never_moved", group, steps)

    def row_angle(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Median over the rows of the angle between a row before and after. Axes (update); unit: degree.
        Source: trajsvc.
        """
        return self._array("row_angle", group, steps)

    def row_angle_spread(self, group: str = "network", steps: Steps = None) -> DataArray:
        """95th less 5th percentile of the angles of the rows. Axes (update); unit: degree. Source: trajsvc."""
        return self._array("row_angle_spread", group, steps)

    def row_overlap(self, group: str = "network", steps: Steps = None) -> DataArray:
        """|A_t ∩ A_{t+1}| / |A_t ∪ A_{t+1}|, A_t the 5 % of rows that update t moves most. Axes (step); no
        unit. Source: trajsvc.
        """
        return self._array("row_overlap", group, steps)

    def row_overlap_chance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """pq / (p + q − pq), the overlap of random sets with the shares p and q of the rows. Axes (step);
        no unit. Source: trajsvc.
        """
        return self._array("row_overlap_chance", group, steps)

    def random_walk(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Relative map expected of a random walk with the same update norms. Axes (step, step_2); no unit. Source:
        Hallmarks (arXiv 2403.07379).
        """
        return self._array("random_walk", group, steps)

    def noise_floor(self, group: str = "network", steps: Steps = None) -> DataArray:
        """sqrt(r_t + r_{t+1}) / ‖θ_{t+1} − θ_t‖, r_t from rounding. Axes (update); no unit. Source: trajsvc.

        The share of an update that rounding of the stored type can explain.
        """
        return self._array("noise_floor", group, steps)

    def settling_step(self, group: str = "network", steps: Steps = None) -> float:
        """First step from which cos(θ_t, θ_{T−1}) ≥ 0.9, interpolated. A scalar; unit: step. Source: trajsvc."""
        return self._scalar("settling_step", group, steps)
