"""Reading a run from a local Hub, beside what curl and huggingface_hub reach with as many connections, as ratios.

    python benchmarks/hub.py                        64 checkpoints of 30 M parameters in float16 (3.9 GB)
    python benchmarks/hub.py --steps 154 --hidden 128 --vocab 8192
    python benchmarks/hub.py --small                a few seconds, to see that it works

The server runs in a process of its own on this machine and shares its cores; files are in the page cache. curl is given exactly the
requests that trajsvc makes, on the addresses that the Hub signed, and throws the bytes away. Every contender runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthetic import make_run

HERE = Path(__file__).resolve().parent
SERVER = HERE.parent / "tests" / "hub" / "hub_server.py"
RUN = "hf://local/run"
WINDOWS = 2**31
"""bytes of disk for windows, as by default"""
ORDER = ("curl", "curl-disk", "slabs", "windows", "files", "client", "no-copy", "copy")
ABOUT = {
    "curl": "the requests of `slabs`, one process, the bytes thrown away",
    "curl-disk": "the requests of `windows`, one process, the bytes written to disk",
    "slabs": "trajsvc: every slab of the plan into memory, nothing computed",
    "windows": "trajsvc: the same through windows on disk",
    "files": "trajsvc: whole files onto disk, as for a copy, without the proof",
    "client": "huggingface_hub: hf_hub_download of every file",
    "no-copy": "trajsvc analyze --no-copy, Grams and all",
    "copy": "trajsvc analyze, copied and proved",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocab", type=int, default=50304)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before every answer")
    parser.add_argument("--only", default="", help="contenders, with commas between them")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        print(json.dumps(contend(given.contender, given.connections, given.work)))
        return
    shape = {"hidden": 64, "layers": 4, "vocab": 4096, "steps": 24} if given.small else {
        "hidden": given.hidden, "layers": given.layers, "vocab": given.vocab, "steps": given.steps,
    }  # fmt: skip
    root = given.work / f"hub-{'-'.join(map(str, shape.values()))}"
    make_run(root / "run", dtype="float16", **shape)
    for path in root.rglob("*.safetensors"):
        path.read_bytes()
    chosen = given.only.split(",") if given.only else ORDER
    with serving(root, given.latency) as endpoint:
        results = rounds(chosen, given, endpoint)
    table(results, given)


class serving:  # noqa: N801 (a context manager)
    """The tests' Hub over ``root``, in a process of its own."""

    def __init__(self, root: Path, latency: float) -> None:
        self.root, self.latency = root, latency

    def __enter__(self) -> str:
        words = [sys.executable, str(SERVER), "--root", str(self.root), "--fault", f"latency_ms={self.latency}"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("listening on "):
                return line.split()[-1]
        raise RuntimeError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def rounds(chosen: Sequence[str], given: argparse.Namespace, endpoint: str) -> dict[str, list[dict[str, Any]]]:
    """All contenders in turn, ``repeats`` times: the machine's moods strike them alike."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for _ in range(given.repeats):
        for name in chosen:
            with tempfile.TemporaryDirectory(dir=given.work) as place:
                words = [
                    sys.executable,
                    __file__,
                    "--contender",
                    name,
                    "--work",
                    place,
                    "--connections",
                    str(given.connections),
                ]
                done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def table(results: dict[str, list[dict[str, Any]]], given: argparse.Namespace) -> None:
    medians = {n: statistics.median(r["seconds"] for r in rs) for n, rs in results.items()}
    rates = {n: rs[0]["bytes"] / medians[n] for n, rs in results.items()}
    print(f"{given.connections} connections, {given.latency:g} ms before every answer; medians of {given.repeats}\n")
    print("| contender | seconds (all) | CPU s | MB/s | ÷ curl | requests | |\n|---|---|---|---|---|---|---|")
    for name, rs in results.items():
        every = " ".join(f"{r['seconds']:.2f}" for r in rs)
        ratio = f"{rates[name] / rates['curl']:.2f}" if "curl" in rates else ""
        cpu = statistics.median(r["cpu"] for r in rs)
        head = f"| {name} | {medians[name]:.2f} ({every}) | {cpu:.2f} | {rates[name] / 1e6:.0f} | {ratio}"
        print(f"{head} | {rs[0]['requests']:,} | {ABOUT[name]} |")


def contend(name: str, connections: int, place: Path) -> dict[str, Any]:
    """One contender's seconds, bytes and requests (of file contents). Imports, listings and headers are outside the clock."""
    from trajsvc.analysis.options import Options
    from trajsvc.analysis.selected import plan_of
    from trajsvc.sources.resolve import open_named
    from trajsvc.trajectory.opening import open_trajectory

    source = open_named(RUN, place, connections=connections)
    trajectory = open_trajectory(source)
    plan = plan_of(trajectory, Options())
    work = {
        "curl": curl,
        "curl-disk": curl_disk,
        "slabs": slabs,
        "windows": windows,
        "files": files,
        "client": client,
        "no-copy": analysis,
        "copy": analysis,
    }[name]
    before = _served()
    begun, cpu = time.perf_counter(), _cpu()
    took = work(trajectory, plan, place, connections, name == "copy")
    took = time.perf_counter() - begun if took is None else took
    cpu = _cpu() - cpu
    after = _served()
    return {"seconds": took, "cpu": cpu, "bytes": after[1] - before[1], "requests": after[0] - before[0]}


def _cpu() -> float:
    """Seconds of processors that this process and those it waited for have had."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def _served() -> tuple[int, int]:
    with urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/_stats") as answer:
        stats = json.load(answer)
    paths = [p for path, p in stats["paths"].items() if path.startswith("/_cdn")]
    return sum(p["requests"] for p in paths), sum(p["bytes"] for p in paths)


def _requests(trajectory: Any, plan: Any) -> list[tuple[str, int, int]]:
    from trajsvc.trajectory.remote import Gaps
    from trajsvc.trajectory.windows import lay_out

    gap = Gaps(trajectory)
    return [r[:3] for slab in plan.slabs for r in lay_out(trajectory.rows, [slab], gap).requests()]


def curl(trajectory: Any, plan: Any, place: Path, connections: int, _: bool) -> float:
    return fetch_with_curl(trajectory, [(r, "/dev/null") for r in _requests(trajectory, plan)], place, connections)


def curl_disk(trajectory: Any, plan: Any, place: Path, connections: int, _: bool) -> float:
    from trajsvc.trajectory.remote import Gaps
    from trajsvc.trajectory.windows import cut_windows, lay_out

    gap = Gaps(trajectory)
    requests = [r[:3] for w in cut_windows(plan, WINDOWS) for r in lay_out(trajectory.rows, w.slabs, gap).requests()]
    return fetch_with_curl(trajectory, [(r, str(place / str(i))) for i, r in enumerate(requests)], place, connections)


def fetch_with_curl(
    trajectory: Any, requests: Sequence[tuple[tuple[str, int, int], str]], place: Path, connections: int
) -> float:
    """One curl for all requests, side by side; the addresses are resolved before the clock starts."""
    source = trajectory.source
    addresses: dict[str, str] = {}
    words = []
    for (file, lo, hi), output in requests:
        if file not in addresses:
            addresses[file] = signed(source, file)
        words.append(f'url = "{addresses[file]}"\nrange = {lo}-{hi - 1}\noutput = {output}\n')
    config = place / "curl.txt"
    config.write_text("next\n".join(words))
    begun = time.perf_counter()
    subprocess.run(
        ["curl", "--silent", "--fail", "--parallel", "--parallel-max", str(connections), "--config", str(config)],
        check=True,
    )
    return time.perf_counter() - begun


def signed(source: Any, file: str) -> str:
    """Where the Hub's site sends a reader of ``file``."""
    remote = source._files[file][0]
    url = f"{os.environ['HF_ENDPOINT']}/{remote.repo}/resolve/{remote.commit}/{remote.path}"

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    try:
        urllib.request.build_opener(Stay).open(url)
    except urllib.error.HTTPError as redirect:
        return str(redirect.headers["Location"])
    raise RuntimeError("no redirect")


def slabs(trajectory: Any, plan: Any, place: Path, connections: int, _: bool) -> None:
    from trajsvc.trajectory.remote import RemoteTheta

    load_all(RemoteTheta(trajectory), plan)


def windows(trajectory: Any, plan: Any, place: Path, connections: int, _: bool) -> None:
    from trajsvc.sources.base import Cache
    from trajsvc.trajectory.prefetch import ReadAhead

    ahead = ReadAhead(trajectory, trajectory.source, plan, Cache(place / "windows" / "x", WINDOWS), apart=False)
    ahead.prepare(plan.slabs)
    load_all(ahead, plan)
    ahead.clear()


def load_all(theta: Any, plan: Any) -> None:
    """Every slab's bytes, as the engine's workers load them: one thread more than computes."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from trajsvc.gram.kernels.base import raw_rows, raw_size
    from trajsvc.gram.slab_worker import Part

    local = threading.local()

    def load(slab: Any) -> None:
        sizes = [raw_size(theta.dtypes(s.column), s.size) for s in slab.segments]
        if getattr(local, "size", -1) < sum(sizes):
            local.buffer, local.size = np.empty(sum(sizes), np.uint8), sum(sizes)
        parts, at = [], 0
        for segment, size in zip(slab.segments, sizes, strict=True):
            for group in raw_rows(local.buffer[at : at + size], theta.dtypes(segment.column), segment.size):
                parts += [
                    Part(segment.column, r, segment.lo, segment.hi, memoryview(o))
                    for r, o in enumerate(group.raw, start=group.first)
                ]
            at += size // 64 * 64
        theta.load(slab, parts, lambda: False)

    with ThreadPoolExecutor(plan.threads + 1) as pool:
        list(pool.map(load, plan.slabs))


def files(trajectory: Any, plan: Any, place: Path, connections: int, _: bool) -> None:
    from trajsvc.sources.ranges import MergedRange
    from trajsvc.trajectory.download import contents
    from trajsvc.trajectory.spool import Spool, SpoolRequest, fetch_into

    wanted = []
    for i, content in enumerate(contents(trajectory, trajectory.source)):
        requests = [
            SpoolRequest(content.file, lo, hi, lo)
            for lo, hi in MergedRange(content.file, 0, content.size, ()).requests()
        ]
        wanted.append((Spool(place / "files" / str(i), content.size), requests))
    fetch_into(trajectory.source, wanted)


def client(trajectory: Any, plan: Any, place: Path, connections: int, _: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from huggingface_hub import hf_hub_download

    def one(row: Any) -> None:
        hf_hub_download(
            "local/run",
            "model.safetensors",
            revision=row.label,
            cache_dir=place / "hf",
            endpoint=os.environ["HF_ENDPOINT"],
        )

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(one, trajectory.rows))


def analysis(trajectory: Any, plan: Any, place: Path, connections: int, copy: bool) -> None:
    from trajsvc.analysis.job import AnalysisJob
    from trajsvc.analysis.options import Options
    from trajsvc.analysis.pipeline import run_analysis
    from trajsvc.gram.thread_pool import ThreadPool

    options = Options(copy=copy)
    run_analysis(AnalysisJob(trajectory.source, place, "run", options, ThreadPool(options.threads)))


if __name__ == "__main__":
    main()
