"""One command: the engine beside its limits and its alternatives, in one run, as a table and a JSON file.

    python benchmarks/run.py                  30 M parameters × 64 checkpoints, float16 and float32; about 6 GB of disk
    python benchmarks/run.py --small          a few seconds, to see that it works
    python benchmarks/run.py --kernels        BLAS, the engine, the engine in float32 and an append, at three T and in three types
    python benchmarks/run.py --scaling        how the engine's time grows with T (to 512) and P (to 300 M), with fitted exponents

Every contender runs in its own process; times are of the work, without imports; files are in the page cache (read once before).
The script that people write holds everything several times over: it is compared at half the checkpoints, which fit into 24 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import make_run

HERE = Path(__file__).resolve().parent
ORDER = ("read", "blas", "engine", "append", "preview", "sklearn", "dask")
KERNELS = ("blas", "engine", "engine32", "append")
KERNEL_STEPS = (20, 64, 154)
KERNEL_TYPES = ("float16", "bfloat16", "float32")
LONGEST, LARGEST = (16, 32, 64, 128, 256, 512), (128, 256, 512, 1024, 2048)
"""checkpoints, and hidden sizes: the last one has 302 M parameters in six layers"""
SCRIPT = ("engine", "notebook")
FULL = {"hidden": 256, "layers": 6, "vocab": 50304, "steps": 64}
SMALL = {"hidden": 64, "layers": 4, "vocab": 4096, "steps": 24}


def measure(contender: str, folder: Path, work: Path, repeats: int) -> dict[str, Any]:
    """Median time over ``repeats`` processes, largest memory, the arrays of the last."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, str(HERE / "contenders.py"), contender, str(folder), str(work)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or [
                "killed, for want of memory" if done.returncode < 0 else ""
            ]
            return {"contender": contender, "failed": said[0]}
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = sorted(r["seconds"] for r in runs)
    return {
        "contender": contender,
        "seconds": seconds[len(seconds) // 2],
        "all_seconds": seconds,
        "peak_mib": max(r["peak"] for r in runs) / 2**20,
    }


def errors(contender: str, work: Path) -> dict[str, float]:
    """Largest absolute errors against float64: of a cosine of the map, of an angle between updates in degrees."""
    mine, truth = np.load(work / f"{contender}.npz"), np.load(work / "oracle.npz")
    out = {}
    for name in ("map", "angles"):
        if name in mine:
            wrong = np.abs(mine[name].astype(np.float64) - truth[name])
            out[f"{name}_error"] = float(np.nanmax(wrong)) if np.isfinite(wrong).any() else float("nan")
    return out


def compare(
    shape: dict[str, int], dtype: str, update: float, work: Path, repeats: int, only: list[str]
) -> dict[str, Any]:
    folder = work / f"run-{dtype}-{shape['hidden']}x{shape['layers']}-T{shape['steps']}-{update:g}"
    parameters = make_run(folder, dtype=dtype, update=update, **shape)
    measure("oracle", folder, work, 1)
    rows = []
    for contender in only or ORDER:
        measure("read", folder, work, 1)
        row = measure(contender, folder, work, 1 if contender in ("notebook", "sklearn", "dask") else repeats)
        rows.append(row | ({} if "failed" in row else errors(contender, work)))
    return {"dtype": dtype, "update": update, "parameters": parameters, "checkpoints": shape["steps"], "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Markdown, ratios against the engine and against the bar of the design."""
    rows = {r["contender"]: r for r in result["rows"]}
    engine = rows.get("engine", {}).get("seconds")
    lines = [
        f"\n{result['dtype']}, {result['parameters']:,} parameters × {result['checkpoints']} checkpoints, "
        f"updates {result['update']:g} of the values\n",
        "| contender | seconds | × engine | peak MiB | error of a cosine | error of an update's angle (°) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"| {name} | failed: {row['failed']} | | | | |")
            continue
        ratio = f"{row['seconds'] / engine:.2f}" if engine else ""
        cosine, angle = (f"{row[k]:.1e}" if k in row else "" for k in ("map_error", "angles_error"))
        lines.append(f"| {name} | {row['seconds']:.2f} | {ratio} | {row['peak_mib']:.0f} | {cosine} | {angle} |")
    if engine and "read" in rows and "blas" in rows:
        bar = max(rows["read"]["seconds"], rows["blas"]["seconds"])
        lines.append(f"\nengine / max(read, D @ D.T) = {engine / bar:.2f}")
    return "\n".join(lines)


def scaling(work: Path, *, small: bool) -> list[dict[str, Any]]:
    """Measure the engine and its limits at growing T, then at growing P."""
    shape = {**(SMALL if small else FULL), "vocab": 8192}
    contenders = ["read", "blas", "engine"]
    steps = LONGEST[:3] if small else LONGEST
    hidden = (32, 64, 128) if small else LARGEST
    out = [compare({**shape, "steps": t}, "float16", 1e-2, work, 1, contenders) for t in steps]
    return out + [compare({**shape, "hidden": h, "steps": 32}, "float16", 1e-2, work, 1, contenders) for h in hidden]


def exponents(results: list[dict[str, Any]]) -> str:
    """Slopes of log seconds against log T at one P, and against log P at one T, by least squares."""
    lines = []
    sizes = {r["parameters"] for r in results}
    for what, fixed in (("checkpoints", "parameters"), ("parameters", "checkpoints")):
        for value in sorted(sizes if fixed == "parameters" else {r["checkpoints"] for r in results}):
            chosen = [r for r in results if r[fixed] == value]
            if len({r[what] for r in chosen}) < 3:
                continue
            for name in ("read", "blas", "engine"):
                points = [(r[what], row["seconds"]) for r in chosen for row in r["rows"]
                          if row["contender"] == name and "seconds" in row]  # fmt: skip
                if len(points) > 2:
                    slope = np.polyfit(*np.log(np.array(points, dtype=np.float64)).T, 1)[0]
                    lines.append(f"{name}: seconds grow with {what} to the power {slope:.2f} ({fixed} {value:,})")
    return "\n".join(lines)


def kernels(work: Path, repeats: int, *, small: bool) -> list[dict[str, Any]]:
    """Every type at every T; ``blas`` is on resident float32 whatever the type."""
    shape = {**(SMALL if small else FULL), "vocab": 8192}
    steps = KERNEL_STEPS[:1] if small else KERNEL_STEPS
    return [
        compare({**shape, "steps": t}, dtype, 1e-2, work, repeats, list(KERNELS))
        for t in steps
        for dtype in KERNEL_TYPES
    ]


def kernel_table(results: list[dict[str, Any]]) -> str:
    """One line for a T and a type: seconds, and ratios to ``D @ D.T`` alone; the append to the engine."""
    lines = [
        f"\n{results[0]['parameters']:,} parameters\n",
        "| checkpoints | type | D @ D.T, s | engine, s | ratio | float32 engine, s | ratio | append, s | of the engine | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        rows = {r["contender"]: r for r in result["rows"]}
        took = {name: rows[name].get("seconds", float("nan")) for name in KERNELS}
        lines.append(
            f"| {result['checkpoints']} | {result['dtype']} | {took['blas']:.2f} | {took['engine']:.2f} "
            f"| {took['engine'] / took['blas']:.2f} | {took['engine32']:.2f} | {took['engine32'] / took['blas']:.2f} "
            f"| {took['append']:.2f} | {took['append'] / took['engine']:.2f} | {rows['engine'].get('peak_mib', 0):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="contenders, separated by commas")
    parser.add_argument("--dtypes", default="float16,float32")
    parser.add_argument("--update", type=float, default=1e-2)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    only = [c for c in args.only.split(",") if c]
    shape = SMALL if args.small else FULL
    if args.scaling:
        results = scaling(args.work, small=args.small)
    elif args.kernels:
        results = kernels(args.work, args.repeats, small=args.small)
    else:
        results = []
        for dtype in args.dtypes.split(","):
            results.append(compare(shape, dtype, args.update, args.work, args.repeats, only))
            if not only:
                half = {**shape, "steps": shape["steps"] // 2}
                results.append(compare(half, dtype, args.update, args.work, args.repeats, list(SCRIPT)))
    machine = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine(), "numpy": np.__version__}
    for result in results:
        print(table(result))
    if args.kernels:
        print(kernel_table(results))
    if args.scaling:
        print(exponents(results))
    (args.work / "results.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    print(f"\n{args.work / 'results.json'}")


if __name__ == "__main__":
    main()
