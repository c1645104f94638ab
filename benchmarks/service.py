"""The service under measure: slabs on dask beside the local pool, and what readers and submitters feel while a job runs.

    python benchmarks/service.py dask                 the same run on two threads and on two dask workers, in turn
    python benchmarks/service.py load                 readers, submitters and slow sockets beside a heavy job
    python benchmarks/service.py soak --minutes 10    memory and descriptors of the API under a steady load

Everything runs on this machine and shares its cores, the clients too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from synthetic import make_run

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "service"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dask", "load", "soak"))
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between requests of the soak")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs in the database beside the heavy one")
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--submitters", type=int, default=100)
    parser.add_argument("--work", type=Path, default=HERE / "work")
    given = parser.parse_args()
    {"dask": dask, "load": load, "soak": soak}[given.what](given)


def run_folder(given: argparse.Namespace) -> Path:
    folder = Path(given.work) / f"service-{given.hidden}-{given.steps}"
    make_run(folder, hidden=given.hidden, layers=6, vocab=50304, steps=given.steps, dtype="float16")
    return folder


def dask(given: argparse.Namespace) -> None:
    from trajsvc.analysis.job import AnalysisJob
    from trajsvc.analysis.options import Options
    from trajsvc.analysis.pipeline import run_analysis
    from trajsvc.gram.thread_pool import ThreadPool
    from trajsvc.sources.resolve import open_named
    from workers.cluster import Cluster
    from workers.dask_pool import DaskPool

    folder = run_folder(given)
    cluster = Cluster(workers=2)
    while cluster.count() < 2:
        time.sleep(0.1)
    pools: dict[str, Callable[[], object]] = {
        "local, 2 threads": lambda: ThreadPool(2),
        "dask, 2 workers": lambda: DaskPool(cluster, threads=2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in pools}
    digests = set()
    for _ in range(given.repeats + 1):
        for name, pool in pools.items():
            with tempfile.TemporaryDirectory() as store:
                source = open_named(str(folder))
                begun = time.perf_counter()
                outcome = run_analysis(AnalysisJob(source, Path(store), "run", Options(threads=2), pool()))  # type: ignore[arg-type]
                seconds[name].append(time.perf_counter() - begun)
                source.close()
                from trajsvc.results.run import open as open_run

                digests.add(open_run(outcome.store, "run").stored.block_grams().tobytes())
    cluster.close()
    assert len(digests) == 1, "the same bits on both"
    first = statistics.median(seconds["local, 2 threads"][1:])
    print("| pool | seconds (all) | local ÷ this |\n|---|---|---|")
    for name, times in seconds.items():
        middle = statistics.median(times[1:])
        print(f"| {name} | {middle:.2f} ({' '.join(f'{t:.2f}' for t in times[1:])}) | {first / middle:.2f} |")


class Load:
    """Counts what requests took, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.failures: dict[str, int] = {}
        self._lock = threading.Lock()

    def time(self, name: str, call: Callable[[], object]) -> None:
        begun = time.perf_counter()
        try:
            call()
        except urllib.error.HTTPError as error:
            error.close()
            with self._lock:
                self.failures[f"{name} {error.code}"] = self.failures.get(f"{name} {error.code}", 0) + 1
        except OSError as error:
            with self._lock:
                word = f"{name} {type(error).__name__}"
                self.failures[word] = self.failures.get(word, 0) + 1
        with self._lock:
            self.seconds.setdefault(name, []).append(time.perf_counter() - begun)

    def row(self, name: str) -> str:
        times = sorted(self.seconds.get(name, [])) or [float("nan")]
        at = lambda q: 1e3 * times[min(len(times) - 1, int(q * len(times)))]  # noqa: E731
        return f"| {name} | {len(times)} | {at(0.5):.1f} | {at(0.99):.1f} | {1e3 * times[-1]:.1f} |"


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(address + path, timeout=60) as found:
        return bytes(found.read())


def post(address: str, body: dict[str, object]) -> bytes:
    request = urllib.request.Request(
        f"{address}/v1/runs", json.dumps(body).encode(), {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as found:
        return bytes(found.read())


def load(given: argparse.Namespace) -> None:
    from service_process import make_run as make_small
    from service_process import start_server

    folder = run_folder(given)
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        data.mkdir()
        make_small(data / "small", steps=3, tensors=2, size=2**12)
        big = Path(place) / "long"
        make_run(big / "long", hidden=64, layers=6, vocab=2048, steps=154, dtype="float16")
        server = start_server(
            Path(place), "--root", f"runs={data}", "--root", f"work={folder.parent}", "--root", f"long={big}",
            TRAJSVC_QUOTA_QUEUED="0", TRAJSVC_QUOTA_PER_MINUTE="0",
        )  # fmt: skip
        try:
            assert server.wait(server.submit("long:long")["id"])["state"] == "succeeded"
            paths = measured_paths(server.address, "long")
            for path in paths:
                get(server.address, path)
            print("| request | n | p50, ms | p99, ms | most |\n|---|---|---|---|---|")
            report("idle", server.address, paths, given.seconds / 2, readers=1)
            fill(server, given.jobs)
            # One after the other, so that one of them runs until the end.
            heavy = [
                server.submit(f"work:{folder.name}", name=f"heavy{k}", priority=100, precision="float64")["id"]
                for k in range(20)
            ]
            server.wait(heavy[0], state="running")
            report(f"job runs, {given.jobs} jobs queued", server.address, paths, given.seconds, readers=1)
            report("job runs, 4 readers", server.address, paths, given.seconds, readers=4)
            trickle = sockets(server.address, given.sockets)
            report(f"job runs, {given.sockets} trickling sockets", server.address, paths, given.seconds, readers=1)
            for each in trickle:
                each.close()
            submitters(server.address, given.submitters, given.seconds)
            states = [server.ask(f"/v1/jobs/{job}")[2]["state"] for job in heavy]
            print(
                f"\nheavy jobs: {states.count('succeeded')} done, {states.count('running')} running; "
                f"API: {memory(server.process.pid):.0f} MB, {descriptors(server.process.pid)} descriptors"
            )
        finally:
            server.process.kill_all()


def measured_paths(address: str, run: str) -> list[str]:
    """Measures of one group each, another selection each time so that nothing is answered from the cache."""
    groups = [g["id"] for g in json.loads(get(address, f"/v1/runs/{run}/groups"))]
    chosen = [g for g in groups if g.startswith(("layer/", "component/", "network"))][:24]
    return [f"/v1/runs/{run}/measures?group={g}&names=mds,update_angle,norm" for g in chosen]


def report(title: str, address: str, paths: Sequence[str], seconds: float, *, readers: int) -> None:
    kept = Load()
    until = time.monotonic() + seconds

    def read(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until:
            path = chance.choice(paths)
            first = chance.randrange(0, 40)
            kept.time(f"{title}: measures", lambda: get(address, f"{path}&steps={first}.."))  # noqa: B023
            kept.time(f"{title}: measures, asked before", lambda: get(address, path))  # noqa: B023
            kept.time(f"{title}: jobs", lambda: get(address, "/v1/jobs?limit=20"))

    threads = [threading.Thread(target=read, args=(k,)) for k in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in kept.seconds:
        print(kept.row(name), flush=True)
    if kept.failures:
        print("failures:", kept.failures)


def fill(server: object, count: int) -> None:
    """Jobs that wait: rows of the database as submissions make them."""
    from trajsvc.jobs.database import connect
    from trajsvc.jobs.queue import JobQueue
    from trajsvc.jobs.spec import JobSpec
    from trajsvc.jobs.states import Kind

    engine = connect(f"sqlite:///{server.store / 'jobs.db'}")  # type: ignore[attr-defined]
    queue = JobQueue(engine)
    for k in range(count):
        spec = JobSpec(
            kind=Kind.TRAJECTORY, run=f"queued{k}", source="runs:small", memory=2**60, steps=f"first:{k + 1}"
        )
        queue.submit(spec, spec.digest(), priority=-100)
    engine.dispose()


def sockets(address: str, count: int) -> list[socket.socket]:
    """Open connections that send a header byte by byte, without end."""
    host, port = address.removeprefix("http://").split(":")
    found = []
    for _ in range(count):
        wire = socket.create_connection((host, int(port)))
        wire.sendall(b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        found.append(wire)

    def drip() -> None:
        while True:
            for wire in found:
                try:
                    wire.sendall(b" ")
                except OSError:
                    return
            time.sleep(0.5)

    threading.Thread(target=drip, daemon=True).start()
    return found


def submitters(address: str, count: int, seconds: float) -> None:
    kept = Load()
    until = time.monotonic() + seconds
    begun = threading.Barrier(count)

    def submit(k: int) -> None:
        begun.wait()
        number = 0
        while time.monotonic() < until:
            body = {
                "source": "runs:small",
                "name": f"s{k}-{number}",
                "steps": f"first:{number % 3 + 1}",
                "priority": -50,
            }
            kept.time(f"{count} submitters at once", lambda: post(address, body))  # noqa: B023
            number += 1
            time.sleep(1.0)

    threads = [threading.Thread(target=submit, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(kept.row(f"{count} submitters at once"))
    print("failures:", kept.failures)


def memory(pid: int) -> float:
    """Resident anonymous memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return float("nan")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def soak(given: argparse.Namespace) -> None:
    from service_process import EXAMPLES, start_server

    with tempfile.TemporaryDirectory() as place:
        server = start_server(Path(place), "--root", f"runs={EXAMPLES}", TRAJSVC_QUOTA_PER_MINUTE="0")
        try:
            assert server.wait(server.submit("runs:pythia-nano")["id"])["state"] == "succeeded"
            until = time.monotonic() + 60 * given.minutes
            groups = [g["id"] for g in server.ask("/v1/runs/pythia-nano/groups")[2]]
            number = 0
            print("| minutes | requests | API, MB | descriptors |\n|---|---|---|---|")
            begun = noted = time.monotonic()
            while time.monotonic() < until:
                group = groups[number % len(groups)].replace("[", "%5B").replace("]", "%5D")
                get(server.address, f"/v1/runs/pythia-nano/measures?group={group}&steps=first:{3 + number % 26}")
                if number % 200 == 0:
                    get(server.address, f"/v1/runs/pythia-nano/map?group={group}&f=png")
                    server.submit("runs:pythia-nano", name=f"soak{number}", steps=f"first:{3 + number // 200 % 20}")
                number += 1
                time.sleep(given.pause)
                if time.monotonic() - noted > max(30.0, 6 * given.minutes):
                    noted = time.monotonic()
                    pid = server.process.pid
                    print(
                        f"| {(noted - begun) / 60:.1f} | {number} | {memory(pid):.0f} | {descriptors(pid)} |",
                        flush=True,
                    )
        finally:
            server.process.kill_all()


if __name__ == "__main__":
    main()
