"""Two runs against each other, and averages, beside the usual scripts: time, memory, agreement; every contender in a process of its own.

    python benchmarks/cross.py                          # 24 checkpoints of two runs of a small network; seconds
    python benchmarks/cross.py --hidden 256 --steps 64

The notebook loads both runs, stacks displacements in float32, normalises and multiplies, for the network and for each tensor. The plain
merge loads K checkpoints and averages each tensor, as a linear merge does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import make_run

LAST = 5


def states(folder: Path) -> list[dict[str, Any]]:
    from safetensors.torch import load_file

    files = sorted(folder.glob("step*/model.safetensors"), key=lambda p: int(p.parent.name.removeprefix("step")))
    return [load_file(file) for file in files]


def engine(a: Path, b: Path, work: Path) -> np.ndarray:
    """Every block, kept in the store; both runs were analysed before."""
    import trajsvc

    return np.asarray(trajsvc.cross("a", "b", store=work / "store").map())


def notebook(a: Path, b: Path, work: Path) -> np.ndarray:
    runs = [states(folder) for folder in (a, b)]
    found = None
    for names in (list(runs[0][0]), *([n] for n in runs[0][0])):
        flat = [np.stack([np.concatenate([s[n].float().numpy().ravel() for n in names]) for s in run]) for run in runs]
        moved = [f - f[0] for f in flat]
        with np.errstate(invalid="ignore"):
            unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in moved]
        cosines = unit[0] @ unit[1].T
        found = cosines if found is None else found
    assert found is not None
    return found


def oracle(a: Path, b: Path, work: Path) -> np.ndarray:
    one, two = (
        np.stack([np.concatenate([s[n].double().numpy().ravel() for n in s]) for s in states(f)]) for f in (a, b)
    )
    one, two = one - one[0], two - two[0]
    with np.errstate(invalid="ignore"):
        return (one @ two.T) / np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1))


def average(a: Path, b: Path, work: Path) -> np.ndarray:
    """One streamed pass; the run was analysed before."""
    import shutil

    import trajsvc

    shutil.rmtree(work / "average", ignore_errors=True)
    trajsvc.average("a", work / "average", last=LAST, store=work / "store")
    return np.zeros(1)


def merge(a: Path, b: Path, work: Path) -> np.ndarray:
    import torch
    from safetensors.torch import save_file

    last = states(a)[-LAST:]
    mean = {n: torch.stack([s[n].float() for s in last]).mean(0).to(last[-1][n].dtype) for n in last[-1]}
    save_file(mean, work / "merged.safetensors")
    return np.zeros(1)


CONTENDERS: dict[str, Callable[[Path, Path, Path], np.ndarray]] = {
    "engine": engine, "notebook": notebook, "oracle": oracle, "average": average, "merge": merge,
}  # fmt: skip


def one(name: str, work: Path) -> None:
    """Run a contender here and print what it took."""
    import torch  # noqa: F401  (imported before the clock starts)

    import trajsvc.analysis.cross_runs  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    found = CONTENDERS[name](work / "a", work / "b", work)
    seconds = time.perf_counter() - begun
    np.save(work / f"{name}.npy", found)
    print(json.dumps({"seconds": seconds, "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}))


def main() -> None:
    """Make the runs, run every contender, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/cross"))
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--only", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        one(given.only, given.work)
        return
    import shutil

    import trajsvc

    shutil.rmtree(given.work, ignore_errors=True)
    for seed, name in enumerate("ab"):
        make_run(
            given.work / name, hidden=given.hidden, layers=4, vocab=4096, steps=given.steps, dtype="float16", seed=seed
        )
        trajsvc.analyze(given.work / name, store=given.work / "store")
    took = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, "--only", name, "--work", str(given.work)]
        took[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    exact = np.load(given.work / "oracle.npy")
    print(f"{'contender':<10} {'seconds':>8} {'MiB':>7}  error of a cosine")
    for name, facts in took.items():
        error = (
            f"{np.nanmax(np.abs(np.load(given.work / f'{name}.npy') - exact)):.1e}"
            if name in ("engine", "notebook")
            else ""
        )
        print(f"{name:<10} {facts['seconds']:8.2f} {facts['mib']:7.0f}  {error}")


if __name__ == "__main__":
    main()
