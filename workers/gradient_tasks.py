"""The task of a dask worker that computes gradients: the sets of some checkpoints, each kept as a file as soon as it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import get_worker
from numpy.typing import NDArray

from storage_schema.files.slab_results import SlabFiles
from trajsvc.gradients.options import SetKind
from trajsvc.gradients.set_grams import SetGrams
from workers.tasks import Done, described, watching

if TYPE_CHECKING:
    from trajsvc.gradients.compute import GradientTask


@dataclass(frozen=True)
class GradientWorkload:
    """The description of a job that its tasks read: what is computed at each checkpoint, and where."""

    tasks: tuple[GradientTask, ...]
    device: str = "cpu"


def run_gradients(folder: str, key: str, digest: str, steps: tuple[int, ...], stop_name: str) -> Done:
    """Compute the sets at ``steps``, unless they are there, and keep each; see ``run_slabs``.

    Raises Cancelled between two examples, TryAgain (``store-not-shared``), and what computing gradients raises.
    """
    from trajsvc.gradients.compute import compute_task

    begun = time.perf_counter()
    files, stop = SlabFiles(folder, key), threading.Event()
    job: GradientWorkload = described(files, digest)
    tasks, threads = {task.step: task for task in job.tasks}, get_worker().state.nthreads
    with watching(stop_name, stop):
        for step in steps:
            if files.get(step) is None:
                files.put(step, arrays_of(compute_task(tasks[step], stop.is_set, threads=threads, device=job.device)))
    return Done(steps, time.perf_counter() - begun)


def arrays_of(found: Mapping[SetKind, SetGrams]) -> dict[str, NDArray[Any]]:
    """Turn the sets of one checkpoint into arrays, each name with its set's kind before it."""
    return {f"{kind}/{name}": values for kind, grams in found.items() for name, values in grams.arrays().items()}


def sets_of(arrays: Mapping[str, NDArray[Any]]) -> dict[Any, SetGrams]:
    """Return the sets that ``arrays_of`` made arrays of, by kind."""
    by_kind: dict[str, dict[str, NDArray[Any]]] = {}
    for name, values in arrays.items():
        kind, _, rest = name.partition("/")
        by_kind.setdefault(kind, {})[rest] = values
    return {kind: SetGrams.of_arrays(found) for kind, found in by_kind.items()}
