"""``trajsvc.compute_gradients``: sets of gradients of a stored run, on this machine or on the server that has the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trajsvc.analysis.cross_runs import place_of, stored_or_analysed
from trajsvc.analysis.options import one_text, validated
from trajsvc.gradients.options import GradientOptions
from trajsvc.results.remote_run import RemoteRun
from trajsvc.results.run import Run
from trajsvc.results.run import open as open_run


def compute_gradients(
    run: str | Path | Run,
    probe: str,
    data: str | Path,
    *,
    store: str | Path | None = None,
    steps: str | Sequence[int] | None = None,
    name: str | None = None,
    device: str = "cpu",
    replace: bool = False,
    **others: Any,
) -> Run:
    """Compute sets of gradients at checkpoints of a run and return the run, whose ``gradients`` answer from then on.

    Args:
        run: the name of a stored run, a run, or a source, which is analysed first as ``trajsvc.analyze`` does; or a run of a server,
            which computes them as a job.
        probe: causal-lm, image-classifier, an installed probe, or ``module:object``; of a server the name that it has for its probe.
        data: a file of examples; of a server the name that it has for its data.
        store: where the run is; by default ``TRAJSVC_STORE`` or ``./trajsvc-store``.
        steps: checkpoints; by default all.
        name: what the set is stored under instead of its kind; of several sets it is followed by the kind.
        device: cpu, cuda, cuda:1.
        replace: put sets in the place of those that are stored with other options.
        others: the fields of ``trajsvc.gradients.options.GradientOptions``, which describe themselves: sets, examples, batch, length …

    Raises:
        TrajsvcError: UsageError (``bad-option``), NotFound (``run-not-found``, ``probe-not-found``, ``data-not-found``), Refused
            (``gradients-exist``, ``network-mismatch``), LimitExceeded (``memory-budget``), and what a server's job says.
    """
    from trajsvc.gradients.compute import compute_gradients as computed

    given = {"probe": probe, "data": str(data), "steps": one_text(steps), **others}
    said: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    options = validated(GradientOptions, said)
    if isinstance(run, RemoteRun):
        asked = options.model_dump(mode="json", include=set(said))
        more: dict[str, Any] = {"name": name, "device": device, "replace": replace or None}
        run.client.succeeded(run.client.submit_gradients(run.name, **asked, **more))
        return run
    place = Path(store) if store is not None else place_of(run)
    stored = stored_or_analysed(run, place, {}).name
    computed(place, stored, options, name=name, overwrite=replace, by_path=True, device=device)
    return open_run(place, stored)
