"""The measures of a run, one method each. What each is, and its source, stands in ``trajsvc.measures``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xarray import DataArray

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
        """C_ij = cos(θ_i, θ_j), (T, T); with ``origin``, a step, cos(θ_i − θ_o, θ_j − θ_o) without the point o."""
        return self._array("trajectory_map", group, steps, origin=origin)

    def mds(self, group: str = "network", steps: Steps = None) -> float:
        """Mean of all entries of the trajectory map."""
        return self._scalar("mds", group, steps)

    def relative_mds(self, group: str = "network", origin: int | None = None, steps: Steps = None) -> float:
        """Mean of all entries of the relative trajectory map at ``origin``, by default the first point."""
        return self._scalar("relative_mds", group, steps, origin=origin)

    def mds_by_length(self, group: str = "network", origin: int | None = None, steps: Steps = None) -> float:
        """Length-weighted mean of the trajectory map, wᵀCw/(Σw)², w_t half the length of the updates beside t."""
        return self._scalar("mds_by_length", group, steps, origin=origin)

    def relative_mds_by_length(self, group: str = "network", origin: int | None = None, steps: Steps = None) -> float:
        """The same of the relative trajectory map at ``origin``, by default the first point."""
        return self._scalar("relative_mds_by_length", group, steps, origin=origin)

    def update_location_angle(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_{t+1} − θ_t, θ_t) in degrees, (T − 1)."""
        return self._array("update_location_angle", group, steps)

    def update_ratio(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_{t+1} − θ_t‖ / ‖θ_t‖, (T − 1)."""
        return self._array("update_ratio", group, steps)

    def update_rms(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_{t+1} − θ_t‖ / √P per step of training, (T − 1)."""
        return self._array("update_rms", group, steps)

    def update_angle(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Angle between successive updates in degrees, (T − 2)."""
        return self._array("update_angle", group, steps)

    def apex_angle_init(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_1 − θ_0, θ_t − θ_0) in degrees, (T − 1)."""
        return self._array("apex_angle_init", group, steps)

    def sweep_angle_init(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_t − θ_0, θ_{t+1} − θ_0) in degrees, (T − 2)."""
        return self._array("sweep_angle_init", group, steps)

    def apex_angle_origin(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_0, θ_t) in degrees."""
        return self._array("apex_angle_origin", group, steps)

    def sweep_angle_origin(self, group: str = "network", steps: Steps = None) -> DataArray:
        """∠(θ_t, θ_{t+1}) in degrees, (T − 1)."""
        return self._array("sweep_angle_origin", group, steps)

    def norm(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_t‖, (T)."""
        return self._array("norm", group, steps)

    def distance_from_init(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_t − θ_0‖, (T)."""
        return self._array("distance_from_init", group, steps)

    def update_norm(self, group: str = "network", steps: Steps = None) -> DataArray:
        """‖θ_{t+1} − θ_t‖, (T − 1)."""
        return self._array("update_norm", group, steps)

    def cosine_to_final(self, group: str = "network", steps: Steps = None) -> DataArray:
        """cos(θ_t, θ_{T−1}), (T)."""
        return self._array("cosine_to_final", group, steps)

    def path_length(self, group: str = "network", steps: Steps = None) -> float:
        """Σ ‖update‖."""
        return self._scalar("path_length", group, steps)

    def tortuosity(self, group: str = "network", steps: Steps = None) -> float:
        """Path length over ‖θ_{T−1} − θ_0‖."""
        return self._scalar("tortuosity", group, steps)

    def update_map(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Cosines between all pairs of updates, (T − 1, T − 1)."""
        return self._array("update_map", group, steps)

    def mu(self, group: str = "network", steps: Steps = None) -> float:
        """Mean inner product of distinct normalised updates."""
        return self._scalar("mu", group, steps)

    def alpha(self, group: str = "network", steps: Steps = None) -> float:
        """Root mean square inner product of distinct normalised updates."""
        return self._scalar("alpha", group, steps)

    def inv_sqrt_parameters(self, group: str = "network", steps: Steps = None) -> float:
        """1/√P, what ``alpha`` is for independent random directions."""
        return self._scalar("inv_sqrt_parameters", group, steps)

    def mu_lag(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Mean of g_i · g_{i+k} over i, for every lag k, (T − 1)."""
        return self._array("mu_lag", group, steps)

    def alpha_lag(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Root mean square of g_i · g_{i+k} over i, for every lag k, (T − 1)."""
        return self._array("alpha_lag", group, steps)

    def update_cosine(self, group: str = "network", steps: Steps = None) -> DataArray:
        """cos(U_t, U_{t+1}), (T − 2)."""
        return self._array("update_cosine", group, steps)

    def random_bound(self, group: str = "network", steps: Steps = None) -> float:
        """sqrt(ln n / n) for the group's n parameters."""
        return self._scalar("random_bound", group, steps)

    def nonrandom_fraction(self, group: str = "network", steps: Steps = None) -> float:
        """Share of update cosines above ``random_bound``."""
        return self._scalar("nonrandom_fraction", group, steps)

    def nonrandom_fraction_absolute(self, group: str = "network", steps: Steps = None) -> float:
        """Share of absolute update cosines above ``random_bound``."""
        return self._scalar("nonrandom_fraction_absolute", group, steps)

    def explained_variance(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of each principal component of the points, (T − 1)."""
        return self._array("explained_variance", group, steps)

    def explained_variance_updates(self, group: str = "network", steps: Steps = None) -> DataArray:
        """Share of each principal component of the updates, (T − 2)."""
        return self._array("explained_variance_updates", group, steps)

    def participation_ratio(self, group: str = "network", steps: Steps = None) -> float:
        """(Σλ)²/Σλ² of the points' centred Gram: an effective number of dimensions."""
        return self._scalar("participation_ratio", group, steps)

    def participation_ratio_updates(self, group: str = "network", steps: Steps = None) -> float:
        """(Σλ)²/Σλ² of the updates' centred Gram."""
        return self._scalar("participation_ratio_updates", group, steps)

    def random_walk_mds(self, group: str = "network", steps: Steps = None) -> float:
        """Mean of all entries of ``random_walk``: what ``relative_mds`` is compared to."""
        return self._scalar("random_walk_mds", group, steps)

    def random_walk(self, group: str = "network", steps: Steps = None) -> DataArray:
        """The relative trajectory map expected of a random walk with the same update norms."""
        return self._array("random_walk", group, steps)

    def noise_floor(self, group: str = "network", steps: Steps = None) -> DataArray:
        """The share of every update that rounding of the stored type can explain, (T − 1)."""
        return self._array("noise_floor", group, steps)

    def settling_step(self, group: str = "network", steps: Steps = None) -> float:
        """First step from which the cosine to the final point is at least 0.9, by interpolation."""
        return self._scalar("settling_step", group, steps)
