"""Open what a user's options name: the source, its checkpoints as a trajectory, the slabs that they are computed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.analysis.options import DEFAULT_SAMPLE, Options, RunOptions
from trajsvc.anatomy.neurons import row_widths
from trajsvc.anatomy.rules_toml import parse_rules
from trajsvc.errors import LimitExceeded
from trajsvc.gram.kernels.choose import workspace
from trajsvc.gram.plan import ON_DISK, ROW_NORMS, Plan, file_bytes, make_plan
from trajsvc.sources.base import CheckpointSource, CheckpointTensors, never
from trajsvc.sources.named import PATHS, Naming
from trajsvc.sources.resolve import open_named
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.opening import open_trajectory

ROW_SHARE = 8
"""Unless it is asked for, norms of rows are kept where they take at most one part in so many of the memory budget."""
READING = 8 * 2**20
"""Bytes of the budget reserved for reading beside the slabs: connections, and the place of every tensor in every file."""


def source_of(
    source: str | Path,
    options: RunOptions,
    store: Path | None = None,
    stop: Callable[[], bool] = never,
    pins: Mapping[str, str] | None = None,
    naming: Naming = PATHS,
) -> CheckpointSource:
    """Open the source that a user names, with ``options``; see ``open_named``.

    What is read ahead lies in a folder of ``store``.
    """
    here = options if isinstance(options, Options) else None
    return open_named(
        source,
        store,
        options.revisions,
        options.commits,
        cache=here.cache if here else None,
        connections=here.connections if here else None,
        stop=stop,
        pins=pins,
        state=options.state,
        step_pattern=options.step_pattern,
        naming=naming,
    )


def trajectory_of(source: CheckpointSource, options: RunOptions, *, whole: bool = False) -> Trajectory:
    """Read the checkpoints of ``source`` that ``options`` choose as a trajectory.

    If the ``whole`` of it is to be computed, a run whose sums cannot fit the memory is refused from its first header.
    Raises what reading headers raises, LimitExceeded (``memory-budget``).
    """
    rules = None if options.rules is None else parse_rules(options.rules, "the rules file")
    return open_trajectory(
        source,
        steps=options.steps,
        rules=rules,
        heads=options.heads,
        skip_damaged=options.skip_damaged,
        exclude=options.exclude,
        rename=options.rename,
        first_look=partial(_check_width, options) if whole and isinstance(options, Options) else None,
    )


def _check_width(options: Options, rows: int, tensors: CheckpointTensors) -> None:
    """Raise LimitExceeded (``memory-budget``) if the sums of a quarter of the floating tensors need more files than the
    budget allows.

    The plan would find that they do not fit, whichever of them are not parameters.
    """
    if options.exclude:
        return
    blocks = sum(1 for e in tensors.tensors.values() if e.dtype in FLOAT_TYPES and e.size) // 4
    need = file_bytes(blocks, rows, rows)
    if need > ON_DISK * options.memory:
        raise LimitExceeded(
            "memory-budget",
            f"{rows} checkpoints of {len(tensors.tensors)} tensors do not fit the memory budget of {options.memory >> 20} MiB",
            hint=f"Give --memory {(4 * need // ON_DISK >> 20) + 1}MiB, or fewer checkpoints with --steps.",
        )


def plan_of(
    trajectory: Trajectory,
    options: Options,
    *,
    new: int | None = None,
    known: int = 0,
    sample: float = DEFAULT_SAMPLE,
    rows: bool | None = None,
) -> Plan:
    """Plan the slabs of an analysis with ``options``; ``rows`` says whether the stored run that is added to has those of its matrices.

    Raises LimitExceeded (``memory-budget``).
    """

    def planned(widths: Sequence[int]) -> Plan:
        return make_plan(
            trajectory.columns,
            len(trajectory.rows),
            new=new,
            known=known,
            memory=options.memory,
            reserve=READING,
            threads=options.threads,
            sample_fraction=options.preview or sample,
            precision=options.precision,
            dtype=options.dtype,
            workspace=workspace(options.device, len(trajectory.rows), options.precision),
            row_widths=widths,
        )

    if not keeps_rows(trajectory, options, rows):
        return planned(())
    if rows is not None or options.rows:
        return planned(widths_of(trajectory))
    try:
        found = planned(widths_of(trajectory))
    except LimitExceeded:
        return planned(())
    return planned(()) if found.on_disk else found


def widths_of(trajectory: Trajectory) -> tuple[int, ...]:
    """Return the width of the rows of every block's matrix, 0 where it is none."""
    shapes = {column.name: shape for column, shape in zip(trajectory.columns, trajectory.shapes, strict=True)}
    return row_widths(trajectory.anatomy.blocks, shapes)


def row_bytes(trajectory: Trajectory) -> int:
    """Return the bytes that the norms of all rows of the matrices take in the store."""
    widths, blocks = widths_of(trajectory), trajectory.anatomy.blocks
    rows = sum(block.size // width for block, width in zip(blocks, widths, strict=True) if width)
    return rows * ROW_NORMS * len(trajectory.rows) * 8


def keeps_rows(trajectory: Trajectory, options: Options, stored: bool | None = None) -> bool:
    """Decide whether the norms of rows are kept: as a ``stored`` run that is added to has them; else as the user says; else if
    they take no more than their share of the memory. A preview sums them as the analysis that goes on from it does, and keeps none.
    """
    if stored is not None:
        return stored
    return row_bytes(trajectory) <= options.memory // ROW_SHARE if options.rows is None else options.rows
