"""A run's spectra, opened: singular values and their measures over training, as labelled arrays.

::

    run = trajsvc.open("trajsvc-store", "pythia-nano")
    spectra = run.spectra("updates")
    spectra.measure("stable_rank", "gpt_neox.layers.0.attention.dense.weight")   # DataArray (step)
    spectra.singular_values("gpt_neox.layers.0.attention.dense.weight")          # DataArray (step, component)
    spectra.layers("stable_rank")                                                # DataArray (matrix, step)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.spectra import Of
from trajsvc.measures.spectra.registry import SPECTRUM_MEASURES, chosen_measures
from trajsvc.results.measure_methods import MeasureMethods, Steps
from trajsvc.results.stored_spectra import SpectrumAnswers

if TYPE_CHECKING:
    from xarray import DataArray


class RunSpectra:
    """The spectra of one kind, ``of`` weights, displacement or updates. Undefined values are NaN."""

    def __init__(self, run: MeasureMethods, answers: SpectrumAnswers, of: Of) -> None:
        self.run, self.answers, self.of = run, answers, of
        self._details = answers.details(of)

    def __repr__(self) -> str:
        return (
            f"<spectra of {self.of} of {self.run.name}: {len(self.matrices)} matrices at {len(self.steps)} checkpoints>"
        )

    @property
    def steps(self) -> NDArray[np.int64]:
        """Steps at which something was decomposed."""
        return np.array(self._details.steps, dtype=np.int64)

    @property
    def matrices(self) -> list[str]:
        """Names of the matrices."""
        return [row.name for row in self._details.matrix_table]

    def measure(self, name: str, tensor: str, steps: Steps = None) -> DataArray:
        """Compute a measure of one matrix over training, (step), by its name in the registry of measures of spectra.

        Raises NotFound (``measure-not-found``, ``matrix-not-found``, ``step-not-found``).
        """
        import xarray

        found = self.answers.measures(tensor, self.of, [name], steps)
        about = SPECTRUM_MEASURES[name]
        attributes = {"units": about.units, "definition": about.definition, "source": about.source}
        attributes |= {"tensor": found.tensor, "of": self.of}
        values = np.array(found.measures[name], dtype=np.float64)
        coords = {"step": found.steps, "method": ("step", found.method)}
        return xarray.DataArray(values, dims=("step",), coords=coords, name=name, attrs=attributes)

    def singular_values(self, tensor: str, steps: Steps = None) -> DataArray:
        """Return the singular values of one matrix over training, descending, (step, component); NaN beyond those that are kept."""
        import xarray

        found = self.answers.values(tensor, self.of, steps)
        count = max((len(v) for v in found.values), default=0)
        values = np.full((len(found.steps), count), np.nan)
        for row, kept in zip(values, found.values, strict=True):
            row[: len(kept)] = kept
        return xarray.DataArray(
            values,
            dims=("step", "component"),
            coords={"step": found.steps, "component": np.arange(1, count + 1)},
            name="singular_values",
            attrs={"units": "parameter", "tensor": found.tensor, "of": self.of},
        )

    def layers(self, name: str = "stable_rank", steps: Steps = None, *, heads: bool = False) -> DataArray:
        """Compute a measure of every matrix over training, (matrix, step), in the order of the network."""
        import xarray

        chosen_measures([name])
        found = self.answers.layers(self.of, [name], steps, heads=heads)
        values = np.array([row.measures[name] for row in found.matrices], dtype=np.float64)
        coords = {
            "matrix": [row.name for row in found.matrices],
            "step": found.steps,
            "layer": ("matrix", [row.layer for row in found.matrices]),
            "component": ("matrix", [row.component for row in found.matrices]),
        }
        values = values.reshape(len(found.matrices), len(found.steps))
        return xarray.DataArray(values, dims=("matrix", "step"), coords=coords, name=name, attrs={"of": self.of})
