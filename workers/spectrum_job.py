"""A job of spectra: its matrices are decomposed on workers, and the runner keeps those of a checkpoint as soon as all are there."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from storage_schema.files.slab_results import SlabFiles
from storage_schema.runs.store import RunStore
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Lease
from trajsvc.sources.resolve import is_remote
from trajsvc.spectra.compute import (
    Found,
    SpectrumObserver,
    SpectrumPool,
    SpectrumTask,
    compute_spectra,
    holds,
)
from trajsvc.spectra.decompose import kept_in
from trajsvc.spectra.options import SpectrumChoices, SpectrumOptions
from workers.heartbeat import Heartbeat
from workers.job_observer import RunnerSettings, check_limit
from workers.spectrum_tasks import SpectrumWorkload, run_spectra
from workers.unit_session import UnitSession, UnitWork, WorkerPool

if TYPE_CHECKING:
    from trajsvc.spectra.compute import SpectrumOutcome


def run_spectrum_job(
    queue: JobQueue,
    lease: Lease,
    heartbeat: Heartbeat,
    settings: RunnerSettings,
    pool: WorkerPool,
    halt: threading.Event,
) -> SpectrumOutcome:
    """Compute what the job asks for. Raises Cancelled, LeaseLost, and what ``compute_spectra`` raises; the checkpoints that are stored by
    then stay."""
    spec = lease.job.spec
    work = spec.spectra
    assert work is not None
    stored = RunStore(settings.store).open(spec.run)
    # Ranges of the Hub are asked for by one process alone: this one.
    here = is_remote(spec.source) and not stored.has_theta
    chosen = {name: getattr(work, name) for name in SpectrumChoices.model_fields}
    folder = RunStore(settings.store).work(spec.run) / "spectra"
    return compute_spectra(
        settings.store,
        spec.run,
        SpectrumOptions(**chosen, budget=spec.memory),
        overwrite=work.replace,
        source=None if is_remote(spec.source) else str(settings.roots.resolve(spec.source)),
        pool=None if here else on_workers(pool, SlabFiles(folder, lease.job.digest), halt),
        observer=_Watch(queue, lease, heartbeat, settings),
        stop=halt.is_set,
    )


def on_workers(pool: WorkerPool, files: SlabFiles, halt: threading.Event) -> SpectrumPool:
    """Tasks on workers. What is finished lies in ``files`` until its checkpoint is stored, so that no attempt computes it again."""

    def results(tasks: Sequence[SpectrumTask], stop: Callable[[], bool]) -> Iterator[tuple[SpectrumTask, Found]]:
        by_number = {task.number: task for task in tasks}
        for number, task in by_number.items():
            kept = files.get(number)
            if kept is not None and not holds(kept_in(kept), task):
                files.remove(number)
        blob = pickle.dumps(SpectrumWorkload(tuple(tasks), pool.device))
        work = UnitWork(run_spectra, files, blob, list(by_number), lambda number: by_number[number].cost, halt)
        waiting: list[SpectrumTask] = []
        for number, arrays in UnitSession(pool, work).results():
            task = by_number[number]
            if waiting and waiting[-1].step != task.step:  # the last checkpoint is stored
                for done in waiting:
                    files.remove(done.number)
                waiting = []
            waiting.append(task)
            yield task, kept_in(arrays)
        files.clear()

    return results


class _Watch(SpectrumObserver):
    """Tells how many matrices are done; the fence before a checkpoint is stored."""

    def __init__(self, queue: JobQueue, lease: Lease, heartbeat: Heartbeat, settings: RunnerSettings) -> None:
        self.queue, self.lease, self.heartbeat, self.limits = queue, lease, heartbeat, settings.limits
        self._facts: dict[str, Any] = {"phase": "computing"}
        self._begun = time.monotonic()

    def planned(self, total: int, done: int) -> None:
        self._tell(slabs=done, slabs_total=total)

    def computed(self, step: int, matrix: str, done: int, total: int) -> None:
        check_limit("seconds", time.monotonic() - self._begun, self.limits.seconds)
        self._tell(step=step, slabs=done, slabs_total=total)

    def committing(self) -> None:
        self.queue.check(self.lease)

    def _tell(self, **facts: Any) -> None:
        self._facts.update(facts)
        self.heartbeat.tell(dict(self._facts), self._facts["slabs"])
