"""The task of a dask worker that decomposes matrices at checkpoints, each kept as a file as soon as it is done."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed import get_worker

from storage_schema.files.slab_results import SlabFiles
from trajsvc.spectra.compute import compute_task, reader_of
from workers.tasks import Done, described, watching

if TYPE_CHECKING:
    from trajsvc.spectra.compute import SpectrumTask


@dataclass(frozen=True)
class SpectrumWorkload:
    """The description of a job that its tasks read: what is decomposed, and where."""

    tasks: tuple[SpectrumTask, ...]
    device: str = "cpu"


def run_spectra(folder: str, key: str, digest: str, numbers: tuple[int, ...], stop_name: str) -> Done:
    """Decompose the matrices of the tasks ``numbers``, unless they are there, and keep each; see ``run_slabs``.

    Raises Cancelled between two panels, TryAgain (``store-not-shared``), and what reading raises.
    """
    begun = time.perf_counter()
    files, stop = SlabFiles(folder, key), threading.Event()
    job: SpectrumWorkload = described(files, digest)
    tasks, threads = {task.number: task for task in job.tasks}, get_worker().state.nthreads
    todo = [tasks[number] for number in numbers if files.get(number) is None]
    if todo:
        reader = reader_of(todo[0], stop.is_set)
        try:
            with watching(stop_name, stop):
                for task in todo:
                    files.put(task.number, compute_task(reader, task, threads, job.device))
        finally:
            reader.close()
    return Done(numbers, time.perf_counter() - begun)
