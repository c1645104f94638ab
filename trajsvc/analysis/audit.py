"""Audit a published run from listings, digests and headers alone: no weight is read.

Looked for: revisions that are missing, empty or unreadable (a dead link is one), checkpoints that are copies of each
other or of ``main``, shards of another step, names, shapes and stored types that change in the middle of the run,
branches that lack a stage's name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from storage_schema.models.audit import AuditAnswer, AuditRow, State
from storage_schema.models.results import Finding
from trajsvc.analysis.options import RunOptions
from trajsvc.analysis.selected import trajectory_of
from trajsvc.errors import NotFound
from trajsvc.sources.base import CheckpointRef, CheckpointSource
from trajsvc.trajectory.matrix import Trajectory


def audit(source: CheckpointSource, options: RunOptions) -> AuditAnswer:
    """Examine every checkpoint of ``source`` that ``options`` choose.

    Raises what listing raises; a checkpoint that cannot be read is a row.
    """
    listed = source.checkpoints(options.steps)
    try:
        trajectory: Trajectory | None = trajectory_of(source, options.with_(skip_damaged=True))
        findings = list(trajectory.findings) if trajectory else []
    except NotFound as error:
        if error.kind not in ("no-checkpoints", "no-parameters"):
            raise
        trajectory = None
        findings = [*source.findings(), Finding(kind=error.kind, severity="error", message=error.message)]
    rows = sorted([*_rows(listed, trajectory), *_empty(listed, findings)], key=lambda row: row.step)
    outline = source.remote.outline() if source.remote is not None else {}
    return AuditAnswer(
        source=source.uri,
        family=outline.get("family"),
        found=outline.get("found", len(listed)),
        missing=tuple(outline.get("missing", ())),
        others=tuple(outline.get("others", ())),
        rows=tuple(rows),
        findings=tuple(findings),
        wrong=sum(f.severity != "info" for f in findings),
    )


def _rows(listed: Sequence[CheckpointRef], trajectory: Trajectory | None) -> list[AuditRow]:
    kept = {} if trajectory is None else {row.step: row.dtype for row in trajectory.rows}
    reasons = {} if trajectory is None else {e.step: e.reason for e in trajectory.excluded}
    unreadable = _unreadable(trajectory)
    copies = _copies(listed)
    rows = []
    for checkpoint in listed:
        step = checkpoint.step
        state: State = (
            "whole" if step in kept else "unreadable" if step in unreadable or trajectory is None else "left out"
        )
        rows.append(
            AuditRow(
                step=step,
                label=checkpoint.label,
                commit=checkpoint.extra.get("commit"),
                format=checkpoint.format,
                dtype=kept.get(step),
                files=len(checkpoint.files),
                bytes=sum(f.size for f in checkpoint.files),
                state=state,
                copies=copies.get(step, ()),
                why=reasons.get(step, ""),
            )
        )
    return rows


def _empty(listed: Sequence[CheckpointRef], findings: Sequence[Finding]) -> list[AuditRow]:
    """Return rows for revisions that name a step and hold no weights, which the listing passes over with a finding."""
    known = {checkpoint.step for checkpoint in listed}
    steps = {step: f.message for f in findings if f.kind == "missing-weights" for step in f.steps if step not in known}
    return [
        AuditRow(step=s, label="", commit=None, format="", dtype=None, files=0, bytes=0, state="empty", why=why)
        for s, why in steps.items()
    ]


def _unreadable(trajectory: Trajectory | None) -> set[int]:
    found = () if trajectory is None else trajectory.findings
    return {
        step for f in found if f.severity == "error" or f.kind in ("unreadable", "missing-weights") for step in f.steps
    }


def _copies(listed: Sequence[CheckpointRef]) -> Mapping[int, tuple[int, ...]]:
    """Return step → the other steps whose files have the same digests; steps with an unknown digest are left out."""
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for checkpoint in listed:
        digests = [f.sha256 for f in checkpoint.files if not f.path.endswith(".json")]
        if digests and None not in digests:
            holders[tuple(sorted(d for d in digests if d is not None))].append(checkpoint.step)
    return {
        step: tuple(s for s in steps if s != step) for steps in holders.values() if len(steps) > 1 for step in steps
    }
