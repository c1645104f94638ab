"""A run, opened: its checkpoints, its groups, and every measure of them as labelled arrays.

::

    run = trajsvc.open("trajsvc-store", "pythia-70m")
    run.trajectory_map("layer/3/attention.q", origin=0)       # DataArray (step, step_2)
    run.mds(), run.update_angle(steps="..5000")
    run.layers().to_dataframe()

Everything is computed from the stored Grams when asked for; nothing here touches parameters.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cachetools import LRUCache, cachedmethod
from numpy.typing import NDArray

from storage_schema.format.arrays import SUFFIX
from storage_schema.models.results import Finding, Hyperparameter, LearningRate, LoggedSeries, Scalar
from storage_schema.runs.store import RunStore
from trajsvc.anatomy.blocks import Group
from trajsvc.anatomy.groups import find_group, groups_of
from trajsvc.errors import NotFound, UsageError
from trajsvc.measures.base import GroupGram, error_of
from trajsvc.measures.finite import usable
from trajsvc.measures.jackknife import standard_error
from trajsvc.measures.registry import measure_named
from trajsvc.measures.row_statistics import RowStatistics, statistics_of
from trajsvc.measures.trees import Tree
from trajsvc.results.drawing import RunPlots, drawing, exporting
from trajsvc.results.labels import label, numbers_of
from trajsvc.results.measure_methods import Steps
from trajsvc.results.records import NamedRecords, Records
from trajsvc.results.run_tables import RunTables
from trajsvc.steps import select_steps

if TYPE_CHECKING:
    from xarray import DataArray

    from storage_schema.models.spectra import Of
    from storage_schema.runs.gram_store import GramStore
    from trajsvc.results.cross import CrossMethods
    from trajsvc.results.gradients import RunGradients
    from trajsvc.results.spectra import RunSpectra
    from trajsvc.results.stored_spectra import SpectrumAnswers


KEPT = 2**25
"""Bytes of groups' Grams that a run keeps, the ones used last."""


def open(path: str | os.PathLike[str], name: str | None = None) -> Run:
    """Open a stored run: ``open(store, name)``, ``open("…/runs/NAME.zarr")``, or ``open(name)`` in the default store
    (``TRAJSVC_STORE``, else ``./trajsvc-store``).

    Raises NotFound (``run-not-found``) and what reading a damaged store raises.
    """
    root, run = _locate(path, name)
    try:
        stored = RunStore(root).open(run)
    except LookupError as error:
        RunStore(root).check()
        raise run_not_found(root, run) from error
    return Run(run, stored)


def default_store() -> Path:
    """Return the store in which runs are kept unless one is named: ``TRAJSVC_STORE``, the settings file, else
    ``./trajsvc-store``.
    """
    from trajsvc.settings import Settings

    return Settings().store


def names(store: str | os.PathLike[str]) -> list[str]:
    """Return the names of the runs of a store; none if there is no store yet."""
    root = Path(store)
    return list(RunStore(root).names()) if root.is_dir() else []


def run_not_found(root: Path, run: str) -> NotFound:
    """Return the error for a run that is not in the store; it names those that are close."""
    from difflib import get_close_matches

    known = names(root)
    close = get_close_matches(run, known, n=3) or known[:5]
    there = f"It has {', '.join(close)}{' …' if len(known) > len(close) else ''}. " if close else "It has no runs. "
    return NotFound(
        "run-not-found",
        f"no run {run!r} in the store {root}",
        hint=f"{there}`trajsvc ls --store {root}` lists them; `trajsvc analyze SOURCE --store {root}` makes one.",
    )


def _locate(path: str | os.PathLike[str], name: str | None) -> tuple[Path, str]:
    text = os.fspath(path)
    if "://" in text:
        raise UsageError("bad-run", f"{text} is an address", hint="Runs are opened from a store's folder on disk.")
    given = Path(text)
    if name is not None:
        return given, name
    if given.suffix == SUFFIX:
        resolved = given.resolve()
        return resolved.parent.parent, resolved.stem
    if (given / "runs").is_dir():
        raise UsageError(
            "run-needed",
            f"{given} is a store",
            hint=f'Name a run: trajsvc.open("{given}", "NAME"); `trajsvc ls` lists.',
        )
    return default_store(), text


def everything(steps: Steps) -> bool:
    """Return whether a selection is of all stored checkpoints, including those with NaN or infinite values."""
    return isinstance(steps, str) and steps.strip() == "all"


class Run(RunTables):
    """One stored run.

    Checkpoints with NaN or infinite values are stored and left out of every measure, unless a selection names their step or is
    ``"all"``; then each such element counts as unchanged since the last finite checkpoint. Where that would leave no trajectory, the
    tensors that are to blame are undefined instead, and with them every group that holds one. Group ids are those of
    ``groups()``; steps are selected as ``"0,1,2"``, ``"1000..5000"``, ``"every:4"``, ``"first:10"``, or a list of numbers.
    """

    def __init__(self, name: str, stored: GramStore) -> None:
        self.name = name
        self.stored = stored
        self._grams: LRUCache[Any, GroupGram] = LRUCache(max(8, KEPT // max(1, 8 * stored.checkpoint_count**2)))
        self._replicates: LRUCache[Any, NDArray[np.float64] | None] = LRUCache(8)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        steps = self.steps
        span = f"{numbers_of(self.axis)} {steps[0]} to {steps[-1]}" if len(steps) else "no usable steps"
        return f"<trajsvc.Run {self.name}: {len(steps)} checkpoints, {span}, {self.parameters:,} parameters>"

    def _repr_html_(self) -> str:
        """Show the run in a notebook: what it is, its findings, and a small map; bounded in size, all text escaped."""
        return str(drawing().run_html(self))

    @property
    def plot(self) -> RunPlots:
        """Draw on matplotlib axes: ``plot.map("layer/3", ax)``, ``plot.curves()``, ``plot.layers()``, ``plot.qkv()``."""
        plots: RunPlots = drawing().RunPlots(self)
        return plots

    def export(
        self,
        folder: str | os.PathLike[str],
        format: str = "csv",
        groups: Sequence[str] | None = None,
        steps: Steps = None,
    ) -> dict[str, Any]:
        """Write everything of this run as tables to a new ``folder``, in ``csv``, ``parquet`` or ``npz``, and return the manifest.

        ``groups`` are ids or globs of the groups of measures and maps, by default all but single tensors. Raises UsageError
        (``bad-format``, ``extra-missing``), NotFound (``group-not-found``, ``step-not-found``), Refused (``output-exists``).
        """
        return dict(exporting().export_run(self, folder, format, groups, steps))

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What the analysis noted: source, architecture, findings, excluded, estimate, …"""
        return self.stored.attributes

    @cached_property
    def _finite(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The checkpoints and the blocks that measures use."""
        return usable(self.stored.nonfinite())

    @cached_property
    def _usable(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._finite[0])

    @cached_property
    def _undefined(self) -> frozenset[int]:
        """Blocks without a trajectory: NaN or infinite at so many checkpoints that leaving these out would leave none."""
        return frozenset(np.flatnonzero(~self._finite[1]).tolist())

    @property
    def steps(self) -> NDArray[np.int64]:
        """(T,) step numbers of the checkpoints that measures use."""
        return self.stored.checkpoints.step[self._usable]

    @property
    def labels(self) -> list[str]:
        """The names those checkpoints had in their source."""
        return [self.stored.checkpoints.label[i] for i in self._usable]

    @property
    def excluded(self) -> Records[dict[str, Any]]:
        """Checkpoints that measures leave out: {step, label, reason}."""
        table, usable = self.stored.checkpoints, set(self._usable.tolist())
        flagged = [
            {"step": int(step), "label": table.label[i], "reason": "NaN or infinite values"}
            for i, step in enumerate(table.step)
            if i not in usable
        ]
        return Records([*(self.attributes.get("excluded") or []), *flagged])

    @property
    def tags(self) -> list[str]:
        """The words that the run can be found by, as they are now, sorted; ``trajsvc tag RUN`` gives and takes them."""
        return list(self.stored.tags)

    @property
    def notes(self) -> str:
        """What people wrote of the run, as it is now; ``trajsvc note RUN TEXT`` writes it."""
        return self.stored.notes

    @property
    def hyperparameters(self) -> dict[str, Scalar]:
        """The run's hyperparameters as they are now, by name: set by hand (``trajsvc set RUN lr=0.1``), else by a family of
        the store, else read from the trainer's files by the analysis. ``hyperparameter_rows`` says where each is from.
        """
        return {one.name: one.value for one in self.hyperparameter_rows}

    @property
    def hyperparameter_rows(self) -> list[Hyperparameter]:
        """The same, each with its origin: ``by hand``, ``family NAME``, or the name of a file."""
        return list(self.stored.hyperparameters)

    @property
    def size(self) -> int:
        """Bytes of the run's files in the store, gradients and spectra included."""
        return self.stored.size

    @property
    def parameters(self) -> int:
        """Number of parameters of the network, tied ones counted once."""
        return int(self.stored.blocks.size.sum())

    @property
    def architecture(self) -> str:
        """Key of the architecture that the tensors' names were recognised as; empty where none was."""
        return str(self.attributes.get("architecture", ""))

    @property
    def axis(self) -> str:
        """What the numbers of the checkpoints count: ``step``, ``epoch``, ``tokens``, or ``index`` where they are only in order."""
        return str(self.attributes.get("axis", "step"))

    @property
    def source(self) -> str:
        """Where the checkpoints came from: a folder's path, or ``hf://…``."""
        return str(self.attributes.get("source", ""))

    @property
    def findings(self) -> Records[Finding]:
        """The integrity report, a list."""
        return Records(Finding(**finding) for finding in self.attributes.get("findings") or [])

    @property
    def learning_rate(self) -> LearningRate | None:
        """The learning rate over training, where the trainer left a log of it beside the checkpoints."""
        found = self.attributes.get("learning_rate")
        return None if found is None else LearningRate.model_validate(found)

    @property
    def logged(self) -> list[LoggedSeries]:
        """The quantities that the trainer logged beside the checkpoints: losses, gradient norms, scores."""
        return [LoggedSeries.model_validate(series) for series in self.attributes.get("logged") or []]

    @property
    def estimate(self) -> dict[str, Any] | None:
        """None for an exact run; of a preview, the fraction of the values it has seen and what it says of its error."""
        return self.attributes.get("estimate")

    @cached_property
    def _groups(self) -> dict[str, Group]:
        return groups_of(self.stored.blocks)

    def groups(self) -> NamedRecords[Group]:
        """Return every group by its id: network, layers, components, tensors."""
        return NamedRecords(self._groups)

    def layer_ids(self) -> list[str]:
        """Return the ids of the groups that are a layer, in order of depth."""
        return [g for g in self._groups if g.startswith("layer/") and g.count("/") == 1]

    def cross(self, other: Run, rename: Sequence[str] = (), common: bool = False) -> CrossMethods:
        """Return this run against another one of the same store, as ``trajsvc.cross`` has computed it.

        Raises NotFound (``cross-not-found``) if it was not.
        """
        from trajsvc.results.cross import open_cross

        return open_cross(self, other, rename, common)

    def selection(self, steps: Steps = None) -> NDArray[np.int64]:
        """Return indices into the stored checkpoints of the usable ones, or of those that ``steps`` selects.

        Raises NotFound (``step-not-found``) and UsageError (``bad-steps``).
        """
        every = self.stored.checkpoints.step.tolist()
        if steps is None:
            return self._usable
        if everything(steps):
            return np.arange(len(every), dtype=np.int64)
        try:
            return self._usable[select_steps(steps, self.steps.tolist())]
        except NotFound as error:
            try:
                return np.asarray(select_steps(steps, every), dtype=np.int64)
            except NotFound:
                raise self._why_missing(error, steps) from None

    def _why_missing(self, error: NotFound, steps: str | Sequence[int]) -> NotFound:
        """Add to ``error`` the reason why the analysis left the requested checkpoints out."""
        asked = re.findall(r"\d+", steps) if isinstance(steps, str) else [str(int(s)) for s in steps]
        left_out = [e for e in self.attributes.get("excluded") or [] if str(e["step"]) in asked]
        reasons = [f"Step {e['step']} was left out of the analysis: {e['reason']}." for e in left_out]
        error.hint = "\n".join(filter(None, [*reasons, error.hint]))
        return error

    def gram(self, group: str = "network", steps: Steps = None) -> GroupGram:
        """Return the group's Gram in the update basis at the selected checkpoints, float64: the sum of its blocks'
        Grams, cached.

        Raises NotFound (``group-not-found``, ``step-not-found``).
        """
        whole, index = self._whole(group, everything(steps)), self.selection(steps)
        return whole if len(index) == len(whole.steps) else whole.select(index)

    @cachedmethod(lambda self: self._grams, lock=lambda self: self._lock)
    def _whole(self, group: str, every: bool = False) -> GroupGram:
        """Return the group's Gram at all stored checkpoints, cached.

        A group with undefined blocks is NaN, unless ``every`` is set.
        """
        found = find_group(self._groups, group)
        gram, rounding = self.stored.group_gram(found.id, found.blocks)
        undefined = not every and not self._undefined.isdisjoint(found.blocks)
        if undefined:
            gram = np.full_like(gram, np.nan)
        error = error_of(str(self.attributes.get("precision", "")))
        _, same = np.unique(np.array(self.stored.checkpoints.fingerprint), return_inverse=True)
        changes = None if undefined else self.stored.group_changes(found.id, found.blocks)
        steps = self.stored.checkpoints.step
        rows = None if undefined else RowStatistics.lazy(lambda: self._row_statistics(found))
        whole = GroupGram(found.id, steps, gram, found.parameters, rounding, error, same, changes=changes, rows=rows)
        return whole if undefined else self._in_trees(whole, found)

    def _row_statistics(self, group: Group) -> NDArray[np.float64] | None:
        """Compute the numbers of the rows of a group's matrices at all stored checkpoints; None where rows were not counted."""
        rows = self.stored.group_rows(group.id, group.blocks)
        return None if rows is None else statistics_of(rows.norms)

    def _in_trees(self, whole: GroupGram, group: Group) -> GroupGram:
        """Return the group in the bases in which its blocks have all their digits, if the update basis is not enough."""
        trees = self.stored.group_trees(group.id, group.blocks)
        if trees is None:
            return whole
        every = np.arange(len(whole.steps), dtype=np.int64)
        with np.errstate(invalid="ignore"):
            rounding = whole.rounding * 2.0**-trees.scale * 2.0**-trees.scale
        rounding = np.where(np.isfinite(rounding), rounding, np.nan)
        parts = tuple(Tree(start, gram) for start, gram in zip(trees.start, trees.gram, strict=True))
        return replace(whole, rounding=rounding, scale=trees.scale).along(parts, every, every)

    def standard_error(
        self, name: str, group: str = "network", steps: Steps = None, **parameters: Any
    ) -> NDArray[np.float64] | None:
        """Return the standard error of a measure of an estimated run, in the measure's shape; None for an exact run.

        By the jackknife over the replicates of the sample: SE² = (R−1)/R Σ_r (f_(−r) − mean)².
        """
        whole = self._whole(group)
        left_out = self.left_out(group)
        if left_out is None:
            return None
        measure, index = measure_named(name), self.selection(steps)
        given = {k: v for k, v in parameters.items() if v is not None}
        full = [replace(whole, gram=gram) for gram in left_out]
        values = [measure.compute(g if len(index) == len(whole.steps) else g.select(index), **given) for g in full]
        return standard_error(np.stack([np.asarray(v, dtype=np.float64) for v in values]))

    def left_out(self, group: str = "network") -> NDArray[np.float64] | None:
        """Return, for an estimated run, the group's Gram with each jackknife replicate left out, (R, T, T).

        None for an exact one.
        """
        return None if self.estimate is None else self._replicate_grams(group)

    @cachedmethod(lambda self: self._replicates, lock=lambda self: self._lock)
    def _replicate_grams(self, group: str) -> NDArray[np.float64] | None:
        return self.stored.group_left_out(group, find_group(self._groups, group).blocks)

    def measure(self, name: str, group: str = "network", steps: Steps = None, **parameters: Any) -> DataArray | float:
        """Compute any measure of the registry by its name, with its own ``parameters`` (``origin`` …).

        Raises NotFound (``measure-not-found``, ``group-not-found``, ``step-not-found``).
        """
        measure = measure_named(name)
        gram = self.gram(group, steps)
        given = {k: v for k, v in parameters.items() if v is not None}
        return label(measure, measure.compute(gram, **given), gram, given)

    def gradients(self, name: str) -> RunGradients:
        """Return a set of gradients by its name (``example``, ``batch`` …), its measures labelled by step; ``trajsvc
        gradients compute`` makes it.

        Raises NotFound (``gradients-not-found``) and what reading a damaged store raises.
        """
        from trajsvc.results.gradients import RunGradients

        return RunGradients(self, self.stored.gradients.open(name))

    def spectra(self, of: Of = "weights") -> RunSpectra:
        """Return the singular values of the run's matrices over training, ``of`` the weights, their displacement from the first
        checkpoint, or the updates; ``trajsvc spectra compute`` makes them.

        Raises NotFound (``spectra-not-found``) and what reading a damaged store raises.
        """
        from trajsvc.results.spectra import RunSpectra

        return RunSpectra(self, self.spectrum_answers(), of)

    def spectrum_answers(self) -> SpectrumAnswers:
        """Return the answers about the run's spectra in the shapes of machine output."""
        from storage_schema.runs.reader import StoredRun
        from trajsvc.results.stored_spectra import StoredSpectra

        assert isinstance(self.stored, StoredRun)
        return StoredSpectra(self, self.stored)

    def gradient_sets(self) -> list[str]:
        """Return the names of the sets of gradients that were computed."""
        return list(self.stored.gradients.names())
