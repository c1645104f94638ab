"""A ``SlabPool`` on dask workers: slabs are submitted in tasks of about a second and added in the plan's order; results outlive processes.

The files of the slabs stand for the journal until their sum is in it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence

from storage_schema.files.slab_results import SlabFiles
from trajsvc.gram.plan import Slab
from trajsvc.gram.slab_worker import SlabJob
from trajsvc.gram.sums import SlabResult
from trajsvc.gram.thread_pool import ThreadPool
from workers.cluster import Cluster
from workers.tasks import run_slabs
from workers.unit_session import PATIENCE, UnitSession, UnitWork, Waiting, WorkerPool


class DaskPool:
    """Compute slabs on ``cluster``.

    What only this process can read (ranges of the Hub) is computed on ``threads`` here.

    ``waiting`` is called with the reason when there is no progress (no scheduler, no worker), and with None when there
    is again; after ``patience`` seconds without progress the job fails with TryAgain (``no-scheduler``,
    ``no-workers``).
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        threads: int,
        device: str = "cpu",
        patience: float = PATIENCE,
        waiting: Waiting | None = None,
    ) -> None:
        self.pool = WorkerPool(cluster, device, patience, waiting or (lambda reason: None))
        self.threads = threads

    @property
    def elsewhere(self) -> bool:
        return True

    def ready(self, device: str) -> None:
        """Check that the pool is for ``device``.

        Whether a worker has it is checked later, since workers come and go.
        """
        if device != self.pool.device:
            raise ValueError(f"a pool for {self.pool.device} was given work for {device}")

    def keeps(self, job: SlabJob) -> bool:
        """Return whether slabs of ``job`` go to workers, which write each to a file before they report it."""
        return job.folder is not None and job.portable() is not None

    def kept(self, job: SlabJob, slabs: Sequence[Slab]) -> Iterator[SlabResult]:
        files = _files(job)
        for slab in slabs:
            arrays = files.get(slab.index)
            if arrays is None:
                return
            yield SlabResult.from_arrays(slab.index, arrays)

    def forget(self, job: SlabJob, slabs: Sequence[Slab]) -> None:
        files = _files(job)
        for slab in slabs:
            files.remove(slab.index)

    def results(self, job: SlabJob, slabs: Iterable[Slab]) -> Iterator[SlabResult]:
        portable = job.portable()
        if portable is None or job.folder is None:
            yield from ThreadPool(self.threads).results(job, slabs)
            return
        plan = job.plan
        order = [slab.index for slab in slabs]
        work = UnitWork(
            run_slabs,
            _files(job),
            pickle.dumps(portable),
            order,
            lambda i: plan.slab_read_bytes(plan.slabs[i]),
            job.stop,
        )
        for index, arrays in UnitSession(self.pool, work).results():
            yield SlabResult.from_arrays(index, arrays)


def _files(job: SlabJob) -> SlabFiles:
    assert job.folder is not None
    return SlabFiles(job.folder, job.key)
