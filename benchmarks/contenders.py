"""What is compared, each run in a process of its own: the engine, the limits it is held to, and what people write instead.

Every contender returns seconds, and where it computes maps the network's map and the angles between successive updates, so that
their errors can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Result = dict[str, Any]


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step*"), key=lambda p: int(p.name.removeprefix("step")))


def engine(folder: Path, work: Path, **options: Any) -> Result:
    """trajsvc itself: every layer, component, tensor and Q/K/V part; the time from opening the folder to the committed run."""
    import torch  # noqa: F401  (imported before the clock starts, as for the others)
    import zarr  # noqa: F401

    from trajsvc.analysis.job import AnalysisJob
    from trajsvc.analysis.options import Options
    from trajsvc.analysis.pipeline import run_analysis
    from trajsvc.gram.thread_pool import ThreadPool
    from trajsvc.sources.resolve import open_source

    store = work / "store"
    if not options.pop("keep", False):
        shutil.rmtree(store, ignore_errors=True)
    begun = time.perf_counter()
    source = open_source(folder)
    threads = os.cpu_count() or 1
    outcome = run_analysis(
        AnalysisJob(source, store, "bench", Options(threads=threads, **options), ThreadPool(threads))
    )
    seconds = time.perf_counter() - begun
    import trajsvc

    run = trajsvc.open(store, "bench")
    return {
        "seconds": seconds,
        "action": outcome.action,
        "map": run.trajectory_map().values,
        "angles": run.update_angle().values,
    }


def engine32(folder: Path, work: Path) -> Result:
    """trajsvc with products in float32."""
    return engine(folder, work, precision="float32")


def append(folder: Path, work: Path) -> Result:
    """trajsvc, the last checkpoint added to a stored run of the others."""
    last = checkpoints(folder)[-1]
    hidden = folder.parent / f"{folder.name}.{last.name}"
    last.rename(hidden)
    try:
        engine(folder, work)
    finally:
        hidden.rename(last)
    return engine(folder, work, keep=True)


def preview(folder: Path, work: Path) -> Result:
    """trajsvc, stopped at the estimate from 1 % of the bytes."""
    return engine(folder, work, preview=0.01)


def read(folder: Path, work: Path) -> Result:
    """Read the same bytes, with as many threads as cores, into a buffer that is used again."""

    def one(path: Path) -> None:
        buffer = memoryview(bytearray(2**20))
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    files = [p / "model.safetensors" for p in checkpoints(folder)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, files))
    return {"seconds": time.perf_counter() - begun}


def blas(folder: Path, work: Path) -> Result:
    """``D @ D.T`` alone, D resident in memory as float32: (T, P) update basis, numpy's BLAS with all its threads."""
    stack = stacked(folder)
    stack[1:] = np.diff(stack, axis=0)
    begun = time.perf_counter()
    stack @ stack.T
    return {"seconds": time.perf_counter() - begun}


def stacked(folder: Path) -> np.ndarray:
    """(T, P) float32."""
    from safetensors.torch import load_file

    rows = []
    for path in checkpoints(folder):
        state = load_file(path / "model.safetensors")
        rows.append(np.concatenate([state[n].float().numpy().reshape(-1) for n in sorted(state)]))
        del state
    return np.stack(rows)


def notebook(folder: Path, work: Path) -> Result:
    """Run the usual script: load state dicts, then for the network and every layer flatten, stack, normalise, multiply;
    compute the map and the angles of updates.
    """
    import torch
    from safetensors.torch import load_file

    begun = time.perf_counter()
    states = [load_file(p / "model.safetensors") for p in checkpoints(folder)]
    names = sorted(states[0])
    groups = {"network": names}
    for name in names:
        if ".layers." in name:
            groups.setdefault(".".join(name.split(".")[:3]), []).append(name)
    found = {}
    for group, members in groups.items():
        theta = torch.stack([torch.cat([s[n].float().flatten() for n in members]) for s in states])
        unit = torch.nn.functional.normalize(theta, dim=1)
        cosines = unit @ unit.T
        del unit
        updates = torch.nn.functional.normalize(theta[1:] - theta[:-1], dim=1)
        angles = torch.rad2deg(torch.arccos((updates[1:] * updates[:-1]).sum(1).clamp(-1, 1)))
        found[group] = (cosines.numpy(), angles.numpy())
        del theta, updates
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "map": found["network"][0], "angles": found["network"][1]}


def sklearn(folder: Path, work: Path) -> Result:
    """scikit-learn's ``cosine_similarity`` of the resident float32 matrix: the network's map only; angles from its cosines and norms."""
    from sklearn.metrics.pairwise import cosine_similarity

    stack = stacked(folder)
    begun = time.perf_counter()
    cosines = cosine_similarity(stack)
    seconds = time.perf_counter() - begun
    norm = np.linalg.norm(stack, axis=1)
    return {"seconds": seconds, "map": cosines, "angles": angles_of(cosines * np.outer(norm, norm))}


def dask(folder: Path, work: Path) -> Result:
    """dask.array ``X @ X.T`` over column chunks of the resident float32 matrix; map and angles from that Gram."""
    import dask.array as da

    stack = stacked(folder)
    begun = time.perf_counter()
    lazy = da.from_array(stack, chunks=(-1, 2**20))
    gram = (lazy @ lazy.T).compute()
    seconds = time.perf_counter() - begun
    norm = np.sqrt(np.diag(gram))
    return {"seconds": seconds, "map": gram / np.outer(norm, norm), "angles": angles_of(gram)}


def oracle(folder: Path, work: Path) -> Result:
    """Everything in float64: the update basis, its Gram, the map and the angles."""
    from safetensors.torch import load_file

    paths = checkpoints(folder)
    gram = np.zeros((len(paths), len(paths)))
    begun = time.perf_counter()
    for name in sorted(load_file(paths[0] / "model.safetensors")):
        from safetensors import safe_open

        rows = []
        for path in paths:
            with safe_open(path / "model.safetensors", "pt") as file:
                rows.append(file.get_tensor(name).double().numpy().reshape(-1))
        for lo in range(0, len(rows[0]), 2**18):
            theta = np.stack([r[lo : lo + 2**18] for r in rows])
            theta[1:] = np.diff(theta, axis=0)
            gram += theta @ theta.T
    sums = np.tril(np.ones_like(gram))
    points = sums @ gram @ sums.T
    norm = np.sqrt(np.diag(points))
    updates = np.sqrt(np.diag(gram))[1:]
    cosines = np.diag(gram[1:, 1:], 1) / (updates[1:] * updates[:-1])
    return {
        "seconds": time.perf_counter() - begun,
        "map": points / np.outer(norm, norm),
        "angles": np.degrees(np.arccos(cosines)),
    }


def angles_of(gram: np.ndarray) -> np.ndarray:
    """Angles of successive updates from inner products of the points: where cancellation bites."""
    gram = gram.astype(np.float64)
    step = np.eye(len(gram))[1:] - np.eye(len(gram))[:-1]
    updates = step @ gram @ step.T
    with np.errstate(invalid="ignore", divide="ignore"):
        norm = np.sqrt(np.diag(updates))
        return np.degrees(np.arccos(np.clip(np.diag(updates, 1) / (norm[1:] * norm[:-1]), -1, 1)))


CONTENDERS: dict[str, Callable[..., Result]] = {
    f.__name__: f for f in (engine, engine32, append, preview, read, blas, notebook, sklearn, dask, oracle)
}


class PeakMemory:
    """Largest anonymous memory of this process above what it had at the start, sampled every 5 ms."""

    def __enter__(self) -> PeakMemory:
        self.before = self.peak = anonymous()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, anonymous())

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


def anonymous() -> int:
    """Anonymous resident bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=list(CONTENDERS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    import torch  # noqa: F401  (part of every contender's interpreter, not of its memory)

    with PeakMemory() as memory:
        result = CONTENDERS[args.contender](args.folder, args.work)
    result["peak"] = memory.peak - memory.before
    arrays = {k: v for k, v in result.items() if isinstance(v, np.ndarray)}
    np.savez(args.work / f"{args.contender}.npz", **arrays)
    print(json.dumps({k: v for k, v in result.items() if k not in arrays}))
