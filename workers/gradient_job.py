"""A job of gradients: its checkpoints are computed on workers, and the runner keeps each with the run as soon as it is there."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from storage_schema.files.slab_results import SlabFiles
from storage_schema.runs.store import RunStore
from trajsvc.errors import Refused
from trajsvc.gradients.compute import Found, GradientObserver, GradientPool, GradientTask, compute_gradients
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.records import Lease
from trajsvc.jobs.spec import GradientWork, JobSpec
from trajsvc.sources.resolve import is_remote
from workers.gradient_tasks import GradientWorkload, run_gradients, sets_of
from workers.heartbeat import Heartbeat
from workers.job_observer import RunnerSettings, check_limit
from workers.unit_session import UnitSession, UnitWork, WorkerPool

if TYPE_CHECKING:
    from trajsvc.gradients.compute import GradientOutcome


def run_gradient_job(
    queue: JobQueue,
    lease: Lease,
    heartbeat: Heartbeat,
    settings: RunnerSettings,
    pool: WorkerPool,
    halt: threading.Event,
) -> GradientOutcome:
    """Compute what the job asks for. Raises Cancelled, LeaseLost, Refused (``data-changed``),
    and what ``compute_gradients`` raises; the checkpoints that are stored by then stay."""
    spec = lease.job.spec
    work = spec.gradients
    assert work is not None
    _check_data(spec, work, settings, halt)
    stored = RunStore(settings.store).open(spec.run)
    # Ranges of the Hub are asked for by one process alone: this one.
    here = is_remote(spec.source) and not stored.has_theta
    folder = RunStore(settings.store).work(spec.run) / "gradients"
    return compute_gradients(
        settings.store,
        spec.run,
        settings.registered.options(work, spec.memory),
        name=work.name,
        overwrite=work.replace,
        source=None if is_remote(spec.source) else str(settings.roots.resolve(spec.source)),
        by_path=True,
        pool=None if here else on_workers(pool, SlabFiles(folder, lease.job.digest), halt),
        observer=_Watch(queue, lease, heartbeat, settings),
        stop=halt.is_set,
    )


def _check_data(spec: JobSpec, work: GradientWork, settings: RunnerSettings, halt: threading.Event) -> None:
    now = settings.registered.digests(work, stop=halt.is_set)
    changed = [name for name, digest in now.items() if spec.uses.get(name) != digest]
    if changed:
        words = " and ".join(f"the {what} {getattr(work, what)}" for what in changed)
        raise Refused("data-changed", f"{words} changed since the job was submitted", hint="Submit it again.")


def on_workers(pool: WorkerPool, files: SlabFiles, halt: threading.Event) -> GradientPool:
    """Tasks on workers. What is finished lies in ``files`` until the runner has stored it, so that no attempt computes it again."""

    def results(tasks: Sequence[GradientTask], stop: Callable[[], bool]) -> Iterator[tuple[GradientTask, Found]]:
        by_step = {task.step: task for task in tasks}
        for step, task in by_step.items():
            kept = files.get(step)
            if kept is not None and not set(task.kinds) <= set(sets_of(kept)):
                files.remove(step)
        blob = pickle.dumps(GradientWorkload(tuple(tasks), pool.device))
        work = UnitWork(run_gradients, files, blob, list(by_step), lambda step: 1.0, halt)
        for step, arrays in UnitSession(pool, work).results():
            yield by_step[step], sets_of(arrays)
            files.remove(step)
        files.clear()

    return results


class _Watch(GradientObserver):
    """Tells how many checkpoints are done; the fence before each is stored."""

    def __init__(self, queue: JobQueue, lease: Lease, heartbeat: Heartbeat, settings: RunnerSettings) -> None:
        self.queue, self.lease, self.heartbeat, self.limits = queue, lease, heartbeat, settings.limits
        self._facts: dict[str, Any] = {"phase": "computing"}
        self._begun = time.monotonic()

    def planned(self, total: int, done: int) -> None:
        check_limit("checkpoints", total, self.limits.checkpoints)
        self._tell(checkpoints=total, slabs=done, slabs_total=total)

    def committing(self) -> None:
        check_limit("seconds", time.monotonic() - self._begun, self.limits.seconds)
        self.queue.check(self.lease)

    def stored(self, step: int, done: int, total: int) -> None:
        self._tell(step=step, slabs=done, slabs_total=total)

    def _tell(self, **facts: Any) -> None:
        self._facts.update(facts)
        self.heartbeat.tell(dict(self._facts), self._facts["slabs"])
