"""``trajsvc.cross``: two runs, or two sources, against each other on this machine."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storage_schema.runs.reader import StoredRun
from trajsvc.analysis.analyze import analyze
from trajsvc.analysis.cross import CrossJob, compute_cross
from trajsvc.analysis.observer import NullObserver, Observer
from trajsvc.analysis.options import Options, several
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.results.cross import CrossMethods, CrossRun, in_order, open_cross
from trajsvc.results.remote_cross import computed_there
from trajsvc.results.remote_run import RemoteRun
from trajsvc.results.run import Run, run_not_found
from trajsvc.results.run import names as stored_names
from trajsvc.results.run import open as open_run
from trajsvc.settings import Settings


def cross(
    a: str | Path | Run,
    b: str | Path | Run,
    *,
    store: str | Path | None = None,
    rename: str | Sequence[str] = (),
    common: bool = False,
    memory: str | int | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> CrossMethods:
    """Compare two runs of one network: cosines and distances of their displacements, at any origin, group and steps.

    Args:
        a, b: names of stored runs, runs, or sources, which are analysed first as ``trajsvc.analyze`` does;
            or two runs of one server, which compares them.
        store: where the runs are and the result is kept; by default ``TRAJSVC_STORE`` or ``./trajsvc-store``.
        rename: renames of the second run's tensors, ``FROM=TO``.
        common: compare the tensors that both have, instead of refusing.
        memory, threads, device: as of ``trajsvc.analyze``.

    What both runs' checkpoints give is kept, and computed once for as long as the runs are the same.

    Raises:
        TrajsvcError: Refused (``runs-differ``, ``source-gone``), NotFound (``run-not-found``), and what an analysis raises.
    """
    if isinstance(a, RemoteRun) and isinstance(b, RemoteRun):
        given: tuple[str, ...] = tuple(several(rename))  # type: ignore[arg-type]
        return computed_there(a.cross(b, given, common), given, common, memory=memory, device=device)
    machine: dict[str, Any] = {"memory": memory, "threads": threads, "device": device}
    place = Path(store) if store is not None else place_of(a)
    runs = [stored_or_analysed(one, place, machine) for one in (a, b)]
    return compare_runs(runs[0], runs[1], place, tuple(several(rename)), common, machine)  # type: ignore[arg-type]


def compare_runs(
    a: Run,
    b: Run,
    store: Path,
    rename: tuple[str, ...] = (),
    common: bool = False,
    machine: Mapping[str, Any] | None = None,
    *,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> CrossRun:
    """Compare two stored runs, computing what the store lacks. Raises as ``compute_cross``."""
    options = Options.of(machine)
    names = in_order(a.name, b.name, rename)
    job = CrossJob(
        store, names, options, ThreadPool(options.threads), rename, common,
        observer=observer or NullObserver(), stop=stop or threading.Event(),
    )  # fmt: skip
    compute_cross(job)
    return open_cross(a, b, rename, common)


def place_of(given: str | Path | Run) -> Path:
    """Return the store of a run; of a name or a source the default one."""
    stored = given.stored if isinstance(given, Run) else None
    return stored.path.parent.parent if isinstance(stored, StoredRun) else Settings().store


def stored_or_analysed(given: str | Path | Run, store: Path, machine: dict[str, Any]) -> Run:
    """Return the stored run of a name, or analyse a source. Raises NotFound (``run-not-found``) for what is neither."""
    if isinstance(given, Run):
        return given
    text = str(given)
    if text in stored_names(store):
        return open_run(store, text)
    if "://" in text or "/" in text or Path(text).exists() or any(c in text for c in "*?["):
        return analyze(given, store=store, **machine)
    raise run_not_found(store, text)
