"""What a computation of gradients will take, before anything is evaluated: vectors, evaluations, memory, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from storage_schema.runs.contents import BlockTable
from trajsvc.errors import LimitExceeded, Refused, TrajsvcError
from trajsvc.gradients.memory import beside, least, room
from trajsvc.gradients.options import OF_BATCHES, GradientOptions, SetKind
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
    beside: int
    """bytes of further vectors of the network's size beside ``held``"""
    least: int
    """bytes of memory without which the set is refused"""
    stored: int

    def check(self, options: GradientOptions) -> None:
        """Raise LimitExceeded (``memory-budget``, ``vectors-limit``) where it does not fit, and Refused (``not-per-example``) where
        gradients of single examples are to be taken by the statistics of a batch.
        """
        self._check_examples(options)
        if self.vectors > options.max_vectors:
            raise LimitExceeded(
                "vectors-limit",
                f"the set {self.kind} has {self.vectors} vectors, more than {options.max_vectors}: a record takes {_mib(self.stored)} MiB",
                hint=f"Give --max-vectors {self.vectors}, or {self._fewer}.",
            )
        self._check_memory(options.memory)

    @property
    def _fewer(self) -> str:
        """What makes the vectors fewer."""
        ways = {"weights": "fewer --directions", "points": "fewer --directions", "full": "fewer --steps"}
        ways |= {"batch": "larger batches with --batch", "inputs": "fewer --examples or --directions"}
        return ways.get(self.kind, "fewer --examples")

    def _check_examples(self, options: GradientOptions) -> None:
        if options.batch_norm == "training" and self.kind not in OF_BATCHES:
            raise Refused(
                "not-per-example",
                f"the set {self.kind} has gradients of single examples, or of all: by the statistics of a batch (--batch-norm training) "
                "one depends on the others",
                hint=f"Only {', '.join(OF_BATCHES)} may be computed so; compute the other sets without --batch-norm.",
            )

        if options.batch_norm == "training" and options.batch < 2:
            words = f"the set {self.kind} has batches of one example, which have no statistics to normalise by"
            raise Refused("too-few-examples", words, hint="Give --batch 2 or more, or leave --batch-norm out.")

    def _check_memory(self, memory: int) -> None:
        grams = _WORK * self.stored
        if grams > memory:
            raise LimitExceeded(
                "memory-budget",
                f"the Grams of {self.vectors} vectors of the set {self.kind} take {_mib(grams)} MiB, more than the memory budget of "
                f"{memory >> 20} MiB",
                hint=f"Give --memory {_mib(grams)}MiB, or fewer --examples or --directions.",
            )
        if self.least > memory and self.kind not in ("example", "input_gradients"):
            raise LimitExceeded(
                "memory-budget",
                f"{self.vectors} vectors of the largest tensor, of the set {self.kind}, and what is held beside them take "
                f"{_mib(self.least)} MiB, more than the memory budget of {memory >> 20} MiB",
                hint=f"Give --memory {_mib(self.least)}MiB, fewer --examples or --directions, or a part of the coordinates with --mask.",
            )


def refusal(forecast: SetForecast, options: GradientOptions) -> str | None:
    """Return why a computation with ``options`` would refuse the set, and what to do; None where it would not."""
    try:
        forecast.check(options)
    except TrajsvcError as error:
        return " ".join(filter(None, [f"{error.message}.", error.hint]))
    return None


def forecast_run(run: Run, options: GradientOptions) -> list[SetForecast]:
    """Forecast every set of ``options`` at its checkpoints of a run. Raises NotFound (``step-not-found``), UsageError (``bad-steps``)."""
    steps = run.stored.checkpoints.step.tolist()
    chosen = select_steps(None if options.steps == "all" else options.steps, steps)
    return forecasts(run.stored.blocks, options, len(chosen))


def forecasts(blocks: BlockTable, options: GradientOptions, steps: int) -> list[SetForecast]:
    """Forecast every set of ``options`` at ``steps`` checkpoints of a run with ``blocks``."""
    tensors: dict[str, int] = {}
    parameters = int(sum(blocks.size.tolist()))
    for tensor, size in zip(blocks.tensor, blocks.size.tolist(), strict=True):
        kept = size if options.mask is None else ceil(options.mask * size)
        tensors[tensor] = tensors.get(tensor, 0) + kept
    return [_forecast(kind, options, steps, tensors, len(blocks.name), parameters) for kind in options.sets]


def _forecast(
    kind: SetKind, options: GradientOptions, steps: int, tensors: Mapping[str, int], blocks: int, parameters: int
) -> SetForecast:
    vectors, evaluations = _counts(kind, options, steps)
    rows = [8 * vectors * (2 if kind == "path" else 1) * size for size in tensors.values()]
    largest = max(rows, default=0)
    free = max(largest, room(kind, parameters, options), 1)
    passes = max(1, ceil(sum(rows) / free))
    kept = 1 if kind == "input_gradients" else blocks
    return SetForecast(
        kind,
        vectors,
        records=1 if kind in ("full", "points") else steps,
        evaluations=evaluations,
        passes=passes,
        held=min(sum(rows), free),
        largest=largest,
        beside=beside(kind, parameters, options),
        least=least(kind, parameters, largest, options),
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
