"""What a computation of gradients will take, before anything is evaluated: vectors, evaluations, memory, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from storage_schema.runs.contents import BlockTable
from trajsvc.errors import LimitExceeded
from trajsvc.gradients.options import GradientOptions, SetKind
from trajsvc.results.run import Run
from trajsvc.steps import select_steps

_WORK: Final = 3
"""a set's Grams are in memory as they are made, as they are scaled or averaged, and as they are written"""


@dataclass(frozen=True)
class SetForecast:
    """One set: ``vectors`` of each record, how many ``records``, ``evaluations`` of single examples (forward and backward) for each pass,
    and ``passes`` over the tensors, since those that are held at once take ``held`` bytes. ``stored`` bytes are kept for each record.

    Examples alone are mostly not formed, and take less than this.
    """

    kind: SetKind
    vectors: int
    records: int
    evaluations: int
    passes: int
    held: int
    largest: int
    """bytes of the largest tensor's vectors"""
    stored: int

    def check(self, memory: int) -> None:
        """Raise LimitExceeded (``memory-budget``) where it does not fit."""
        grams = _WORK * self.stored
        if grams > memory:
            raise LimitExceeded(
                "memory-budget",
                f"the Grams of {self.vectors} vectors of the set {self.kind} take {_mib(grams)} MiB, more than the memory budget of "
                f"{memory >> 20} MiB",
                hint=f"Give --memory {_mib(grams)}MiB, or fewer --examples or --directions.",
            )
        if self.largest > memory and self.kind not in ("example", "input_gradients"):
            raise LimitExceeded(
                "memory-budget",
                f"{self.vectors} vectors of the largest tensor, of the set {self.kind}, take {_mib(self.largest)} MiB, more than the "
                f"memory budget of {memory >> 20} MiB",
                hint=f"Give --memory {_mib(self.largest)}MiB, fewer --examples or --directions, or a part of the coordinates with --mask.",
            )


def forecast_run(run: Run, options: GradientOptions) -> list[SetForecast]:
    """Forecast every set of ``options`` at its checkpoints of a run. Raises NotFound (``step-not-found``), UsageError (``bad-steps``)."""
    steps = run.stored.checkpoints.step.tolist()
    chosen = select_steps(None if options.steps == "all" else options.steps, steps)
    return forecasts(run.stored.blocks, options, len(chosen))


def forecasts(blocks: BlockTable, options: GradientOptions, steps: int) -> list[SetForecast]:
    """Forecast every set of ``options`` at ``steps`` checkpoints of a run with ``blocks``."""
    tensors: dict[str, int] = {}
    for tensor, size in zip(blocks.tensor, blocks.size.tolist(), strict=True):
        kept = size if options.mask is None else ceil(options.mask * size)
        tensors[tensor] = tensors.get(tensor, 0) + kept
    return [_forecast(kind, options, steps, tensors, len(blocks.name)) for kind in options.sets]


def _forecast(
    kind: SetKind, options: GradientOptions, steps: int, tensors: Mapping[str, int], blocks: int
) -> SetForecast:
    vectors, evaluations = _counts(kind, options, steps)
    rows = [8 * vectors * (2 if kind == "path" else 1) * size for size in tensors.values()]
    passes = max(1, ceil(sum(rows) / options.memory))
    kept = 1 if kind == "input_gradients" else blocks
    return SetForecast(
        kind,
        vectors,
        records=1 if kind in ("full", "points") else steps,
        evaluations=evaluations,
        passes=passes,
        held=min(sum(rows), options.memory),
        largest=max(rows, default=0),
        stored=8 * vectors**2 * kept * (2 if kind == "path" else 1),
    )


def _counts(kind: SetKind, options: GradientOptions, steps: int) -> tuple[int, int]:
    """Vectors, and evaluations of single examples for one record."""
    n, size, directions = options.examples, options.batch, options.directions
    batches = n // size
    ways = {"targeted": 1, "limited": size, "random": 0}[options.perturbation]
    counts: dict[SetKind, tuple[int, int]] = {
        "example": (n, n),
        "batch": (batches, 2 * n),
        "full": (steps, steps * n),
        "path": (batches, 2 * n),
        "points": (directions, directions * size),
        "anchored": (n, 2 * n),
        "weights": (2 * directions + 1, size + 2 * directions * (size + ways)),
        "inputs": (n * (directions + 1), n * (directions + 1) + directions),
        "input_gradients": (n, n),
    }
    return counts[kind]


def _mib(count: int) -> int:
    return -(-count // 2**20)
