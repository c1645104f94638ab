"""The stored spectra of a run, and the answers made of them, the same for every interface."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.spectra import (
    OF,
    Of,
    SpectrumLayerRow,
    SpectrumLayersAnswer,
    SpectrumMatrixRow,
    SpectrumMeasuresAnswer,
    SpectrumRow,
    SpectrumSetAnswer,
    SpectrumValuesAnswer,
)
from trajsvc.errors import NotFound
from trajsvc.measures.base import Array
from trajsvc.measures.finite import usable
from trajsvc.measures.spectra.registry import chosen_measures
from trajsvc.measures.spectra.stored import KEPT, NUMBERS, ROWS, SAID, STATUS, WIDTH, kept_of
from trajsvc.results.depth import depth_layers, relative_depths
from trajsvc.results.labels import plain
from trajsvc.results.measure_methods import MeasureMethods, Steps
from trajsvc.steps import select_steps

if TYPE_CHECKING:
    from storage_schema.runs.contents import BlockTable
    from storage_schema.runs.gradient_store import StoredSet
    from storage_schema.runs.reader import StoredRun

LAYER_MEASURES = ("sigma_1", "stable_rank", "effective_rank")
"""measures of every matrix where none are named"""


LAYER_COLUMNS = ("matrix", "layer", "component", "rows", "columns", "measure", "step", "value")


def measure_table(answer: SpectrumMeasuresAnswer) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and rows of the measures of one matrix: one row a step."""
    rows = zip(answer.steps, answer.method, *answer.measures.values(), strict=True)
    return ["step", "method", *answer.measures], [list(row) for row in rows]


def value_table(answer: SpectrumValuesAnswer) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and rows of the singular values of one matrix: one row a step and value, numbered from 1."""
    pairs = zip(answer.steps, answer.values, strict=True)
    return ["step", "index", "value"], [[s, k, v] for s, kept in pairs for k, v in enumerate(kept, start=1)]


def layer_rows(answer: SpectrumLayersAnswer) -> list[list[Any]]:
    """Return the answer as a long table with ``LAYER_COLUMNS``: one row a matrix, measure and step."""
    return [
        [row.name, row.layer, row.component, row.rows, row.columns, name, step, value]
        for row in answer.matrices
        for name, found in row.measures.items()
        for step, value in zip(answer.steps, found, strict=True)
    ]


class SpectrumAnswers(Protocol):
    """The answers about a run's spectra, from a store on this machine or from a server."""

    def rows(self) -> list[SpectrumRow]: ...
    def details(self, of: Of) -> SpectrumSetAnswer: ...
    def measures(
        self, tensor: str, of: Of, names: Sequence[str] | None = None, steps: Steps = None
    ) -> SpectrumMeasuresAnswer: ...
    def values(self, tensor: str, of: Of, steps: Steps = None) -> SpectrumValuesAnswer: ...
    def layers(
        self, of: Of, names: Sequence[str] | None = None, steps: Steps = None, *, heads: bool = False
    ) -> SpectrumLayersAnswer: ...


def differences(stored: StoredRun, step: int, of: Sequence[Of]) -> dict[Of, tuple[int, int | None]]:
    """Return what each kind of spectrum is of at a step: W_step, W_step − W_first, W_step − W_previous.

    First and previous are among the run's usable checkpoints; the first has no update.
    """
    known = stored.checkpoints.step
    good: list[int] = known[usable(stored.nonfinite())[0]].tolist() or known.tolist()
    before = [s for s in good if s < step]
    found: dict[Of, tuple[int, int | None]] = {}
    for kind in of:
        if kind == "weights":
            found[kind] = (step, None)
        elif kind == "displacement":
            found[kind] = (step, good[0])
        elif before:
            found[kind] = (step, before[-1])
    return found


class StoredSpectra:
    """The spectra that are kept beside a run."""

    def __init__(self, run: MeasureMethods, stored: StoredRun) -> None:
        self.run, self.stored = run, stored

    def rows(self) -> list[SpectrumRow]:
        """Return a row for each kind of spectra that the run has."""
        return [self._row(of, _Kind(self, of)) for of in OF if of in self.stored.spectra.names()]

    def digests(self) -> list[str]:
        """Return what changes whenever anything of the spectra does."""
        return [self.stored.spectra.open(of).digest for of in self.stored.spectra.names()]

    def _row(self, of: Of, kind: _Kind) -> SpectrumRow:
        done = kind.ever
        heads = sum(bool(done[i]) and _is_head(kind.table, i) for i in range(len(done)))
        return SpectrumRow(
            run=self.run.name, of=of, matrices=int(done.sum()), heads=heads, steps=kind.steps, stale=kind.stale
        )

    def details(self, of: Of) -> SpectrumSetAnswer:
        """Describe the spectra of one kind. Raises NotFound (``spectra-not-found``)."""
        kind = self._kind(of)
        matrices = [_matrix(kind, int(i)) for i in np.flatnonzero(kind.ever)]
        return SpectrumSetAnswer(
            **self._row(of, kind).model_dump(), digest=kind.stored.digest if kind.stored else "", matrix_table=matrices
        )

    def measures(
        self, tensor: str, of: Of, names: Sequence[str] | None = None, steps: Steps = None
    ) -> SpectrumMeasuresAnswer:
        """Measure one matrix over training.

        Raises NotFound (``spectra-not-found``, ``matrix-not-found``, ``measure-not-found``, ``step-not-found``).
        """
        chosen, kind = chosen_measures(names), self._kind(of)
        index = kind.find(tensor)
        at = kind.steps_of([index], steps)
        numbers = np.array([kind.numbers[s][index] for s in at]).reshape(len(at), len(NUMBERS))
        return SpectrumMeasuresAnswer(
            run=self.run.name,
            tensor=kind.table.name[index],
            of=of,
            **_shape(kind, index),
            steps=at,
            base=[kind.base(s) for s in at],
            method=[SAID[int(status)] for status in numbers[:, STATUS]],
            measures={name: plain(numbers[:, NUMBERS.index(name)]) for name in chosen},
        )

    def values(self, tensor: str, of: Of, steps: Steps = None) -> SpectrumValuesAnswer:
        """Return the singular values of one matrix over training; raises as ``measures``."""
        kind = self._kind(of)
        index = kind.find(tensor)
        at = kind.steps_of([index], steps)
        found = [kind.sigma(s, index) for s in at]
        return SpectrumValuesAnswer(
            run=self.run.name, tensor=kind.table.name[index], of=of, **_shape(kind, index), steps=at, values=found
        )

    def layers(
        self, of: Of, names: Sequence[str] | None = None, steps: Steps = None, *, heads: bool = False
    ) -> SpectrumLayersAnswer:
        """Measure every matrix over training, without or with ``heads``; null where a matrix was not decomposed at a step."""
        chosen, kind = chosen_measures(LAYER_MEASURES if names is None else names), self._kind(of)
        depths = relative_depths(depth_layers(self.run))
        shown = [int(i) for i in np.flatnonzero(kind.ever) if heads or not _is_head(kind.table, int(i))]
        at = kind.steps_of(shown, steps)
        rows = []
        for i in shown:
            numbers = np.array([kind.numbers[s][i] for s in at]).reshape(len(at), len(NUMBERS))
            measured = {name: plain(numbers[:, NUMBERS.index(name)]) for name in chosen}
            depth = depths.get(f"layer/{kind.table.layer[i]}")
            rows.append(SpectrumLayerRow(**_matrix(kind, i).model_dump(), depth=depth, measures=measured))
        return SpectrumLayersAnswer(run=self.run.name, of=of, steps=at, matrices=rows)

    def _kind(self, of: Of) -> _Kind:
        return _Kind(self, of)


class _Kind:
    """The records of one kind of spectra, as the run is now."""

    def __init__(self, spectra: StoredSpectra, of: Of) -> None:
        self.of, self._run = of, spectra.stored
        sets = spectra.stored.spectra
        known = sets.names()
        self.stored: StoredSet | None = None
        if of in known or not self._has_no_updates(of, known):
            self.stored = sets.open(of)
        self._table_of = self.stored or sets.open(known[0])

    def _has_no_updates(self, of: Of, known: Sequence[str]) -> bool:
        """Return whether there can be no updates: a run of one checkpoint, of which something else is decomposed."""
        return of == "updates" and bool(known) and int(usable(self._run.nonfinite())[0].sum()) < 2

    @property
    def table(self) -> BlockTable:
        return self._table_of.blocks

    @cached_property
    def _current(self) -> list[int]:
        """Steps whose record is of the difference that the run has now."""
        if self.stored is None:
            return []
        return [s for s in self.stored.steps if self.base(s) == differences(self._run, s, [self.of])[self.of][1]]

    @cached_property
    def steps(self) -> list[int]:
        return self._current

    @property
    def stale(self) -> list[int]:
        if self.stored is None:
            return []
        return sorted({*self.stored.stale, *self.stored.steps} - set(self.steps))

    def base(self, step: int) -> int | None:
        """Return the step that is subtracted."""
        assert self.stored is not None
        found = self.stored.facts(step).get("base")
        return None if found is None else int(found)

    @cached_property
    def numbers(self) -> dict[int, Array]:
        """Step → (matrices, ``NUMBERS``)."""
        assert self.stored is not None or not self.steps
        return {s: self.stored.scalar(s, "numbers") for s in self.steps} if self.stored else {}

    @cached_property
    def shapes(self) -> Array:
        """(matrices, 2): rows and columns."""
        source, steps = self._table_of, self._table_of.steps
        return source.scalar(steps[0], "numbers")[:, [ROWS, WIDTH]] if steps else np.zeros((len(self.table.name), 2))

    @cached_property
    def ever(self) -> NDArray[np.bool_]:
        """Return which matrices are decomposed at some step."""
        numbers = self.numbers
        if not self.stored:
            numbers = {s: self._table_of.scalar(s, "numbers") for s in self._table_of.steps}
        return np.array(sum(n[:, STATUS] > 0 for n in numbers.values()) > 0).reshape(-1) if numbers else self._none

    @property
    def _none(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.table.name), dtype=bool)

    def find(self, tensor: str) -> int:
        """Return the number of a matrix, by its name or by the id of its group. Raises NotFound (``matrix-not-found``)."""
        name, names = tensor.removeprefix("tensor/"), list(self.table.name)
        done = [n for n, there in zip(names, self.ever, strict=True) if there]
        if name in done:
            return names.index(name)
        close = get_close_matches(name, done, n=3, cutoff=0.4) or done[:3]
        parts = [n for n in done if n.startswith(f"{name}[")][:3]
        raise NotFound(
            "matrix-not-found",
            f"no spectra of a matrix {name!r}",
            hint=f"There are those of {', '.join(parts or close)} …; `trajsvc spectra layers RUN` lists them.",
        )

    def steps_of(self, indices: Sequence[int], steps: Steps) -> list[int]:
        """Return the chosen steps at which some of the matrices are decomposed."""
        known = [s for s in self.steps if any(self.numbers[s][i][STATUS] > 0 for i in indices)]
        every = steps is None or (isinstance(steps, str) and steps.strip() == "all")
        return known if every else [known[i] for i in select_steps(steps, known)]

    def sigma(self, step: int, index: int) -> list[float]:
        """Return the singular values of a matrix that are kept at a step."""
        assert self.stored is not None
        counts = kept_of(self.shapes[:, 0], self.shapes[:, 1], int(self.stored.spec.get("kept", KEPT)))
        lo = int(counts[:index].sum())
        found: Any = self.stored.scalar(step, "sigma")[0, lo : lo + int(counts[index])]
        return [float(v) for v in found if np.isfinite(v)]


def _is_head(table: BlockTable, index: int) -> bool:
    """Return whether a matrix is a head of Q, K or V: ``q.3``; experts are ``expert.3``."""
    letter, _, number = table.part[index].partition(".")
    return letter in ("q", "k", "v") and number.isdecimal()


def _shape(kind: _Kind, index: int) -> dict[str, int]:
    return {"rows": int(kind.shapes[index, 0]), "columns": int(kind.shapes[index, 1])}


def _matrix(kind: _Kind, index: int) -> SpectrumMatrixRow:
    words = {n: getattr(kind.table, n)[index] for n in ("name", "tensor", "part", "layer", "component")}
    return SpectrumMatrixRow.model_validate({**words, **_shape(kind, index)})
