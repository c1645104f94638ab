"""Compute sets of gradients at checkpoints of a stored run, and keep each as soon as it is done.

What is stored already is not computed again, so that a computation that was stopped or killed goes on at the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from storage_schema.runs.gradient_writer import GradientWriter
from storage_schema.runs.reader import StoredRun
from trajsvc.errors import Cancelled
from trajsvc.gradients.checkpoint import Checkpoints
from trajsvc.gradients.forecast import forecasts
from trajsvc.gradients.network import Network, network_at
from trajsvc.gradients.options import MAX_VECTORS, GradientOptions, SetKind
from trajsvc.gradients.probes.base import Probe, ProbeContext
from trajsvc.gradients.probes.resolve import find_probe, made_by
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob, chosen_examples
from trajsvc.gradients.sets.choose import compute_sets
from trajsvc.gradients.spec import set_name, set_spec
from trajsvc.gram.kernels.choose import check_device
from trajsvc.results.run import open as open_run
from trajsvc.settings import Settings
from trajsvc.sources.base import never
from trajsvc.steps import select_steps

SMALL: Final = 2**22
"""parameters of a network below which threads of its own wait for each other longer than they compute"""

Found = Mapping[SetKind, SetGrams]


@dataclass(frozen=True)
class GradientTask:
    """The sets of one checkpoint, with all that another process needs to compute them."""

    store: Path
    run: str
    step: int
    kinds: tuple[SetKind, ...]
    options: GradientOptions
    source: str | None = None
    """where the checkpoints lie, where that is not what the run says"""
    by_path: bool = False
    """whether the probe may be named as ``module:object``"""
    first: int | None = None
    """the first step that is asked for, whose folder the probe may look at"""
    steps: tuple[int, ...] = ()
    """all the steps that are asked for"""


GradientPool = Callable[[Sequence[GradientTask], Callable[[], bool]], Iterator[tuple[GradientTask, Found]]]
"""computes tasks, in any order; raises Cancelled when it is to stop"""


class GradientObserver:
    """An observer that ignores every call; the base of others."""

    def planned(self, total: int, done: int) -> None:
        """``done`` of ``total`` checkpoints are stored already."""

    def committing(self) -> None:
        """Prepare to store: called right before a checkpoint's sets are stored; an exception leaves them out."""

    def stored(self, step: int, done: int, total: int) -> None:
        """Note that the sets of ``step`` are stored."""


SILENT: Final = GradientObserver()


@dataclass(frozen=True)
class GradientOutcome:
    """What a computation did: the names of the sets, and which steps were computed, and which were there."""

    run: str
    sets: tuple[str, ...]
    computed: tuple[int, ...]
    there: tuple[int, ...] = ()


@dataclass(frozen=True)
class GradientPlan:
    """What is to be done: a task for every checkpoint that lacks a set; ``specs``: name of a set → what it depends on."""

    run: StoredRun
    steps: tuple[int, ...]
    specs: Mapping[str, tuple[SetKind, Mapping[str, object]]]
    tasks: tuple[GradientTask, ...] = field(default=())

    @property
    def there(self) -> tuple[int, ...]:
        left = {task.step for task in self.tasks}
        return tuple(step for step in self.steps if step not in left)

    def name_of(self, kind: SetKind) -> str:
        return next(name for name, (known, _) in self.specs.items() if known == kind)


def compute_gradients(
    store: Path,
    run: str,
    options: GradientOptions,
    *,
    name: str | None = None,
    overwrite: bool = False,
    source: str | None = None,
    by_path: bool = False,
    pool: GradientPool | None = None,
    observer: GradientObserver = SILENT,
    stop: Callable[[], bool] = never,
    device: str = "cpu",
) -> GradientOutcome:
    """Compute the sets of ``options`` at its checkpoints of a stored run, and keep them with the run.

    ``name`` is what the sets are stored under instead of their kind; a set that is there with other options is only replaced with
    ``overwrite``. ``by_path`` allows a probe that is named as ``module:object``: its module is imported. ``device`` is where this process
    evaluates the network; a ``pool`` has its own.

    Raises NotFound (``run-not-found``, ``step-not-found``, ``probe-not-found``, ``data-not-found``), Refused (``gradients-exist``,
    ``source-gone``, ``network-mismatch``, …), LimitExceeded (``memory-budget``), StoreBusy, Cancelled. What is stored stays.
    """
    stored = open_run(store, run).stored
    assert isinstance(stored, StoredRun)
    first = GradientTask(store, run, 0, (), options, source, by_path)
    plan = planned(stored, first, name)
    with GradientWriter(store, stored) as writer:
        for set_, (_, spec) in plan.specs.items():
            writer.begin(set_, spec, replace=overwrite)
        tasks = tuple(left for task in plan.tasks if (left := _left(task, plan, writer)).kinds)
        total = len(plan.tasks)
        observer.planned(total, total - len(tasks))
        computed: list[int] = []
        for task, found in (pool or partial(one_by_one, device=device))(tasks, stop):
            observer.committing()
            for kind, grams in found.items():
                writer.put(plan.name_of(kind), task.step, grams, uses=_uses(kind, task))
            computed.append(task.step)
            observer.stored(task.step, total - len(tasks) + len(computed), total)
    there = tuple(task.step for task in plan.tasks if task.step not in set(computed))
    return GradientOutcome(run, tuple(plan.specs), tuple(sorted(computed)), there)


def planned(stored: StoredRun, task: GradientTask, name: str | None = None) -> GradientPlan:
    """Find what ``task``, whose step and kinds are left open, comes to: a task for every chosen checkpoint."""
    options = task.options
    known = stored.checkpoints.step.tolist()
    spec = None if options.steps == "all" else options.steps
    steps = tuple(known[i] for i in select_steps(spec, known))
    options = options.model_copy(update={"anchor": _anchor(options, known)})
    task = replace(task, options=options, first=steps[0], steps=steps)
    probe = _probe(task)
    chosen_examples(len(probe.examples), options)
    for forecast in forecasts(stored.blocks, options, len(steps)):
        forecast.check(options)
    specs = {set_name(kind, options.sets, name): (kind, _spec(kind, task, probe)) for kind in options.sets}
    tasks = (replace(task, step=step, kinds=_kinds_at(step, task)) for step in steps)
    return GradientPlan(stored, steps, specs, tuple(task for task in tasks if task.kinds))


def _anchor(options: GradientOptions, known: Sequence[int]) -> int | None:
    """Return the step that the set ``anchored`` takes differences to: the run's first unless one is named."""
    if "anchored" not in options.sets or options.anchor is None:
        return int(known[0]) if "anchored" in options.sets else None
    return int(known[select_steps([options.anchor], known)[0]])


def _spec(kind: SetKind, task: GradientTask, probe: Probe) -> dict[str, object]:
    """Return what a set depends on; the vectors of ``full`` are the chosen checkpoints'."""
    more = {"steps": list(task.steps)} if kind == "full" else {}
    return set_spec(kind, task.options, probe.digest, **more)


def _kinds_at(step: int, task: GradientTask) -> tuple[SetKind, ...]:
    """Return the sets that are kept with a step: ``full``, of all of them, with the last; ``points``, of none, with the first."""
    kept = {"full": task.steps[-1], "points": task.steps[0]}
    return tuple(kind for kind in task.options.sets if kept.get(kind, step) == step)


def _left(task: GradientTask, plan: GradientPlan, writer: GradientWriter) -> GradientTask:
    """Return the task without the sets that are stored."""
    left = tuple(kind for kind in task.kinds if not writer.has(plan.name_of(kind), task.step))
    return replace(task, kinds=left)


def _uses(kind: SetKind, task: GradientTask) -> tuple[int, ...]:
    """Further steps that a set depends on."""
    if kind == "full":
        return task.steps
    return (task.options.anchor,) if kind == "anchored" and task.options.anchor is not None else ()


def one_by_one(
    tasks: Sequence[GradientTask], stop: Callable[[], bool], device: str = "cpu"
) -> Iterator[tuple[GradientTask, Found]]:
    """Compute tasks in this process, one after the other."""
    for task in tasks:
        if stop():
            raise Cancelled
        yield task, compute_task(task, stop, device=device)


def compute_task(
    task: GradientTask, stop: Callable[[], bool] = never, *, threads: int | None = None, device: str = "cpu"
) -> dict[SetKind, SetGrams]:
    """Compute the sets of one checkpoint, with nothing but the task: any process that sees the store can do it.

    ``threads`` are those of torch, by default those of the settings. Raises Cancelled, UsageError (``device-unavailable``).
    """
    check_device(device)
    stored = open_run(task.store, task.run).stored
    assert isinstance(stored, StoredRun)
    reader = Checkpoints(stored, task.source, stop)
    try:
        probe = _probe(task)

        def network(step: int) -> Network:
            return network_at(probe, reader.read(step), reader.options, task.options.precision, device)

        here = network(task.step)
        with _threads(1 if here.parameters < SMALL else threads or Settings().threads):
            return compute_sets(SetJob(here, probe, task.options, stop, network, task.steps), task.kinds)
    finally:
        reader.close()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch compute with ``count`` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _probe(task: GradientTask) -> Probe:
    """Return the task's probe, with its data; that of the last task where they are the same."""
    data = Path(task.options.data).expanduser()
    seen = data.stat().st_mtime_ns if data.exists() else 0
    return _made(task.store, task.run, task.source, task.by_path, _whatever(task.options), data, seen, task.first or 0)


def _whatever(options: GradientOptions) -> GradientOptions:
    """Return the options that a probe can depend on."""
    return options.model_copy(update={"sets": ("example",), "steps": "all", "memory": 1, "max_vectors": MAX_VECTORS})


@lru_cache(maxsize=2)
def _made(
    store: Path,
    run: str,
    source: str | None,
    by_path: bool,
    options: GradientOptions,
    data: Path,
    seen: int,
    first: int,
) -> Probe:
    stored = open_run(store, run).stored
    assert isinstance(stored, StoredRun)
    reader = Checkpoints(stored, source)
    try:
        config, folder = reader.look(first)
    finally:
        reader.close()
    factory = find_probe(options.probe, by_path=by_path)
    return made_by(factory, ProbeContext(data, options, config, folder))
