"""Compute the spectra of a stored run's matrices at its checkpoints, and keep each checkpoint's as soon as it is done.

A unit of work is one matrix, with its heads, at one checkpoint. Its result is a file of the store until the record of the checkpoint is
whole, so that a computation that was stopped or killed goes on at the next unit. What is stored already is not computed again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from storage_schema.files.slab_results import SlabFiles
from storage_schema.models.spectra import Of
from storage_schema.runs.beside import SPECTRA
from storage_schema.runs.gradient_store import StoredSet
from storage_schema.runs.gradient_writer import GradientWriter
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.store import RunStore
from trajsvc.anatomy.groups import find_group
from trajsvc.errors import Cancelled, NotFound
from trajsvc.gram.kernels.choose import check_device
from trajsvc.measures.spectra.stored import KEPT, NUMBERS, STATUS
from trajsvc.results.run import Run
from trajsvc.results.run import open as open_run
from trajsvc.results.stored_spectra import differences
from trajsvc.settings import Settings
from trajsvc.sources.base import never
from trajsvc.spectra.decompose import Kept, arrays_of, kept_in, kept_of
from trajsvc.spectra.forecast import check_budget
from trajsvc.spectra.matrices import Matrices, Matrix, matrices_of
from trajsvc.spectra.options import SpectrumOptions
from trajsvc.spectra.reading import MatrixReader
from trajsvc.spectra.record import SpectrumRecord
from trajsvc.steps import select_steps

SMALL: Final = 384
"""singular values of a matrix below which threads of BLAS wait for each other longer than they compute"""
WORTH_KEEPING: Final = 0.1
"""seconds of a unit below which it is computed again sooner than a file is made durable"""

Found = Mapping[tuple[Of, str], Kept]
"""(of, matrix) → what is kept of it"""


@dataclass(frozen=True)
class SpectrumTask:
    """A matrix, with the heads in it, at one checkpoint, with all that another process needs to decompose them.

    ``pairs``: which difference of checkpoints is meant by each kind that is missing.
    """

    number: int
    store: Path
    run: str
    step: int
    matrices: tuple[Matrix, ...]
    pairs: Mapping[Of, tuple[int, int | None]]
    budget: int
    source: str | None = None

    @property
    def cost(self) -> float:
        """About how many multiplications it takes."""
        return float(len(self.pairs) * sum(m.size * m.values for m in self.matrices))


SpectrumPool = Callable[[Sequence[SpectrumTask], Callable[[], bool]], Iterator[tuple[SpectrumTask, Found]]]
"""computes tasks and yields them in their order; raises Cancelled when it is to stop"""


class SpectrumObserver:
    """An observer that ignores every call; the base of others."""

    def planned(self, total: int, done: int) -> None:
        """``done`` of ``total`` matrices at checkpoints are there already."""

    def computed(self, step: int, matrix: str, done: int, total: int) -> None:
        """Note that a matrix is decomposed at a checkpoint."""

    def committing(self) -> None:
        """Prepare to store: called right before a checkpoint's spectra are stored; an exception leaves them out."""


SILENT: Final = SpectrumObserver()


@dataclass(frozen=True)
class SpectrumOutcome:
    """What a computation did: kinds of spectra, steps at which something was computed, and steps at which all was there."""

    run: str
    of: tuple[Of, ...]
    computed: tuple[int, ...]
    there: tuple[int, ...]
    matrices: int
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class SpectrumPlan:
    """What is asked for: the matrices by their numbers among all of the run, and a difference for each kind at each step."""

    run: StoredRun
    matrices: Matrices
    chosen: tuple[int, ...]
    pairs: Mapping[int, Mapping[Of, tuple[int, int | None]]]

    def units(self) -> list[tuple[int, ...]]:
        """Return the chosen matrices block by block: a projection, and the heads in it."""
        by_block: dict[int, list[int]] = {}
        for i in self.chosen:
            by_block.setdefault(self.matrices.found[i].block, []).append(i)
        return [tuple(found) for found in by_block.values()]


def make_plan(run: Run, options: SpectrumOptions, source: str | None = None) -> SpectrumPlan:
    """Find which matrices are to be decomposed, and at which steps.

    Raises NotFound (``step-not-found``, ``group-not-found``, ``no-matrices``), LimitExceeded (``memory-budget``), and what
    reading headers raises.
    """
    stored = run.stored
    assert isinstance(stored, StoredRun)
    known = stored.checkpoints.step.tolist()
    steps = [known[i] for i in select_steps(None if options.steps == "all" else options.steps, known)]
    reader = MatrixReader(stored, source)
    try:
        matrices = matrices_of(reader.trajectory(steps[0]))
    finally:
        reader.close()
    groups = run.groups()
    blocks = {block for group in options.groups for block in find_group(groups, group).blocks}
    chosen = tuple(i for i, m in enumerate(matrices.found) if m.block in blocks and (options.heads or m.head is None))
    if not chosen:
        raise NotFound(
            "no-matrices", f"{' and '.join(options.groups)} of {run.name} hold no matrix", hint="Choose other --groups."
        )
    check_budget([matrices.found[i] for i in chosen], options.budget)
    return SpectrumPlan(stored, matrices, chosen, {step: differences(stored, step, options.of) for step in steps})


def compute_spectra(
    store: Path,
    run: str,
    options: SpectrumOptions,
    *,
    overwrite: bool = False,
    source: str | None = None,
    pool: SpectrumPool | None = None,
    observer: SpectrumObserver = SILENT,
    stop: Callable[[], bool] = never,
    device: str = "cpu",
) -> SpectrumOutcome:
    """Compute spectra of the matrices that ``options`` choose at checkpoints of a stored run, and keep them with the run.

    What is there already, of the same checkpoints, is computed anew only with ``overwrite``.

    Raises NotFound (``run-not-found``, ``step-not-found``, ``group-not-found``, ``no-matrices``), Refused (``source-gone``,
    ``checkpoint-changed``), LimitExceeded (``memory-budget``), StoreBusy, Cancelled. What is stored stays.
    """
    check_device(device)
    plan = make_plan(open_run(store, run), options, source)
    work = pool or partial(
        one_by_one, files=SlabFiles(RunStore(store).work(run) / "spectra", key_of(plan)), device=device
    )
    with GradientWriter(store, plan.run, SPECTRA) as writer:
        for of in options.of:
            writer.begin(of, spec_of(of), replace=overwrite)
        tasks = _tasks(plan, writer, SpectrumTask(0, store, run, 0, (), {}, options.budget, source), overwrite)
        total = len(plan.units()) * len(plan.pairs)
        done, left = total - len(tasks), Counter(task.step for task in tasks)
        observer.planned(total, done)
        numbers = {plan.matrices.found[i].name: i for i in plan.chosen}
        records: dict[Of, SpectrumRecord] = {}
        for task, found in work(tasks, stop):
            records = records or {of: _record(plan, writer, task.step, of, overwrite) for of in plan.pairs[task.step]}
            for (kind, name), kept in found.items():
                records[kind].put(numbers[name], kept)
            done += 1
            left[task.step] -= 1
            observer.computed(task.step, task.matrices[0].name, done, total)
            if not left[task.step]:
                observer.committing()
                for of, record in records.items():
                    writer.put(of, task.step, record, uses=[s for s in plan.pairs[task.step][of] if s is not None])
                records = {}
    computed = sorted({task.step for task in tasks})
    there = tuple(step for step in plan.pairs if step not in set(computed))
    return SpectrumOutcome(run, options.of, tuple(computed), there, len(plan.chosen), plan.matrices.left_out)


def spec_of(of: Of) -> dict[str, Any]:
    """Return what stored spectra depend on beside the run: what they are of, and which numbers are kept."""
    return {"kind": of, "numbers": len(NUMBERS), "kept": KEPT}


def key_of(plan: SpectrumPlan) -> str:
    """Return the key of unfinished results: those of the same run, numbered in the same way."""
    words = [
        plan.run.attributes.get("identity"),
        [m.name for m in plan.matrices.found],
        plan.run.checkpoints.fingerprint,
    ]
    return sha256(repr(words).encode()).hexdigest()


def _record(plan: SpectrumPlan, writer: GradientWriter, step: int, of: Of, anew: bool) -> SpectrumRecord:
    """Return the record at a step, with what is stored of the same checkpoints filled in."""
    base = plan.pairs[step][of][1]
    record = SpectrumRecord.empty(of, plan.matrices, {"base": base})
    stored = None if anew else _stored(writer, step, of, base)
    if stored is not None:
        found = stored.record(step).scalars
        record.numbers[:], record.sigma[:] = found["numbers"], found["sigma"]
    return record


def _stored(writer: GradientWriter, step: int, of: Of, base: int | None) -> StoredSet | None:
    """Return the stored spectra of a kind, where they have a record of this difference."""
    if not writer.has(of, step):
        return None
    stored = writer.sets.open(of)
    return stored if stored.facts(step).get("base") == base else None


def _tasks(plan: SpectrumPlan, writer: GradientWriter, like: SpectrumTask, anew: bool) -> list[SpectrumTask]:
    """Return a task for every block at every step that lacks something."""
    tasks = []
    rows = {step: i for i, step in enumerate(plan.run.checkpoints.step.tolist())}
    for step, pairs in plan.pairs.items():
        lacking = {of: _lacking(plan, writer, step, of, anew) for of in pairs}
        for unit in plan.units():
            missing = {of: pair for of, pair in pairs.items() if not lacking[of].isdisjoint(unit)}
            if missing:
                number = rows[step] * len(plan.run.blocks.name) + plan.matrices.found[unit[0]].block
                chosen = tuple(plan.matrices.found[i] for i in unit)
                tasks.append(replace(like, number=number, step=step, matrices=chosen, pairs=missing))
    return tasks


def _lacking(plan: SpectrumPlan, writer: GradientWriter, step: int, of: Of, anew: bool) -> set[int]:
    """Return the chosen matrices that are not stored."""
    stored = None if anew else _stored(writer, step, of, plan.pairs[step][of][1])
    if stored is None:
        return set(plan.chosen)
    status = stored.scalar(step, "numbers")[:, STATUS]
    return {i for i in plan.chosen if status[i] == 0}


def holds(found: Found, task: SpectrumTask) -> bool:
    """Return whether a kept result is all that a task is to find."""
    return all((of, matrix.name) in found for of in task.pairs for matrix in task.matrices)


def one_by_one(
    tasks: Sequence[SpectrumTask], stop: Callable[[], bool], *, files: SlabFiles, device: str = "cpu"
) -> Iterator[tuple[SpectrumTask, Found]]:
    """Compute tasks in this process, one after the other; each result that took longer than
    ``WORTH_KEEPING`` is a file until the next checkpoint's are computed."""
    reader = None
    waiting: list[SpectrumTask] = []
    threads = Settings().threads
    try:
        for task in tasks:
            if waiting and waiting[-1].step != task.step:  # the last checkpoint is stored
                for done in waiting:
                    files.remove(done.number)
                waiting = []
            if stop():
                raise Cancelled
            kept = files.get(task.number)
            if kept is None or not holds(kept_in(kept), task):
                reader = reader or reader_of(task, stop)
                begun = time.perf_counter()
                kept = compute_task(reader, task, threads, device)
                if time.perf_counter() - begun > WORTH_KEEPING:
                    files.put(task.number, kept)
            waiting.append(task)
            yield task, kept_in(kept)
        files.clear()
    finally:
        if reader is not None:
            reader.close()


def reader_of(task: SpectrumTask, stop: Callable[[], bool] = never) -> MatrixReader:
    """Return a reader of the run that a task is of; other tasks of the same run can use it too."""
    stored = open_run(task.store, task.run).stored
    assert isinstance(stored, StoredRun)
    return MatrixReader(stored, task.source, stop)


def compute_task(reader: MatrixReader, task: SpectrumTask, threads: int | None, device: str) -> dict[str, Any]:
    """Decompose the matrices of a task, with ``threads`` of BLAS; as arrays for a file.

    Raises Cancelled, LimitExceeded (``memory-budget``), and what reading raises.
    """
    found = []
    for matrix in task.matrices:
        few = 1 if matrix.values < SMALL else threads
        found.append((matrix, kept_of(reader, matrix, task.pairs, task.budget, few, device)))
    return arrays_of(found)
