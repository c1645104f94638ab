"""Two stored runs against each other: what ``trajsvc.cross`` and ``run.cross`` return.

::

    pair = trajsvc.cross("resnet-fashion", "resnet-fashion-wd0")
    pair.map(), pair.map("layer/layer2.0", origin="none")      # DataArray (step_a, step_b)
    pair.distances(), pair.same_start, pair.warnings
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.errors import RunMissing
from storage_schema.format.names import run_name
from storage_schema.models.cross import CrossAnswer, CrossStart
from storage_schema.runs.contents import GroupTrees
from storage_schema.runs.reader import StoredRun, group_trees
from storage_schema.runs.store import RunStore
from trajsvc.anatomy.groups import find_group, groups_of
from trajsvc.errors import NotFound
from trajsvc.measures.cross import Cross, CrossGram, compare_displacements, start_difference
from trajsvc.measures.trees import Tree
from trajsvc.results.labels import plain
from trajsvc.results.measure_methods import Steps
from trajsvc.steps import select_steps

if TYPE_CHECKING:
    from xarray import DataArray

    from storage_schema.runs.gram_store import GramStore
    from trajsvc.anatomy.blocks import Group

SAME: Final = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53, "mixed": 2.0**-8}
"""Largest relative difference of one parameter that is rounded to a type."""
FAR: Final = 0.1
"""Relative difference of the first checkpoints from which two runs are taken for separate initialisations."""
ALIGNED: Final = (
    "the runs begin at different initialisations, which are not aligned: neurons of one have no counterparts among those of the other, "
    "so that cosines near zero say nothing of how alike the functions are"
)


def cross_name(runs: Sequence[str], rename: Sequence[str] = (), common: bool = False) -> str:
    """Return the name under which the cross Gram of two runs is kept."""
    digest = hashlib.sha256(json.dumps([list(runs), list(rename), common]).encode()).hexdigest()[:12]
    return run_name(f"{runs[0][:50]}--{runs[1][:50]}-{digest}")


def in_order(a: str, b: str, rename: Sequence[str] = ()) -> tuple[str, str]:
    """Return two runs in the order in which their cross Gram is kept: by name, unless the second's tensors are renamed."""
    return (a, b) if rename or a <= b else (b, a)


def made_of(runs: tuple[StoredRun, StoredRun], rename: Sequence[str] = (), common: bool = False) -> dict[str, Any]:
    """Return what a cross Gram depends on: the parameters of both runs' checkpoints, by their digests, and the choices."""
    return {
        "runs": [{"run": run.name, "digest": _rows_digest(run)} for run in runs],
        "rename": list(rename),
        "common": common,
    }


def runs_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a stored cross Gram was made of."""
    return dict(attributes.get("cross") or {})


def _rows_digest(run: StoredRun) -> str:
    table, blocks = run.checkpoints, run.blocks
    facts = [
        table.step.tolist(),
        list(table.fingerprint),
        list(blocks.name),
        blocks.size.tolist(),
        run.attributes.get("dtype"),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def starts_of(first: int, second: int) -> NDArray[np.int64]:
    """Return where the legs of both runs' points begin: the second run's first at that of the first run, point 0, each other at the
    point before. Point ``first`` is point 0 once more."""
    starts = np.arange(first + 1 + second, dtype=np.int64)
    starts[first + 1] = 1
    return starts


class Compared(Protocol):
    """A run, as far as a comparison needs it."""

    name: str
    stored: GramStore

    @property
    def axis(self) -> str: ...


class CrossMethods(ABC):
    """The results of two runs against each other as labelled arrays; ``steps`` selects checkpoints of both."""

    @abstractmethod
    def answer(self, group: str = "network", origin: str = "first", steps: Steps = None) -> CrossAnswer:
        """Return everything about a group as plain values. Raises NotFound (``group-not-found``), UsageError (``bad-option``)."""

    @property
    @abstractmethod
    def steps_a(self) -> NDArray[np.int64]: ...

    @property
    @abstractmethod
    def steps_b(self) -> NDArray[np.int64]: ...

    @property
    @abstractmethod
    def start(self) -> CrossStart: ...

    @property
    @abstractmethod
    def same_start(self) -> bool: ...

    @property
    @abstractmethod
    def warnings(self) -> list[str]: ...

    def map(self, group: str = "network", origin: str = "first", steps: Steps = None) -> DataArray:
        """cos(θᵃ_s − o_a, θᵇ_t − o_b), axes (step_a, step_b); NaN for a zero displacement.

        ``origin``: ``first``, each run's own first checkpoint; ``shared``, the first run's first one for both; ``none``, zero.
        """
        return self._labelled("map", group, origin, steps)

    def distances(self, group: str = "network", origin: str = "first", steps: Steps = None) -> DataArray:
        """‖(θᵃ_s − o_a) − (θᵇ_t − o_b)‖, axes (step_a, step_b), in units of the parameters."""
        return self._labelled("distances", group, origin, steps)

    def _labelled(self, what: str, group: str, origin: str, steps: Steps) -> DataArray:
        import xarray

        found = self.answer(group, origin, steps)
        shape = len(found.steps_a), len(found.steps_b)
        return xarray.DataArray(
            np.array(getattr(found, what), dtype=np.float64).reshape(shape), dims=("step_a", "step_b"),
            coords={"step_a": found.steps_a, "step_b": found.steps_b}, name=what,
            attrs={"runs": found.runs, "group": found.group, "origin": origin},
        )  # fmt: skip


class CrossRun(CrossMethods):
    """Two stored runs against each other, ``a`` and ``b``; checkpoints with NaN or infinite values are left out."""

    def __init__(self, a: Compared, b: Compared, stored: StoredRun) -> None:
        self.a, self.b, self.stored = a, b, stored
        kept = [str(run["run"]) for run in runs_of(stored.attributes)["runs"]]
        self._swapped = kept[0] != a.name
        self._gram_of = lru_cache(32)(self._gram)

    def __repr__(self) -> str:
        return (
            f"<trajsvc.CrossRun {self.a.name} × {self.b.name}: {len(self.steps_a)} × {len(self.steps_b)} checkpoints>"
        )

    @cached_property
    def _points(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The points of the runs as they are kept, without those that are not finite."""
        counts = (self.b if self._swapped else self.a).stored.checkpoint_count
        finite = np.logical_not((self.stored.nonfinite() > 0).any(axis=0))
        every = np.arange(len(finite))
        return every[:counts][finite[:counts]], every[counts + 1 :][finite[counts + 1 :]]

    @property
    def steps_a(self) -> NDArray[np.int64]:
        """Steps of the first run's checkpoints."""
        return self.stored.checkpoints.step[self._points[1 if self._swapped else 0]]

    @property
    def steps_b(self) -> NDArray[np.int64]:
        """Steps of the second run's checkpoints."""
        return self.stored.checkpoints.step[self._points[0 if self._swapped else 1]]

    @cached_property
    def _groups(self) -> dict[str, Group]:
        return groups_of(self.stored.blocks)

    def groups(self) -> dict[str, Group]:
        """Return every group of the tensors that both runs have, by its id."""
        return dict(self._groups)

    def gram(self, group: str = "network") -> CrossGram:
        """Return all inner products of a group. Raises NotFound (``group-not-found``)."""
        return self._gram_of(group)

    def _gram(self, group: str) -> CrossGram:
        found = find_group(self._groups, group)
        return self._of_blocks(found.id, found.blocks, found.parameters)

    def _of_blocks(self, name: str, blocks: Sequence[int], parameters: int) -> CrossGram:
        trees = self._trees(blocks)
        _, same = np.unique(np.array(self.stored.checkpoints.fingerprint), return_inverse=True)
        first, second = self._points
        parts = tuple(Tree(start, gram) for start, gram in zip(trees.start, trees.gram, strict=True))
        gram = CrossGram(name, parameters, parts, first, second, same, trees.scale)
        return gram.swapped() if self._swapped else gram

    def _trees(self, blocks: Sequence[int]) -> GroupTrees:
        counts = (self.b if self._swapped else self.a).stored.checkpoint_count
        own = starts_of(counts, self.stored.checkpoint_count - counts - 1)
        table = self.stored.trees
        apart = [] if table is None else np.flatnonzero(np.isin(table.block, list(blocks))).tolist()
        rest = [b for b in blocks if table is None or b not in table.block]
        parts = [(own, 0, self.stored.gram(rest))] if rest else []
        if table is not None:
            parts += [(table.start[i], int(table.scale[i]), table.gram[i]) for i in apart]
        return group_trees(parts)

    def compare(self, group: str = "network", origin: str = "first") -> Cross:
        """Compare the displacements of a group at all checkpoints: cosines, distances, norms. Raises UsageError, NotFound."""
        return compare_displacements(self.gram(group), origin)

    def selection(self, steps: Steps = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which checkpoints of either run a selection means."""
        both = self.steps_a, self.steps_b
        if steps is None:
            return np.arange(len(both[0])), np.arange(len(both[1]))
        chosen = [np.asarray(select_steps(steps, own.tolist()), dtype=np.int64) for own in both]
        return chosen[0], chosen[1]

    @property
    def start(self) -> CrossStart:
        """Where the runs begin: their first checkpoints' digests and relative differences."""
        return self._start

    @cached_property
    def _start(self) -> CrossStart:
        gram = self.gram()
        prints = self.stored.checkpoints.fingerprint
        first, second = gram.first, gram.second
        blocks = self.stored.blocks
        apart = [self._apart(i) for i in range(len(blocks.size))]
        worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
        same = np.flatnonzero(gram.same[first] == gram.same[second[0]])
        return CrossStart(
            digests=[prints[int(first[0])], prints[int(second[0])]],
            difference=plain(start_difference(gram)),
            largest=plain(apart[worst]),
            block=blocks.name[worst],
            branch=int(self.steps_a[same[0]]) if same.size else None,
        )

    def _apart(self, block: int) -> float:
        """‖θᵇ_0 − θᵃ_0‖ / ‖θᵃ_0‖ of one block; the difference is a leg of its own unless the first checkpoints are not finite."""
        first, second = self._points
        counts = (self.b if self._swapped else self.a).stored.checkpoint_count
        table = self.stored.trees
        if first[0] != 0 or second[0] != counts + 1 or (table is not None and block in table.block):
            return start_difference(self._of_blocks("", [block], 0))
        gram, leg = self.stored.gram([block]), counts + 1
        square, size = float(gram[leg, leg]), float(gram[0, 0])
        if self._swapped:
            size += 2.0 * float(gram[0, leg]) + square
        return 0.0 if square == 0.0 else float(np.sqrt(square / size)) if size > 0.0 else float("nan")

    @property
    def same_start(self) -> bool:
        """Whether the runs begin at one point: equal values, or no block apart by more than its stored type rounds."""
        if self.start.digests[0] == self.start.digests[1] or self.start.largest == 0.0:
            return True
        kinds = [self.stored.checkpoints.dtype[int(p[0])] for p in self._points]
        largest = self.start.largest
        return kinds[0] != kinds[1] and largest is not None and largest <= max(SAME.get(k, 0.0) for k in kinds)

    @property
    def warnings(self) -> list[str]:
        """What to bear in mind when the numbers are read."""
        found = []
        apart = self.start.difference
        if not self.same_start and self.start.branch is None and (apart is None or apart > FAR):
            found.append(ALIGNED)
        if left_out := self.stored.attributes.get("left_out"):
            found.append(f"{len(left_out)} tensors are left out, which the runs do not have in common")
        if note := self.stored.attributes.get("not_recomputed"):
            found.append(str(note))
        return found

    def answer(self, group: str = "network", origin: str = "first", steps: Steps = None) -> CrossAnswer:
        """Return everything about a group as plain values."""
        found, gram = self.compare(group, origin), self.gram(group)
        rows, columns = self.selection(steps)
        at = np.ix_(rows, columns)
        return CrossAnswer(
            runs=[self.a.name, self.b.name], group=gram.group, parameters=gram.parameters, origin=origin,
            axes=[self.a.axis, self.b.axis], steps_a=self.steps_a[rows].tolist(), steps_b=self.steps_b[columns].tolist(),
            map=plain(found.cosines[at]), distances=plain(found.distances[at]), norms_a=plain(found.norms_a[rows]),
            norms_b=plain(found.norms_b[columns]), same_start=self.same_start, start=self.start,
            left_out=list(self.stored.attributes.get("left_out") or []), warnings=self.warnings,
        )  # fmt: skip


def open_cross(a: Compared, b: Compared, rename: Sequence[str] = (), common: bool = False) -> CrossRun:
    """Open the cross Gram that the store of the runs keeps of them.

    Raises NotFound (``cross-not-found``) where it was not computed, or of what the runs were before.
    """
    assert isinstance(a.stored, StoredRun)
    assert isinstance(b.stored, StoredRun)
    names = in_order(a.name, b.name, rename)
    runs = (a.stored, b.stored) if names[0] == a.name else (b.stored, a.stored)
    store = RunStore(a.stored.path.parent.parent)
    hint = f"`trajsvc cross {a.name} {b.name}` computes it; over HTTP POST /v1/cross."
    try:
        stored = store.cross.open(cross_name(names, rename, common))
    except RunMissing:
        words = f"{a.name} and {b.name} were not compared yet"
        raise NotFound("cross-not-found", words, hint=hint) from None
    if runs_of(stored.attributes) != made_of(runs, rename, common):
        raise NotFound("cross-not-found", f"{a.name} or {b.name} changed since they were compared", hint=hint)
    return CrossRun(a, b, stored)
