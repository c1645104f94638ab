"""``trajsvc.average``: write an average of a run's checkpoints on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storage_schema.runs.reader import StoredRun
from trajsvc.analysis.average import AverageJob, Written, write_average
from trajsvc.analysis.average_weights import chosen_weights, read_weights
from trajsvc.analysis.cross_runs import place_of, stored_or_analysed
from trajsvc.analysis.options import Options
from trajsvc.errors import Refused, UsageError
from trajsvc.results.run import Run
from trajsvc.sources.base import never


def average(
    run: str | Path | Run,
    folder: str | Path,
    *,
    last: int | None = None,
    ema: float | None = None,
    weights: str | Path | Mapping[int, float] | None = None,
    store: str | Path | None = None,
    memory: str | int | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = never,
) -> Written:
    """Write an average of a run's checkpoints to ``folder``, which must not exist, as transformers writes a model.

    Args:
        run: the name of a stored run, a run, or a source, which is analysed first.
        last: average the last so many checkpoints equally.
        ema: an exponential moving average over the checkpoints, of this decay.
        weights: of checkpoints by step, or a file of them; they sum to 1.
        store, memory: as of ``trajsvc.analyze``.
        progress: called with the bytes that are written, and their total.

    Values are summed in float64 in the order of the steps and rounded once to the last checkpoint's types. Buffers, counters and what is
    no parameter are the last checkpoint's; its configuration and tokenizer are copied. Checkpoints with NaN or
    infinite values are left out.

    Raises:
        TrajsvcError: UsageError (``bad-weights``), Refused (``output-exists``, ``source-gone``), NotFound (``step-not-found``).
    """
    place = Path(store) if store is not None else place_of(run)
    opened = stored_or_analysed(run, place, {"memory": memory})
    given = read_weights(Path(weights)) if isinstance(weights, str | Path) else weights
    chosen = chosen_weights(opened.steps.tolist(), last, ema, given)
    if chosen is None:
        raise UsageError("bad-weights", "an average needs weights", hint="Give last, ema or weights.")
    if not isinstance(opened.stored, StoredRun):
        raise Refused("no-source", f"{opened.name} is on a server", hint="Average where its checkpoints lie.")
    told: dict[str, Any] = {} if progress is None else {"progress": progress}
    return write_average(
        AverageJob(opened.stored, chosen, Path(folder), Options.of(memory=memory).memory, stop=stop, **told)
    )
