"""What a run says as tables and lists: measures, layers, Q/K/V, phases, maps of several groups, rows, what was logged, words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from storage_schema.models.results import Statement
from trajsvc.results import tables
from trajsvc.results.measure_methods import MeasureMethods, Steps
from trajsvc.results.records import LongTable, Records

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

    from storage_schema.models.rows import RowsOf


class RunTables(MeasureMethods):
    """The methods of a run that answer with more than one measure."""

    def measures(self, group: str = "network", names: Sequence[str] | None = None, steps: Steps = None) -> LongTable:
        """Compute measures of one group as JSON has them: {run, group, parameters, steps, measures, undefined}.

        ``to_dataframe()`` makes a table with a row for every number: measure, axis, at, axis_2, at_2, value.
        """
        answer = tables.measures(self, group, names, steps)
        return LongTable(answer.model_dump(), tables.LONG, lambda: tables.long_rows(answer))

    def layers(self, steps: Steps = None) -> Dataset:
        """Compute the table of layers, one row a layer.

        Columns: depth, parameters, mds, relative_mds, path_length, tortuosity, largest_update_angle, settling_step,
        below_noise_floor. Dimension ``layer``, its labels the group ids; ``to_dataframe()`` makes a table.
        """
        return tables.dataset(tables.layers(self, steps))

    def qkv(self, steps: Steps = None, origin: int | None = None) -> Dataset:
        """Compare Q, K and V, one row for each layer with attention.

        Columns: both distances between their maps (relative to ``origin`` if a step is given), and the settling step of
        each.
        """
        return tables.dataset(tables.qkv(self, steps, origin).layers)

    def phases(self, group: str = "network", steps: Steps = None) -> Records[Any]:
        """Return the stretches of the trajectory between change points, each with its evidence, as a list."""
        from trajsvc.measures.phases import phases

        return Records(phases(self.gram(group, steps)))

    def losses(self, names: Sequence[str] | None = None, steps: Steps = None) -> Dataset:
        """Return what the trainer logged, at the checkpoints: a variable a quantity, NaN outside the log.

        ``<name>_logged`` is False where the value is interpolated between the entries beside it. Raises NotFound
        (``nothing-logged``, ``quantity-not-found``).
        """
        from trajsvc.results.losses import dataset, losses

        return dataset(losses(self, names, steps=steps))

    def maps(self, groups: Sequence[str], origin: int | None = None, steps: Steps = None) -> DataArray:
        """Return the trajectory maps of several groups, (group, step, step_2), each as ``trajectory_map`` gives it; no unit.

        ``groups`` are ids or globs (``["layer/*/attention.q"]``); they come in the run's order. Raises NotFound
        (``group-not-found``, ``step-not-found``).
        """
        from trajsvc.results.group_globs import maps

        return maps(self, groups, origin, steps)

    def rows(self, group: str = "network", of: RowsOf = "update", steps: Steps = None) -> DataArray:
        """Return how every row (neuron) of a group's matrices moved, (row, step), with the tensor and the index of each.

        Raises NotFound (``rows-not-found``) where rows were not kept.
        """
        from trajsvc.results.rows import row_array

        return row_array(self, group, of, steps)

    def explain(self) -> Records[Statement]:
        """Say in words what the numbers of this run say, each with the number, what chance would give, and where it was seen."""
        from trajsvc.results.explain import explain

        return Records(explain(self))
