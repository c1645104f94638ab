"""Publish a running job's estimate as a run that can be read meanwhile, and is replaced by a better one until the run itself is committed.

It lies in a store of its own below the store (``RunStore.live``), so that what is committed to a run is exact or was asked for as an
estimate. Nothing depends on it: it may be missing, old or removed at any time.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from storage_schema.errors import RunMissing, TrajsvcError
from storage_schema.runs.store import RunStore, StoredRun
from trajsvc.analysis import assemble
from trajsvc.analysis.options import Options
from trajsvc.analysis.pipeline import facts_of

if TYPE_CHECKING:
    from trajsvc.gram.sums import GramState
    from trajsvc.trajectory.matrix import Trajectory


def is_estimate(run: StoredRun) -> bool:
    """Return whether a run holds an estimate from a part of its bytes."""
    return run.attributes.get("estimate") is not None


def may_show(store: Path, run: str) -> bool:
    """Return whether a job's estimate of ``run`` may be shown: not if the store has an exact run."""
    try:
        return is_estimate(RunStore(store).open(run))
    except RunMissing:
        return True
    except TrajsvcError:  # of the store, or of the system under it
        return False


def show(store: Path, run: str, trajectory: Trajectory, state: GramState, options: Options) -> float:
    """Replace the last estimate by that from the slabs in ``state``; return the share of the parameters that it is
    from.

    The standard errors (from several Grams beside each, with replicates left out) are left out if they would take more
    than half of the job's memory. Raises what writing to the store raises.
    """
    contents = assemble.run_contents(
        run,
        trajectory,
        state,
        facts_of(trajectory, state.plan, state, options),
        replicates=2 * state.sums.nbytes * (1 + state.plan.replicates) <= options.memory,
    )
    with RunStore(store).live.writer(run) as writer:
        writer.commit(contents, theta="drop")
    return state.fraction


def clear(store: Path, run: str) -> None:
    """Remove the estimate: the run is committed, or the estimate is no longer wanted."""
    with suppress(TrajsvcError, OSError):
        RunStore(store).live.remove(run)
