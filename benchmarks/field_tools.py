"""The field's tools beside trajsvc's commands, each as a user runs it: seconds, processor's seconds, largest memory, agreement.

    python benchmarks/field_tools.py                     # 0.7 million parameters, 24 checkpoints; a minute
    python benchmarks/field_tools.py --hidden 256 --layers 6 --steps 64

- two checkpoints: ``modeldelta A B`` beside ``trajsvc analyze`` and ``trajsvc spectra compute --of updates`` of a folder that has both;
- a whole run: nngeom's Trajectory, which holds all points in memory, and scikit-learn's PCA of them, beside ``trajsvc analyze``;
- an average of checkpoints: mergekit's linear merge beside ``trajsvc average``.

The tools are not among the project's own requirements; one that is not installed is left out by name:

    pip install modeldelta nngeom mergekit scikit-learn

Times include the start of each program. Spectra of one model beside WeightWatcher's are in spectra.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import make_run

LAST = 5
NNGEOM = """
import json, sys
from pathlib import Path
from nngeom.trajectories import Trajectory
from contenders import checkpoints
from safetensors.numpy import load_file
import numpy as np
rows = []
for path in checkpoints(Path(sys.argv[1])):
    state = load_file(path / "model.safetensors")
    rows.append(np.concatenate([state[n].ravel() for n in sorted(state)]))
path = Trajectory.from_vectors(rows)
found = {"norm": path.norm_growth(), "update_norm": path.step_norms(), "cosine": path.step_cosines()}
json.dump({name: list(map(float, values)) for name, values in found.items()}, open(sys.argv[2], "w"))
"""
PCA = """
import json, sys
from pathlib import Path
from sklearn.decomposition import PCA
from contenders import stacked
found = PCA(2).fit(stacked(Path(sys.argv[1])))
json.dump({"explained": found.explained_variance_ratio_.tolist()}, open(sys.argv[2], "w"))
"""
MERGE = "merge_method: linear\ndtype: float16\nmodels:\n"


@dataclass(frozen=True)
class Cost:
    """What commands took together; the memory is the largest of one process."""

    seconds: float
    processor: float
    mib: float


def run(*commands: list[str]) -> Cost:
    """Run commands one after the other. Raises SystemExit with its last words if one fails."""
    seconds = processor = mib = 0.0
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))),
    }
    for command in commands:
        begun, before = time.perf_counter(), os.times()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
            while process.poll() is None:
                mib = max(mib, peak(process.pid))
                time.sleep(0.02)
            said.seek(0)
            if process.returncode:
                raise SystemExit(f"{' '.join(command)[:200]}\n{said.read().decode(errors='replace')[-2000:]}")
        seconds += time.perf_counter() - begun
        after = os.times()
        processor += after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(seconds, processor, mib)


def peak(pid: int) -> float:
    """Return the largest resident memory of a process so far in MiB (Linux); 0 once it has ended.

    What ``wait4`` tells begins with the memory of the process that started it.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def ours(store: Path, *words: str) -> list[str]:
    """Return a command of trajsvc on the store."""
    return [sys.executable, "-m", "trajsvc", *words, "--store", str(store), "-q"]


def apart(one: Any, other: Any) -> str:
    """Return the largest difference of two arrays, relative to the largest value."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return f"{np.abs(a - b).max() / np.abs(b).max():.0e}"


def pair(run_folder: Path, work: Path) -> list[tuple[str, Cost, str]]:
    """Compare on two checkpoints: norms of the change and singular values of every matrix."""
    import trajsvc

    both, store = work / "both", work / "pair-store"
    both.mkdir()
    ends = [run_folder / "step0", run_folder / "step1000"]
    for folder in ends:
        shutil.copytree(folder, both / folder.name)
    cost = run(
        ours(store, "analyze", str(both), "--name", "pair", "--no-figures"),
        ours(store, "spectra", "compute", "pair", "--of", "updates"),
    )
    report = work / "modeldelta.json"
    other = run([sys.executable, "-m", "modeldelta", str(ends[0].resolve()), str(ends[1].resolve()), "-o", str(report)])
    modules = {m["name"]: m for m in json.loads(report.read_text())["modules"] if m["has_svd"]}
    layers = trajsvc.open(store, "pair").spectrum_answers().layers("updates", ["sigma_1", "effective_rank"]).matrices
    mine = {row.name: [row.measures[k][-1] for k in ("sigma_1", "effective_rank")] for row in layers}
    common = sorted(set(mine) & set(modules))
    sigma = apart([modules[n]["top_singular_values"][0] for n in common], [mine[n][0] for n in common])
    return [
        ("trajsvc analyze, spectra", cost, f"{len(mine)} matrices"),
        ("modeldelta", other, f"σ₁ of {len(common)} matrices by {sigma}"),
    ]


def whole(run_folder: Path, work: Path) -> list[tuple[str, Cost, str]]:
    """Compare on a run: norms, distances and angles, and the first principal components."""
    import trajsvc

    store = work / "run-store"
    out = [
        ("trajsvc analyze", run(ours(store, "analyze", str(run_folder), "--name", "run", "--no-figures")), "all layers")
    ]
    mine = trajsvc.open(store, "run")
    if installed("nngeom"):
        cost = run([sys.executable, "-c", NNGEOM, str(run_folder), str(work / "nngeom.json")])
        found = json.loads((work / "nngeom.json").read_text())
        cosines = np.cos(np.radians(mine.update_angle().values))
        off = [
            apart(found["norm"], mine.norm().values),
            apart(found["update_norm"], mine.update_norm().values),
            apart(found["cosine"], cosines),
        ]
        out.append(("nngeom, in memory", cost, f"norms by {off[0]}, updates' norms by {off[1]}, cosines by {off[2]}"))
    if installed("sklearn"):
        cost = run([sys.executable, "-c", PCA, str(run_folder), str(work / "pca.json")])
        explained = json.loads((work / "pca.json").read_text())["explained"]
        ratio = [float(v) for v in mine.explained_variance().values[:2]]
        out.append(("scikit-learn's PCA, in memory", cost, f"shares of variance by {apart(explained, ratio)}"))
    return out


def average(run_folder: Path, work: Path) -> list[tuple[str, Cost, str]]:
    """Compare on the mean of the last checkpoints, written as a checkpoint."""
    from contenders import checkpoints
    from safetensors.numpy import load_file

    store, mine, merged = work / "run-store", work / "average", work / "merged"
    out = [("trajsvc average", run(ours(store, "average", "run", "--last", str(LAST), "-o", str(mine))), "")]
    if installed("mergekit"):
        recipe = work / "merge.yaml"
        models = "".join(
            f"  - model: {p.resolve() / 'model.safetensors'}\n    parameters: {{weight: 1.0}}\n"
            for p in checkpoints(run_folder)[-LAST:]
        )
        recipe.write_text(MERGE + models)
        cost = run([str(Path(sys.executable).with_name("mergekit-pytorch")), str(recipe), str(merged)])
        a, b = load_file(next(merged.rglob("*.safetensors"))), load_file(mine / "model.safetensors")
        exact = [load_file(p / "model.safetensors") for p in checkpoints(run_folder)[-LAST:]]
        equal = [
            sum(
                int((state[n] == np.mean([e[n].astype(np.float64) for e in exact], 0).astype(np.float16)).sum())
                for n in b
            )
            for state in (b, a)
        ]
        count = sum(v.size for v in b.values())
        out[0] = (*out[0][:2], f"equal to the rounded float64 mean: {equal[0] / count:.2%}")
        out.append(("mergekit, linear", cost, f"equal to it: {equal[1] / count:.2%}"))
    return out


def installed(module: str) -> bool:
    found = importlib.util.find_spec(module) is not None
    if not found:
        sys.stderr.write(f"{module} is not installed and left out: pip install {module}\n")
    return found


TASKS: dict[str, tuple[str, Callable[[Path, Path], list[tuple[str, Cost, str]]]]] = {
    "two checkpoints": ("modeldelta", pair), "a run": ("", whole), f"the mean of {LAST} checkpoints": ("", average),
}  # fmt: skip


def main() -> None:
    """Make the run, do each task with each tool, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work" / "field-tools")
    for name, value in (("hidden", 64), ("layers", 4), ("vocab", 4096), ("steps", 24)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = vars(parser.parse_args())
    work: Path = given.pop("work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    parameters = make_run(work / "run", dtype="float16", **given)
    print(f"{parameters:,} parameters, {given['steps']} checkpoints, float16\n")
    print("| task | tool | s | of the processor | peak MiB | agreement |\n|---|---|---|---|---|---|")
    for task, (needed, measure) in TASKS.items():
        if needed and not installed(needed):
            continue
        for tool, cost, agreement in measure(work / "run", work):
            print(
                f"| {task} | {tool} | {cost.seconds:.1f} | {cost.processor:.1f} | {cost.mib:.0f} | {agreement} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
