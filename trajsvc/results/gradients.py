"""A run's sets of gradients, opened: measures over training as labelled arrays.

::

    run = trajsvc.open("trajsvc-store", "pythia-nano")
    run.gradient_sets()                                    # the sets that were computed
    example = run.gradients("example")
    example.coherence("layer/3", steps="1000..")           # DataArray (step)
    example.map(step=1000)                                 # DataArray (vector, vector_2)
    example.layers("coherence")                            # DataArray (layer, step)

Everything is computed from the stored Grams; nothing here reads data or evaluates a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.groups import find_group
from trajsvc.errors import UsageError
from trajsvc.measures.gradients.clustering import CLUSTERS, Clustering, cluster
from trajsvc.results.gradient_set import GradientSet
from trajsvc.results.measure_methods import Steps
from trajsvc.results.records import LongTable

if TYPE_CHECKING:
    from xarray import DataArray


class RunGradients(GradientSet):
    """One set of gradients of a run: n vectors at every checkpoint for which it was computed.

    Every measure is a method, for any group of parameters and any selection of the set's steps, and gives a labelled array.
    """

    def measure(self, name: str, group: str = "network", steps: Steps = None, **parameters: Any) -> DataArray:
        """Compute any measure by its name, along ``step``, with its own ``parameters`` (``batch``, ``clusters``,
        ``seed`` …).

        Raises NotFound (``measure-not-found``, ``group-not-found``, ``step-not-found``, ``gradients-not-found``).
        """
        import xarray

        measure, chosen = self.checked(name), self.selection(steps)
        array = np.asarray(self.values(name, group, chosen, **parameters), dtype=np.float64)
        coords: dict[str, Any] = {"step": chosen}
        for dim, length in zip(measure.dims, array.shape[1:], strict=True):
            first = 1 if dim == "component" else 0
            coords[dim] = self.labels if dim == "vector" else np.arange(first, first + length)
            if dim == "lag":
                coords["pairs"] = (dim, length - np.arange(length))
        attributes = {
            "units": measure.units,
            "definition": measure.definition,
            "source": measure.source,
            "set": self.name,
            "group": group,
            "parameters": find_group(self._groups, group).parameters,
            "n": self.n,
            **{k: v for k, v in parameters.items() if v is not None and k in measure.parameters},
        }
        return xarray.DataArray(array, dims=("step", *measure.dims), coords=coords, name=name, attrs=attributes)

    def measures(
        self, group: str = "network", names: Sequence[str] | None = None, steps: Steps = None, **parameters: Any
    ) -> LongTable:
        """Compute measures of one group as JSON has them: {run, set, group, parameters, n, steps, measures, undefined}.

        ``to_dataframe()`` makes a table with a row for every number.
        """
        from trajsvc.results import gradient_tables

        answer = gradient_tables.measures(self, group, names, steps, **parameters)
        return LongTable(answer.model_dump(), gradient_tables.LONG, lambda: gradient_tables.long_rows(answer))

    def layers(self, name: str, steps: Steps = None, **parameters: Any) -> DataArray:
        """Compute a measure of every layer over training, (layer, step)."""
        import xarray

        chosen = self.selection(steps)
        array = self.by_layer([name], chosen, **parameters)[name]
        coords = {"layer": self.layer_ids(), "step": chosen}
        return xarray.DataArray(array, dims=("layer", "step"), coords=coords, name=name)

    def by_layer(self, names: Sequence[str], steps: Sequence[int], **parameters: Any) -> dict[str, NDArray[np.float64]]:
        """Compute measures of one number a step for every layer, (layers, steps); a step at a time, as it lies on disk.

        Raises UsageError (``bad-option``) for a measure that is more than one number a step.
        """
        layers = self.layer_ids()
        for name in names:
            if self.checked(name).dims:
                hint = f"`trajsvc gradients measures {self.run.name} --set {self.name} --names {name}` shows it for one group."
                raise UsageError("bad-option", f"{name} is more than one number a step", hint=hint)
        found = {name: np.empty((len(layers), len(steps))) for name in names}
        for k, step in enumerate(steps):
            for row, layer in enumerate(layers):
                for name in names:
                    found[name][row, k] = self.values(name, layer, [step], **parameters)[0]
        return found

    def map(self, step: int, group: str = "network") -> DataArray:
        """Compute cos(g_i, g_j) of the vectors at a step, (vector, vector_2); NaN with a zero vector."""
        import xarray

        gram = self.gram(self.selection([step])[0], group)
        coords = {"vector": self.labels, "vector_2": self.labels, "norm": ("vector", np.sqrt(gram.squares))}
        attributes = {"set": self.name, "group": group, "step": step, "parameters": gram.parameters}
        return xarray.DataArray(
            gram.cosines, dims=("vector", "vector_2"), coords=coords, name="gradient_map", attrs=attributes
        )

    def clusters(
        self, clusters: int = CLUSTERS, step: int | None = None, group: str = "network", *, seed: int = 0
    ) -> Clustering:
        """Compute Gradient Clustering at a step, by default the first: assignment, sizes, traces, J and the average
        variance of GC.

        ``Clustering.of(set.gram(later), found.assignment)`` evaluates the clusters at another step. Raises UsageError
        (``bad-option``) for a number of clusters that is not 1 … n, or if distances are lost in rounding.
        """
        gram = self.gram(self.selection(None)[0] if step is None else step, group)
        try:
            return cluster(gram, clusters, seed=seed)
        except ValueError as error:
            raise UsageError("bad-option", str(error), hint=f"The set {self.name} has {self.n} vectors.") from error
