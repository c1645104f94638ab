"""One command: the engine beside its limits and its alternatives, in one run, as a table and a JSON file.

    python benchmarks/run.py                  30 M parameters × 64 checkpoints, float16 and float32; about 6 GB of disk
    python benchmarks/run.py --small          a few seconds, to see that it works
    python benchmarks/run.py --scaling        how the engine's time grows with T and P

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


def scaling(work: Path) -> list[dict[str, Any]]:
    out = []
    for steps in (16, 32, 64, 128):
        out.append(
            compare({**FULL, "vocab": 8192, "steps": steps}, "float16", 1e-2, work, 1, ["read", "blas", "engine"])
        )
    for hidden in (128, 256, 512):
        shape = {"hidden": hidden, "layers": 6, "vocab": 8192, "steps": 32}
        out.append(compare(shape, "float16", 1e-2, work, 1, ["read", "blas", "engine"]))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--scaling", action="store_true")
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
        results = scaling(args.work)
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
    (args.work / "results.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    print(f"\n{args.work / 'results.json'}")


if __name__ == "__main__":
    main()
