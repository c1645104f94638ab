"""What a user's words name: the source, its checkpoints side by side, the slabs that they are computed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from trajsvc.analysis.options import DEFAULT_SAMPLE, Options, RunOptions
from trajsvc.anatomy.rules_toml import parse_rules
from trajsvc.gram.kernels.choose import workspace
from trajsvc.gram.plan import Plan, make_plan
from trajsvc.sources.base import CheckpointSource, never
from trajsvc.sources.named import PATHS, Naming
from trajsvc.sources.resolve import open_named
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.opening import open_trajectory

READING = 8 * 2**20
"""Bytes of the budget that are kept for what reading takes beside the slabs: connections, and where every tensor lies in every file."""


def source_of(
    source: str | Path,
    options: RunOptions,
    store: Path | None = None,
    stop: Callable[[], bool] = never,
    pins: Mapping[str, str] | None = None,
    naming: Naming = PATHS,
) -> CheckpointSource:
    """The source that a user names, opened with ``options``; see ``open_named``. What is read ahead lies in a folder of ``store``."""
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


def trajectory_of(source: CheckpointSource, options: RunOptions) -> Trajectory:
    """The checkpoints of ``source`` that ``options`` choose, side by side. Raises what reading headers raises."""
    rules = None if options.rules is None else parse_rules(options.rules, "the rules file")
    return open_trajectory(
        source,
        steps=options.steps,
        rules=rules,
        heads=options.heads,
        skip_damaged=options.skip_damaged,
        exclude=options.exclude,
        rename=options.rename,
    )


def plan_of(
    trajectory: Trajectory, options: Options, *, new: int | None = None, sample: float = DEFAULT_SAMPLE
) -> Plan:
    """The slabs of an analysis with ``options``. Raises LimitExceeded (``memory-budget``)."""
    return make_plan(
        trajectory.columns,
        len(trajectory.rows),
        new=new,
        memory=options.memory,
        reserve=READING,
        threads=options.threads,
        sample_fraction=options.preview or sample,
        precision=options.precision,
        dtype=options.dtype,
        workspace=workspace(options.device, len(trajectory.rows), options.precision),
    )
