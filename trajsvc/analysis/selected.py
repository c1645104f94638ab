"""Open what a user's options name: the source, its checkpoints as a trajectory, the slabs that they are computed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.analysis.options import DEFAULT_SAMPLE, Options, RunOptions
from trajsvc.anatomy.rules_toml import parse_rules
from trajsvc.errors import LimitExceeded
from trajsvc.gram.kernels.choose import workspace
from trajsvc.gram.plan import ON_DISK, Plan, file_bytes, make_plan
from trajsvc.sources.base import CheckpointSource, CheckpointTensors, never
from trajsvc.sources.named import PATHS, Naming
from trajsvc.sources.resolve import open_named
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.opening import open_trajectory

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
    trajectory: Trajectory, options: Options, *, new: int | None = None, known: int = 0, sample: float = DEFAULT_SAMPLE
) -> Plan:
    """Plan the slabs of an analysis with ``options``. Raises LimitExceeded (``memory-budget``)."""
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
    )
