"""One set of gradients of a run: what is stored of it, its groups and steps, and the values of its measures."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from cachetools import LRUCache, cachedmethod
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Group
from trajsvc.anatomy.groups import find_group, groups_of
from trajsvc.errors import NotFound
from trajsvc.measures.gradients.registry import gradient_measure_named, measures_of
from trajsvc.measures.gradients.sample import GradientMeasure, GroupSample
from trajsvc.measures.gradients.vector_gram import VectorGram
from trajsvc.results.gradient_methods import GradientMethods
from trajsvc.results.measure_methods import MeasureMethods, Steps
from trajsvc.steps import select_steps

if TYPE_CHECKING:
    from storage_schema.runs.gradient_source import VectorSet

KEPT = 2**25
"""Bytes of groups' Grams that a set keeps, the ones used last."""


class GradientSet(GradientMethods):
    """One set of gradients of a run: n vectors at every checkpoint for which it was computed.

    Every measure is a method, for any group of parameters and any selection of the set's steps. ``steps`` are those whose records are of
    the parameters that the run has now; ``stale`` are others, which are not answered with.
    """

    def __init__(self, run: MeasureMethods, stored: VectorSet) -> None:
        self.run = run
        self.stored = stored
        self._samples: LRUCache[Any, GroupSample] = LRUCache(max(8, KEPT // max(1, 8 * stored.n**2)))
        self._lock = threading.Lock()
        self._besides: dict[str, Self | None] = {}

    def __repr__(self) -> str:
        count = len(self.steps)
        stale = f", {len(self.stale)} stale" if self.stale else ""
        return f"<{self.name} of {self.run.name}: {self.n} vectors at {count} checkpoints{stale}>"

    @property
    def name(self) -> str:
        """The set's name: its kind unless it was given another."""
        return self.stored.name

    @property
    def kind(self) -> str:
        """What its vectors are: ``example``, ``batch``, …"""
        return self.stored.kind

    @property
    def n(self) -> int:
        """How many vectors it has."""
        return self.stored.n

    @property
    def labels(self) -> list[str]:
        """Names of the vectors; their numbers where they have none."""
        return list(self.stored.labels) or [str(i) for i in range(self.n)]

    @property
    def options(self) -> dict[str, Any]:
        """What the set depends on beside the run: probe, digest of the data, examples, …"""
        return dict(self.stored.spec)

    @property
    def steps(self) -> NDArray[np.int64]:
        """Steps at which it was computed, of the parameters that the run has now."""
        return np.array(self.stored.steps, dtype=np.int64)

    @property
    def stale(self) -> list[int]:
        """Steps whose records are of other parameters than the run has now: compute them again."""
        return list(self.stored.stale)

    @property
    def parameters(self) -> int:
        """Parameters of the network as the probe built it."""
        return int(self.stored.blocks.size.sum())

    @cached_property
    def _groups(self) -> dict[str, Group]:
        return groups_of(self.stored.blocks)

    def groups(self) -> dict[str, Group]:
        """Return every group by its id: network, layers, components, tensors."""
        return dict(self._groups)

    def layer_ids(self) -> list[str]:
        """Return the ids of the groups that are a layer, in order of depth."""
        return [g for g in self._groups if g.startswith("layer/") and g.count("/") == 1]

    def facts(self, step: int) -> dict[str, Any]:
        """Return what was noted when the set was computed at a step: seeds, zero gradients, perturbations."""
        return dict(self._record(step, "network").facts)

    def selection(self, steps: Steps = None) -> list[int]:
        """Return the steps that ``steps`` selects.

        Raises NotFound (``gradients-not-found``, ``step-not-found``), UsageError (``bad-steps``).
        """
        have = self.stored.steps
        if not have:
            why = "are of other parameters than the run has now" if self.stale else "have no steps"
            hint = "`trajsvc gradients compute` computes them again."
            raise NotFound("gradients-not-found", f"the gradients {self.name} of {self.run.name} {why}", hint=hint)
        if steps is None or (isinstance(steps, str) and steps.strip() == "all"):
            return have
        try:
            return [have[i] for i in select_steps(steps, have)]
        except NotFound as error:
            stale = ", ".join(map(str, self.stale))
            error.hint = "\n".join(
                filter(None, [f"Stale, as the run has other parameters now: {stale}." * bool(stale), error.hint])
            )
            raise

    def gram(self, step: int, group: str = "network") -> VectorGram:
        """Return the Gram of a group's vectors at a step, float64.

        Raises NotFound (``group-not-found``, ``gradients-not-found``).
        """
        return self.sample(step, group).gram

    @cachedmethod(lambda self: self._samples, lock=lambda self: self._lock)
    def sample(self, step: int, group: str = "network") -> GroupSample:
        """Return what measures of a group at a step are computed from, cached; without further sets beside it."""
        found = find_group(self._groups, group)
        record = self._record(step, group)
        gram = VectorGram(record.gram, found.parameters, self.stored.labels, found.id, record.error, record.same)
        return GroupSample(gram, record.scalars, record.whole, record.facts)

    def _record(self, step: int, group: str) -> Any:
        return self.stored.group(int(step), group, find_group(self._groups, group).blocks)

    def measures_available(self) -> list[GradientMeasure]:
        """Return the measures that this set can answer: of its kind, with the sums that it holds and the sets that the
        run has.
        """
        return [m for m in measures_of(self.kind) if set(m.scalars) <= set(self.stored.scalars) and self._has_beside(m)]

    def _has_beside(self, measure: GradientMeasure) -> bool:
        return all(self.beside_of(kind) is not None for kind in measure.beside)

    def beside_of(self, kind: str) -> Self | None:
        """Return a set of a kind, of the same run, probe, data and examples as this one; None if there is none."""
        if kind not in self._besides:
            stored = map(self.run.stored.gradients.open, self.run.stored.gradients.names())
            found = (type(self)(self.run, other) for other in stored if other.kind == kind and self._goes_with(other))
            self._besides[kind] = next(found, None)
        return self._besides[kind]

    def _goes_with(self, other: VectorSet) -> bool:
        common = (set(other.spec) & set(self.stored.spec)) - {"kind"}
        same = all(other.spec[key] == self.stored.spec[key] for key in common)
        return same and all(other.spec.get(key) == self.stored.spec.get(key) for key in ("per_token", "batch_norm"))

    def checked(self, name: str) -> GradientMeasure:
        """Return the measure ``name`` if this set can answer it. Raises NotFound naming the sets that are stored."""
        measure = gradient_measure_named(name)
        stored = self.run.stored.gradients.names()
        have = f"{self.run.name} has the sets {', '.join(stored)}."
        if self.kind not in measure.sets:
            hint = f"It is a measure of {' and '.join(measure.sets)}. {have}"
            raise NotFound("measure-not-found", f"{name} is no measure of the set {self.name} ({self.kind})", hint=hint)
        missing = [kind for kind in measure.beside if self.beside_of(kind) is None]
        if missing:
            hint = f"{have} `trajsvc gradients compute` with the same data and options and --sets {missing[0]} adds it."
            raise NotFound("gradients-not-found", f"{name} of {self.name} needs the set {missing[0]} too", hint=hint)
        absent = [scalar for scalar in measure.scalars if scalar not in self.stored.scalars]
        if absent:
            hint = "It was computed without them: `trajsvc gradients compute … --replace` computes it anew."
            raise NotFound(
                "gradients-not-found", f"the set {self.name} holds no {', '.join(absent)} for {name}", hint=hint
            )
        return measure

    def values(self, name: str, group: str = "network", steps: Steps = None, **parameters: Any) -> list[Any]:
        """Compute a measure at each of the selected steps: floats or float64 arrays, NaN where undefined.

        Parameters that it does not take are ignored.
        """
        measure = self.checked(name)
        given = {k: v for k, v in parameters.items() if v is not None and k in measure.parameters}
        chosen = self.selection(steps)
        beside = {kind: self.beside_of(kind) for kind in measure.beside}
        found = []
        for step in chosen:
            sample = self.sample(step, group)
            others = {k: s.gram(step, group) for k, s in beside.items() if s is not None and step in s.stored.steps}
            if len(others) < len(beside):
                found.append(float("nan"))
                continue
            found.append(measure.compute(with_beside(sample, others), **given))
        return found


def with_beside(sample: GroupSample, others: dict[str, VectorGram]) -> GroupSample:
    """Return the sample with Grams of other sets beside it."""
    return GroupSample(sample.gram, sample.scalars, sample.whole, sample.facts, others) if others else sample
