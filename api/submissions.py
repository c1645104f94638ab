"""Make a job's spec from a request: resolve names, check limits, pin the source to its current revisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from api.requests import (
    Choices,
    CrossSubmission,
    GradientSubmission,
    Recomputation,
    SpectrumSubmission,
    Submission,
)
from api.resources import Resources
from storage_schema.errors import RunMissing
from storage_schema.files.regular import read_text
from storage_schema.format.names import run_name
from storage_schema.models.audit import AuditAnswer
from storage_schema.runs.store import RunStore, StoredRun
from trajsvc.analysis import identity
from trajsvc.analysis.options import RunOptions
from trajsvc.anatomy.groups import find_group
from trajsvc.errors import Cancelled, LimitExceeded, NotFound, Refused, RunExists, TrajsvcError, UsageError
from trajsvc.jobs.sources import Deadline, open_job_source, pins_of
from trajsvc.jobs.spec import CrossWork, GradientWork, JobSpec, SpectrumWork
from trajsvc.jobs.states import BESIDE, Kind, State
from trajsvc.results.cross import in_order
from trajsvc.results.run import Run
from trajsvc.sources.base import never
from trajsvc.sources.renames import read_renames
from trajsvc.sources.resolve import is_remote
from trajsvc.sources.run_names import default_name
from trajsvc.sources.transport.cancel import Stop
from trajsvc.steps import check_spec

LOOKED_AT: Final = 500
"""jobs of a run among which the last that made it is looked for"""
COMPARING: Final = 10.0
"""seconds that a submission may take to tell whether it is the run that is stored under its name"""


def submission(resources: Resources, body: Submission, stop: Stop = never) -> JobSpec:
    """Make the spec of a submission.

    Raises UsageError, NotFound, Refused, LimitExceeded, RunExists, and TryAgain if the Hub does not answer.
    """
    spec = pinned(resources, body, stop)
    check_name_free(resources, spec, stop)
    return spec


def pinned(resources: Resources, body: Submission, stop: Stop = never) -> JobSpec:
    """Make the spec of a submission, whatever run has its name: enough for what only reads the source.

    Raises as ``submission`` does, without RunExists.
    """
    source = body.source
    if is_remote(source):
        from trajsvc.sources.hub.address import parse_address

        name = parse_address(source).name
    else:
        if body.revisions or body.commits:
            raise UsageError("hub-option", "revisions and commits are chosen on the Hub", hint="Choose with steps.")
        path = resources.roots.resolve(source)
        place = source.replace(":", "/", 1)
        name = default_name(str(Path(place).with_suffix("")) if path.is_file() else place)
    spec = JobSpec(
        kind=Kind(body.kind),
        run=body.name or run_name(name),
        source=source,
        family=body.family,
        **_choices(resources, body),
    )
    if body.preview is not None and (body.kind == "ingest" or body.copy_parameters):
        raise UsageError("preview-copy", "a preview reads too little for a copy", hint="Leave out preview or copy.")
    return spec.model_copy(update={"pins": pins_of(spec, resources.roots, resources.settings.store, stop)})


def recomputation(resources: Resources, run: str, body: Recomputation, stop: Stop = never) -> JobSpec:
    """Make the spec of a recomputation: that of the job that made the run, with other choices, at the same commits.

    Raises NotFound (``run-not-found``), Refused (``no-source``) for a run whose source this server cannot read.
    """
    base = base_of(resources, resources.runs.open(run))
    said = body.model_fields_set
    kept = {name for name in ("steps", "revisions", "commits", "copy_parameters", "archive") if name not in said}
    choices = {name: value for name, value in _choices(resources, body).items() if name not in kept}
    changed = {**choices, "kind": Kind.RECOMPUTE, "run": body.name or run}
    spec = base.model_copy(update=changed)
    if not is_remote(spec.source) or not spec.pins:
        spec = spec.model_copy(update={"pins": pins_of(spec, resources.roots, resources.settings.store, stop)})
    check_name_free(resources, spec, stop)
    return spec


def check_name_free(resources: Resources, spec: JobSpec, stop: Stop = never) -> None:
    """Raise RunExists if the run's name is that of another run, stored or being made, that the job may not replace.

    A folder's headers and a sample of its values are compared with the stored run's within ``COMPARING`` seconds; if
    that does not suffice, or they cannot be read, the job finds out.
    """
    if spec.replace:
        return
    making = resources.queue.jobs(states=[s for s in State if not s.final], run=spec.run, limit=20)
    other = next((j for j in making if j.kind not in BESIDE and j.spec.source != spec.source), None)
    if other is not None:
        raise RunExists(spec.run, f"the run {spec.run} is being made from {other.spec.source} by the job {other.id}")
    try:
        stored = RunStore(resources.settings.store).open(spec.run)
    except RunMissing:
        return
    if is_remote(spec.source):
        if identity.stored_source(stored) == spec.source and identity.stored_state(stored) == spec.state:
            return
        raise RunExists(spec.run, f"the server has a run {spec.run} already, and {spec.source} is another source")
    _compare(resources, spec, stored, stop)


def _compare(resources: Resources, spec: JobSpec, stored: StoredRun, stop: Stop) -> None:
    from trajsvc.analysis.selected import trajectory_of
    from trajsvc.jobs.options import options_of

    options, source = options_of(spec).with_(skip_damaged=True), None
    try:
        source = open_job_source(spec, resources.roots, resources.settings.store, Deadline(COMPARING, stop))
        identity.check(stored, trajectory_of(source, options), state=spec.state)
    except RunExists as error:
        message = f"the server has a run {spec.run} already, and {spec.source} is another one: {error.why}"
        raise RunExists(spec.run, message, error.why) from None
    except (TrajsvcError, Cancelled):
        return
    finally:
        if source is not None:
            source.close()


def repeated(resources: Resources, spec: JobSpec, digests: Mapping[str, str], stop: Stop = never) -> JobSpec:
    """Make the spec of the same work once more: of a folder, a stored run, a probe and data as they are now.

    Raises NotFound, Refused.
    """
    if spec.gradients is not None:
        return spec.model_copy(update={"uses": gradient_uses(resources, spec.run, spec.gradients, digests, stop)})
    if spec.spectra is not None:
        return spec.model_copy(update={"uses": spectrum_uses(resources, spec.run)})
    if spec.cross is not None:
        return spec.model_copy(update={"uses": cross_uses(resources, spec.run, spec.cross)})
    return spec.model_copy(update={"pins": pins_of(spec, resources.roots, resources.settings.store, stop)})


def planned(resources: Resources, spec: JobSpec, stop: Stop = never) -> dict[str, Any]:
    """Return the plan of a job as plain values. Raises what reading headers raises."""
    from trajsvc.analysis.forecast import describe
    from trajsvc.analysis.selected import plan_of, trajectory_of
    from trajsvc.jobs.options import options_of
    from trajsvc.results.labels import plain

    options = options_of(spec)
    until = Deadline(resources.settings.plan_seconds, stop)
    source = open_job_source(spec, resources.roots, resources.settings.store, until)
    try:
        trajectory = trajectory_of(source, options, whole=True)
        facts: dict[str, Any] = plain(describe(trajectory, plan_of(trajectory, options), options, spec.run))
        return {**facts, "source": spec.source}
    except Cancelled:
        raise until.missed() from None
    finally:
        source.close()


def audited(resources: Resources, spec: JobSpec, stop: Stop = never) -> AuditAnswer:
    """Audit the source of a job. Raises what listing it raises."""
    from trajsvc.analysis.audit import audit
    from trajsvc.jobs.options import options_of

    until = Deadline(resources.settings.plan_seconds, stop)
    source = open_job_source(spec, resources.roots, resources.settings.store, until)
    try:
        return audit(source, options_of(spec)).model_copy(update={"source": spec.source})
    except Cancelled:
        raise until.missed() from None
    finally:
        source.close()


def gradient_job(
    resources: Resources, run: str, body: GradientSubmission, digests: Mapping[str, str], stop: Stop = never
) -> JobSpec:
    """Make the spec of a job of gradients of a stored run, whose checkpoints are read as they were when it was
    analysed. ``digests`` are those that are known of registered data.

    Raises NotFound (``run-not-found``, ``probe-not-registered``, ``data-not-registered``), Refused (``no-source``), LimitExceeded.
    """
    work = GradientWork(**{name: getattr(body, name) for name in GradientWork.model_fields})
    uses = gradient_uses(resources, run, work, digests, stop)
    if work.steps != "all":
        check_spec(work.steps)
    asked = {"memory": _memory(resources, body), "device": body.device, "gradients": work, "uses": uses}
    return base_of(resources, resources.runs.open(run)).model_copy(update={**asked, "kind": Kind.GRADIENTS, "run": run})


def spectrum_job(resources: Resources, run: str, body: SpectrumSubmission) -> JobSpec:
    """Make the spec of a job of spectra of a stored run, whose checkpoints are read as they were when it was analysed.

    Raises NotFound (``run-not-found``, ``group-not-found``), Refused (``no-source``), LimitExceeded.
    """
    work = SpectrumWork(**{name: getattr(body, name) for name in SpectrumWork.model_fields})
    opened = resources.runs.open(run)
    if work.steps != "all":
        check_spec(work.steps)
    for group in work.groups:
        find_group(opened.groups(), group)
    budget = body.budget if "budget" in body.model_fields_set else None
    asked = {"memory": _allowed(resources, budget), "device": body.device, "spectra": work}
    more = {"uses": spectrum_uses(resources, run), "kind": Kind.SPECTRA, "run": run}
    return base_of(resources, opened).model_copy(update={**asked, **more})


def spectrum_uses(resources: Resources, run: str) -> dict[str, str]:
    """Return digests of what a job of spectra depends on: the run as it is stored now."""
    return {"run": resources.runs.open(run).stored.digest}


def gradient_uses(
    resources: Resources, run: str, work: GradientWork, digests: Mapping[str, str], stop: Stop = never
) -> dict[str, str]:
    """Return digests of what a job of gradients depends on: the run as it is stored now, the probe, the data."""
    return {**resources.registered.digests(work, digests, stop), "run": resources.runs.open(run).stored.digest}


def cross_job(resources: Resources, body: CrossSubmission) -> JobSpec:
    """Make the spec of a comparison of two stored runs.

    Raises NotFound (``run-not-found``), Refused (``no-source``, ``run-estimate``), UsageError (``runs-needed``,
    ``bad-rename``), LimitExceeded.
    """
    read_renames(body.rename)
    if body.a == body.b:
        raise UsageError("runs-needed", "a run is not compared with itself", hint="Name two runs.")
    first, second = in_order(body.a, body.b, body.rename)
    work = CrossWork(other=second, rename=body.rename, common=body.common)
    return JobSpec(
        kind=Kind.CROSS, run=first, source=_readable(resources, resources.runs.open(first)), memory=_memory(resources, body),
        device=body.device, cross=work, uses=cross_uses(resources, first, work),
    )  # fmt: skip


def cross_uses(resources: Resources, run: str, work: CrossWork) -> dict[str, str]:
    """Return digests of what a comparison depends on: both runs as they are stored now."""
    _readable(resources, resources.runs.open(work.other))
    return {"run": resources.runs.open(run).stored.digest, "other": resources.runs.open(work.other).stored.digest}


def _readable(resources: Resources, run: Run) -> str:
    """Return the source of an exact run whose parameters this server can read. Raises Refused (``no-source``, ``run-estimate``)."""
    if run.estimate is not None:
        raise Refused("run-estimate", f"{run.name} is still an estimate", hint="Wait for its job to end.")
    try:
        return _source(resources, run.source)
    except Refused:
        if resources.runs.stored(run.name).has_theta:
            return "store"
        raise


def base_of(resources: Resources, run: Run) -> JobSpec:
    """Return how a stored run is read: as by the last job that made it.

    Raises Refused (``no-source``) if its source cannot be read.
    """
    jobs = resources.queue.jobs(states=[State.SUCCEEDED], run=run.name, limit=LOOKED_AT)
    made = next((job for job in jobs if job.kind != Kind.CROSS), None)
    if made is None:
        return _spec_of(resources, run)
    return made.spec.model_copy(update={"gradients": None, "spectra": None, "cross": None, "uses": {}})


def _spec_of(resources: Resources, run: Run) -> JobSpec:
    """Make a spec for a run that no job made."""
    return JobSpec(kind=Kind.RECOMPUTE, run=run.name, source=_source(resources, run.source), memory=2**29)


def _source(resources: Resources, uri: str) -> str:
    if is_remote(uri):
        return uri
    for root, folder in resources.roots.folders.items():
        if uri.startswith(f"{root}:"):
            return uri
        if Path(uri).is_relative_to(folder):
            return f"{root}:{Path(uri).relative_to(folder)}"
    raise Refused(
        "no-source", "the run came from a folder that this server does not read", hint="Submit its source as a new run."
    )


def _choices(resources: Resources, body: Choices) -> dict[str, Any]:
    if body.steps is not None:
        check_spec(body.steps)
    chosen = {name: getattr(body, name) for name in RunOptions.model_fields}
    return {**chosen, "rules": _rules(resources, body.rules), "memory": _memory(resources, body)}


def _memory(resources: Resources, body: Choices | GradientSubmission | CrossSubmission) -> int:
    return _allowed(resources, body.memory if "memory" in body.model_fields_set else None)


def _allowed(resources: Resources, asked: int | None) -> int:
    """Return the memory of a job. Raises LimitExceeded (``memory-quota``) for more than the server allows."""
    settings = resources.settings
    memory = min(settings.memory, settings.job_memory) if asked is None else asked
    if memory > settings.job_memory:
        raise LimitExceeded(
            "memory-quota", f"a job may ask for {settings.job_memory} bytes of memory", hint="Ask for less."
        )
    return memory


def _rules(resources: Resources, name: str | None) -> str | None:
    if name is None:
        return None
    if name not in resources.settings.rules_files:
        known = ", ".join(sorted(resources.settings.rules_files)) or "none"
        raise NotFound("rules-not-found", f"the server has no rules {name!r}", hint=f"It has {known}.")
    return read_text(resources.settings.rules_files[name])
