"""Assemble what a run keeps from the engine's sums: tables, the whole Gram, the noise of rounding, the integrity report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.roomy import Allocate, each, release
from storage_schema.format.arrays import FLOAT_TYPES
from storage_schema.models.results import Finding
from storage_schema.runs.contents import RowTable, RunContents, TreeTable
from trajsvc.analysis import integrity
from trajsvc.analysis.arrangements import Look, arrangements
from trajsvc.analysis.continuity import continuity
from trajsvc.analysis.suspects import suspects
from trajsvc.gram.estimate import estimated, left_out_grams
from trajsvc.gram.plan import ROW_NORMS
from trajsvc.gram.rounding import expected_rounding
from trajsvc.gram.sums import GramState, appended
from trajsvc.measures.finite import usable
from trajsvc.measures.trees import Tree
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.tables import axis_of, block_table, checkpoint_table


def run_contents(
    name: str,
    trajectory: Trajectory,
    state: GramState,
    facts: Mapping[str, Any],
    *,
    old: RunContents | None = None,
    replicates: bool = True,
    averages: Mapping[str, str] | None = None,
    look: Look | None = None,
    trees: TreeTable | None = None,
    left: str = "",
) -> RunContents:
    """Assemble what is committed.

    Args:
        facts: How it was made.
        old: The run before these checkpoints were appended (None: computed anew).
        replicates: Keep an estimate with what its standard errors are computed from.
        averages: tensor → the one that it is a moving average of.
        look: Says how a tensor that jumps is arranged; None where values cannot be read again.
        trees: The blocks that the update basis does not serve.
        left: Why they were not computed again, if they were not.
    """
    gram = estimated(state) if old is None else appended(old.gram, state.gram, state.allocate)
    rounding = block_rounding(trajectory, state)
    if old is not None:
        kept = len(trajectory.rows) - state.plan.new
        rounding[:, :kept] = old.rounding[:, :kept]
    findings = _findings(trajectory, state, gram, averages or {}, look, str(facts["precision"]), trees, left)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    created = now if old is None else old.attributes.get("created", now)
    rows = _rows(state, old)
    attributes = {
        **_described(trajectory),
        "rows": None if rows is None else len(rows.norms),
        "findings": [f.model_dump() for f in findings],
        "estimate": None if state.exact else {"fraction": state.fraction},
        "created": created,
        "updated": now,
        **facts,
    }
    return RunContents(
        name=name,
        checkpoints=checkpoint_table(trajectory.rows, _fingerprints(state)),
        blocks=block_table(trajectory),
        gram=gram,
        rounding=rounding,
        nonfinite=state.nonfinite,
        changes=_changes(state, old),
        zeros=state.zeros if state.exact else None,
        replicates=left_out_grams(state) if replicates and not state.exact and state.plan.replicates >= 2 else None,
        trees=trees,
        rows=rows,
        attributes=attributes,
    )


def _changes(state: GramState, old: RunContents | None) -> NDArray[np.int64] | None:
    """Return the counts of values that changed; an estimate has none. Those of checkpoints before an append are the old run's."""
    if not state.exact:
        return None
    found = state.changes.copy()
    if old is not None:
        kept = state.plan.rows - state.plan.new
        found[:, :kept] = -1 if old.changes is None else old.changes[:, :kept]
    return found


def _rows(state: GramState, old: RunContents | None) -> RowTable | None:
    """Return the norms of the matrices' rows, where the plan has them summed; an estimate has none."""
    plan = state.plan
    if not state.exact or not plan.matrix_rows or (old is not None and old.rows is None):
        return None
    block = np.flatnonzero(plan.row_widths)
    norms = state.row_norms
    if old is not None and old.rows is not None:
        norms = state.allocate((plan.matrix_rows, ROW_NORMS, plan.rows))
        kept = plan.rows - plan.new
        norms[..., :kept] = old.rows.norms[..., :kept]
        norms[..., kept:] = state.row_norms
    return RowTable(block, np.array(plan.row_widths, np.int64)[block], norms)


def _fingerprints(state: GramState) -> list[str]:
    return [f"{int(f):016x}" for f in state.fingerprint]


def _findings(
    trajectory: Trajectory,
    state: GramState,
    gram: NDArray[np.float64],
    averages: Mapping[str, str],
    look: Look | None,
    precision: str,
    trees: TreeTable | None,
    left: str,
) -> list[Finding]:
    """Return what listing noticed, which tensors may not be parameters, and what the values show; copies found twice
    are reported once.
    """
    blocks = trajectory.anatomy.blocks
    prints = _fingerprints(state)
    read = integrity.report(
        steps=trajectory.steps,
        blocks=blocks,
        gram=gram if trees is None else _updates(gram, trees, state.allocate, scaled=False),
        nonfinite=state.nonfinite,
        fingerprints=prints if state.exact else [str(i) for i in range(len(prints))],
        zeros=state.zeros,
        columns=[(c.name, c.size) for c in trajectory.columns],
        precision=precision,
        trees=trees,
        left=left,
    )
    proved = {f.steps for f in read if f.kind == "identical"}
    listed = [f for f in trajectory.findings if f.kind != "identical" or f.steps not in proved]
    scaled = gram if trees is None else _updates(gram, trees, state.allocate, scaled=True)
    matrices = {c.name for c, shape in zip(trajectory.columns, trajectory.shapes, strict=True) if len(shape) > 1}
    doubted = suspects(
        blocks,
        scaled,
        state.nonfinite,
        averages=averages,
        doubtful=trajectory.doubtful,
        matrices=matrices,
        others=list(trajectory.anatomy.left_out),
    )
    vectors = {c.name for c, shape in zip(trajectory.columns, trajectory.shapes, strict=True) if len(shape) == 1}
    moved = [] if look is None else arrangements(blocks, scaled, trajectory.steps.tolist(), look, matrices, vectors)
    explained = {f.steps[1]: set(f.details["tensors"]) for f in moved}
    unlike = continuity(blocks, scaled, trajectory.steps.tolist(), usable(state.nonfinite)[0], explained)
    return [*listed, *doubted, *moved, *unlike, *read, *_no_errors(state)]


def _no_errors(state: GramState) -> list[Finding]:
    """Report an estimate without standard errors: the sums of the sample's parts, of which they are made, are not kept in files."""
    plan = state.plan
    if state.exact or not plan.on_disk or plan.replicates >= 2:
        return []
    message = (
        f"the estimate has no standard errors: the Grams of {plan.blocks} blocks at {plan.rows} checkpoints do not fit the memory budget, "
        "and without it the parts of the sample are not told apart; give more --memory, or fewer checkpoints with --steps"
    )
    return [Finding(kind="no-standard-errors", severity="info", message=message, details={"blocks": plan.blocks})]


def _described(trajectory: Trajectory) -> dict[str, Any]:
    """Describe a trajectory for the run's attributes."""
    return {
        "source": trajectory.source.uri,
        "architecture": trajectory.anatomy.architecture,
        "parameters": trajectory.parameters,
        "axis": axis_of(trajectory),
        "origins": [dict(r.checkpoint.extra) for r in trajectory.rows],
        "excluded": [asdict(e) for e in trajectory.excluded],
        "left_out": dict(trajectory.anatomy.left_out),
        "notes": list(trajectory.anatomy.notes),
        **logged(trajectory),
    }


def _updates(gram: NDArray[np.float64], trees: TreeTable, allocate: Allocate, *, scaled: bool) -> NDArray[np.float64]:
    """Return every block's Gram in the update basis, from its tree if it has one.

    ``scaled``: all of them in one unit, that of the largest.
    """
    found = allocate(gram.shape)
    for block, products in enumerate(each(gram)):
        found[block] = products
        release(found)
    every = np.arange(gram.shape[1], dtype=np.int64)
    for block, start, products in zip(trees.block.tolist(), trees.start, trees.gram, strict=True):
        found[block] = Tree(start, products).updates(every)[0]
    if scaled:
        own = np.zeros(len(gram))
        own[trees.block] = trees.scale
        factor = 2.0 ** (own - own.max())
        for block, products in enumerate(each(found)):
            products *= factor[block]
            products *= factor[block]  # in two steps: its square may be too small for a float64
    return found


def logged(trajectory: Trajectory) -> dict[str, Any]:
    """Return what the trainer left beside the checkpoints, as the run's attributes ``learning_rate``, ``logged`` and
    ``hyperparameters``.
    """
    log = trajectory.source.training_log([r.checkpoint for r in trajectory.rows])
    rate, series = log.learning_rate, [s.model_dump() for s in log.series]
    return {
        "learning_rate": None if rate is None else rate.model_dump(),
        "logged": series or None,
        "hyperparameters": [one.model_dump() for one in log.hyperparameters] or None,
    }


def block_rounding(trajectory: Trajectory, state: GramState) -> NDArray[np.float64]:
    """Compute the expected squared norm of the rounding of the stored values, scaled up from the sampled ones, (block,
    T); NaN for checkpoints that are known.

    A checkpoint's values are taken to carry the narrowest type that holds all of those seen: published float32 files
    often hold exact float16 values.
    """
    out = np.full((state.plan.blocks, state.plan.rows), np.nan)
    sizes = state.plan.block_sizes()
    scale = sizes / np.maximum(1, state.sampled)
    tensor_column = {c.name: i for i, c in enumerate(trajectory.columns)}
    for t in range(state.plan.known, state.plan.rows):
        for b, block in enumerate(trajectory.anatomy.blocks):
            entry = trajectory.rows[t].entries[tensor_column[block.tensor]]
            carried = entry.stored_type if entry.encoding else state.statistics.carried_type(entry.dtype, t)
            out[b, t] = expected_rounding(state.rounding[b, t], carried) * scale[b]
    return out


def carried_types(trajectory: Trajectory, state: GramState, old: RunContents | None = None) -> list[str]:
    """Return the widest type that the values of every checkpoint carry; of those that are known, what ``old`` says."""
    known = state.plan.known
    kinds = [] if old is None else list(old.attributes["carried"][:known])
    for t, row in enumerate(trajectory.rows[known:], start=known):
        stored = {e.dtype for e in row.entries}
        kinds.append(max((state.statistics.carried_type(s, t) for s in stored), key=FLOAT_TYPES.index, default=""))
    return kinds
