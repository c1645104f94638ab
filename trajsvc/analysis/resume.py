"""Decide how much of a stored run an analysis can keep: nothing, its first checkpoints, or all of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from storage_schema.runs.store import StoredRun
from trajsvc.analysis.options import RunOptions
from trajsvc.errors import Refused, UsageError
from trajsvc.gram.plan import KERNEL
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.tables import files_json


@dataclass(frozen=True)
class Continuation:
    """How a stored run is continued.

    ``kept`` leading checkpoints need no computing; with ``complete`` nothing needs to be done. ``anew`` is the reason
    why a stored run is not added to, if it is not its checkpoints.
    """

    kept: int = 0
    complete: bool = False
    anew: str = ""


def continue_from(
    old: StoredRun,
    trajectory: Trajectory,
    options: RunOptions,
    moved: Collection[int] = (),
) -> Continuation:
    """Decide what an analysis with ``options`` can keep of ``old``.

    If they choose steps, fewer than are stored is no loss.

    ``moved`` are steps whose files are the stored ones in another place.

    Raises Refused (``checkpoints-gone``) if computing anew would lose stored checkpoints whose files are no longer
    there, and UsageError (``preview-over-run``) if an estimate would replace a run computed from all its bytes.
    """
    if old.attributes.get("estimate") is not None:
        return Continuation()
    mine = [(r.step, files_json(r)) for r in trajectory.rows]
    now = dict(mine)
    stored = zip(old.checkpoints.step.tolist(), old.checkpoints.files, strict=True)
    theirs = [(step, now[step] if step in moved else files) for step, files in stored]
    fits = _fits(old, trajectory, options)
    if fits and set(mine) <= set(theirs):
        return Continuation(len(mine), complete=True)
    if options.preview is not None:
        raise UsageError(
            "preview-over-run",
            f"the store has the run {old.name} already, computed from all its bytes; an estimate would replace it",
            hint="Leave out --preview to add what is new, or give the estimate another --name.",
        )
    gone = sorted({step for step, _ in theirs} - set(now))
    if gone and options.steps is None and not options.replace:
        raise _gone(old, trajectory, gone)
    anew = _made_otherwise(old, options.precision)
    if not fits or anew or mine[: len(theirs)] != theirs or 2 * len(theirs) < len(mine):
        return Continuation(anew=anew)
    return Continuation(len(theirs))


def _fits(old: StoredRun, trajectory: Trajectory, options: RunOptions) -> bool:
    """Return whether the stored run holds the same blocks in the same types, with a copy if one is wanted."""
    blocks = trajectory.anatomy.blocks
    return (
        old.attributes.get("precision") == options.precision
        and old.attributes.get("dtype") == options.dtype
        and list(old.blocks.name) == [b.name for b in blocks]
        and old.blocks.size.tolist() == [b.size for b in blocks]
        and (old.has_theta or old.has_archive or not options.keeps_copy)
        and (old.has_rows or not options.rows)
    )


def _gone(old: StoredRun, trajectory: Trajectory, steps: Sequence[int]) -> Refused:
    shown = ", ".join(map(str, steps[:6])) + (" …" if len(steps) > 6 else "")
    return Refused(
        "checkpoints-gone",
        f"the stored run {old.name} has {len(steps)} checkpoints (steps {shown}) that {trajectory.source.uri} no longer has; "
        "computing anew would lose them",
        hint="Give the new run another name with --name NAME, or let it replace the stored one with --replace.",
    )


def _made_otherwise(old: StoredRun, precision: str) -> str:
    """Return why the products of a stored run cannot be combined with new ones; empty if they can."""
    kernel, stored = old.attributes.get("kernel"), old.attributes.get("precision")
    if kernel != KERNEL:
        made = f"by the kernel {kernel}" if kernel else "by an earlier version"
        return f"the stored run {old.name} was made {made}, in {stored}: all of it is computed anew"
    if stored != precision:
        return f"the stored run {old.name} was made in {stored}: all of it is computed anew in {precision}"
    return ""
