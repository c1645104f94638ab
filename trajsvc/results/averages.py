"""The table of averages of a run's checkpoints: windows of the last ones, moving averages, and given weights."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.averages import AverageRow, AveragesAnswer
from trajsvc.measures.averages import average_of, ema_weights, last_weights
from trajsvc.measures.base import GroupGram
from trajsvc.results.labels import plain
from trajsvc.results.measure_methods import Steps
from trajsvc.results.run import Run

DECAYS: Final = (0.5, 0.8, 0.9, 0.95, 0.99)
WHOLE: Final = 12
"""windows up to which every length is a row; longer ones are in powers of two"""


def averages(
    run: Run, group: str = "network", steps: Steps = None, given: NDArray[np.float64] | None = None
) -> AveragesAnswer:
    """Describe averages of a group's checkpoints: the last k, moving averages, and ``given`` weights, (T,).

    Raises NotFound (``group-not-found``, ``step-not-found``).
    """
    gram = run.gram(group, steps)
    count = len(gram.steps)
    lengths = sorted({*range(1, min(count, WHOLE) + 1), *(2**k for k in range(4, 63) if 2**k < count), count})
    rows = [_row(gram, f"last {k}", last_weights(count, k)) for k in lengths]
    rows += [_row(gram, f"ema {decay:g}", ema_weights(count, decay)) for decay in DECAYS if count > 1]
    if given is not None:
        rows.append(_row(gram, "given", given))
    return AveragesAnswer(
        run=run.name,
        group=gram.group,
        parameters=gram.parameters,
        axis=run.axis,
        steps=gram.steps.tolist(),
        averages=rows,
    )


def _row(gram: GroupGram, name: str, weights: NDArray[np.float64]) -> AverageRow:
    found = average_of(gram, weights)
    travelled = _travelled(gram)
    relative = found.distance / travelled if travelled > 0.0 else float("nan")
    used = np.flatnonzero(weights)
    return AverageRow(
        weights=name, checkpoints=len(used), from_step=int(gram.steps[used[0]]), distance=plain(found.distance),
        relative_distance=plain(relative), variance_removed=plain(found.variance_removed), norm=plain(found.norm),
    )  # fmt: skip


def _travelled(gram: GroupGram) -> float:
    """Return the distance of the last checkpoint from the first."""
    first = np.zeros(len(gram.steps))
    first[0] = 1.0
    return average_of(gram, first).distance
