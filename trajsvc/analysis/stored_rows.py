"""The parameters of a stored run once more: from its own copy where it keeps one, else from where it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from storage_schema.runs.reader import StoredRun
from trajsvc.analysis import identity
from trajsvc.analysis.options import CHOICES, Options
from trajsvc.analysis.selected import source_of, trajectory_of
from trajsvc.errors import NotFound, Refused, RunExists
from trajsvc.sources.base import CheckpointSource, never
from trajsvc.trajectory.joined import BlockRows, SourceRows, StoredRows
from trajsvc.trajectory.matrix import Trajectory

Opener = Callable[[StoredRun, Options, Callable[[], bool]], CheckpointSource]
"""(run, the options that say what its checkpoints are, stop) → the source that they came from"""


@dataclass(frozen=True)
class RunRows:
    """The checkpoints of a stored run, opened: ``trajectory`` where they are read from the source."""

    run: StoredRun
    rows: BlockRows
    trajectory: Trajectory | None = None

    def close(self) -> None:
        if self.trajectory is not None:
            self.trajectory.source.close()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor; empty where only a copy is read, which does not say."""
        found = self.trajectory
        return {} if found is None else {c.name: s for c, s in zip(found.columns, found.shapes, strict=True)}


def options_of_run(run: StoredRun) -> Options:
    """Return the options that say which checkpoints a stored run has, and what their tensors mean."""
    choices = {k: v for k, v in (run.attributes.get("choices") or {}).items() if k in CHOICES}
    return Options.of({"state": identity.stored_state(run), **choices})


def open_at_source(run: StoredRun, options: Options, stop: Callable[[], bool] = never) -> CheckpointSource:
    """Open the source that a run came from. Raises Refused (``source-gone``)."""
    where = identity.stored_source(run)
    try:
        return source_of(where, options, run.path.parent.parent, stop)
    except NotFound as error:
        raise _gone(run, f"its checkpoints are not at {where}") from error


def open_rows(run: StoredRun, opener: Opener = open_at_source, stop: Callable[[], bool] = never) -> RunRows:
    """Open the checkpoints of a run for reading.

    Raises Refused (``source-gone``, ``checkpoint-changed``) if they are neither kept nor where they were, and what
    opening and reading headers raises.
    """
    if run.has_theta:
        return RunRows(run, StoredRows(run.path))
    trajectory = trajectory_of_run(run, opener, stop)
    return RunRows(run, SourceRows(trajectory), trajectory)


def trajectory_of_run(run: StoredRun, opener: Opener = open_at_source, stop: Callable[[], bool] = never) -> Trajectory:
    """Read the headers of a stored run's checkpoints, and prove that they are those that were analysed. Raises as ``open_rows``."""
    options = options_of_run(run)
    source = opener(run, options, stop)
    try:
        steps = run.checkpoints.step.tolist()
        plain = all(step >= 0 for step in steps)
        found = trajectory_of(source, options.with_(steps=",".join(map(str, steps))) if plain else options)
        identity.check(run, found, state=options.state)
    except RunExists as error:
        source.close()
        raise _changed(run, error.why or error.message) from error
    except NotFound as error:
        source.close()
        raise _gone(run, error.message) from error
    except BaseException:
        source.close()
        raise
    rows = {row.step: row for row in found.rows}
    if missing := [step for step in steps if step not in rows]:
        source.close()
        raise _gone(run, f"steps {', '.join(map(str, missing[:6]))} are no longer at {found.source.uri}")
    if [b.name for b in found.anatomy.blocks] != list(run.blocks.name):
        source.close()
        raise _changed(run, "its tensors have other names")
    return replace(found, rows=tuple(rows[step] for step in steps))


def _gone(run: StoredRun, why: str) -> Refused:
    hint = f"Put them back, or analyse {run.name} again with --copy, which keeps them in the store."
    return Refused("source-gone", f"the parameters of {run.name} cannot be read: {why}", hint=hint)


def _changed(run: StoredRun, why: str) -> Refused:
    hint = "Analyse the run again (`trajsvc analyze`), then repeat this."
    return Refused("checkpoint-changed", f"{run.name} is not what was analysed: {why}", hint=hint)
