"""``trajsvc.compute_spectra``: the spectra of a stored run, on this machine or on the server that has the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trajsvc.analysis.cross_runs import place_of, stored_or_analysed
from trajsvc.analysis.options import one_text, validated
from trajsvc.results.remote_run import RemoteRun
from trajsvc.results.run import Run
from trajsvc.results.run import open as open_run
from trajsvc.spectra import compute
from trajsvc.spectra.options import SpectrumOptions


def compute_spectra(
    run: str | Path | Run,
    *,
    store: str | Path | None = None,
    of: str | Sequence[str] | None = None,
    steps: str | Sequence[int] | None = None,
    groups: str | Sequence[str] | None = None,
    heads: bool = False,
    budget: str | int | None = None,
    device: str = "cpu",
    replace: bool = False,
) -> Run:
    """Decompose the matrices of a run at its checkpoints and return the run, whose ``spectra`` answer from then on.

    Args:
        run: the name of a stored run, a run, or a source, which is analysed first as ``trajsvc.analyze`` does; or a run of a server,
            which computes them as a job.
        store: where the run is; by default ``TRAJSVC_STORE`` or ``./trajsvc-store``.
        of: weights, displacement, updates; by default all three.
        steps, groups: checkpoints, and groups whose matrices are decomposed; by default all.
        heads: the heads of Q, K and V too, where their number is known.
        budget: what one matrix may take, as ``"512MiB"`` or in bytes.
        device: cpu, cuda, cuda:1.
        replace: compute anew what is there, which is left alone otherwise.

    Raises:
        TrajsvcError: UsageError (``bad-option``), NotFound (``run-not-found``, ``group-not-found``, ``no-matrices``), LimitExceeded
            (``memory-budget``), Refused (``source-gone``), and what a server's job says.
    """
    given = {"of": of, "steps": one_text(steps), "groups": groups, "heads": heads or None, "budget": budget}
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    options = validated(SpectrumOptions, said)
    if isinstance(run, RemoteRun):
        asked = options.model_dump(mode="json", include=set(said))
        run.client.succeeded(run.client.submit_spectra(run.name, **asked, device=device, replace=replace or None))
        return run
    place = Path(store) if store is not None else place_of(run)
    name = stored_or_analysed(run, place, {}).name
    compute.compute_spectra(place, name, options, overwrite=replace, device=device)
    return open_run(place, name)
