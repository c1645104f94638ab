"""The Grams of the gradients of single examples, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.errors import Cancelled, Refused
from trajsvc.gradients.layerwise.evaluation import Disagreement, Evaluation
from trajsvc.gradients.layerwise.factors import Contribution, Selection
from trajsvc.gradients.layerwise.held import Held, HeldProducts, HeldRows
from trajsvc.gradients.layerwise.network import Losses, Precision, for_evaluation
from trajsvc.gradients.layerwise.plan import LayerwisePlan, make_plan
from trajsvc.gradients.layerwise.repeats import distinct
from trajsvc.gradients.layerwise.survey import survey
from trajsvc.measures.base import Array
from trajsvc.settings import parse_bytes


@dataclass(frozen=True)
class LayerwiseGrams:
    """K^b (blocks, n, n) float64; ``same`` (blocks, n), equal numbers for vectors known to be equal; ``facts`` of how it was done."""

    gram: Array
    same: NDArray[np.int64]
    facts: Mapping[str, Any]


def _never() -> bool:
    return False


def layerwise_grams(
    module: nn.Module,
    losses: Losses,
    examples: Sequence[Any],
    blocks: Sequence[Block],
    *,
    memory: str | int = "512MiB",
    precision: Precision = "float64",
    together: int | None = None,
    stop: Callable[[], bool] = _never,
) -> LayerwiseGrams:
    """Compute K^b_ij = g_i^b · g_j^b of the gradients g_i = ∇ ``losses(module, [examples[i]])``, for blocks of the module's parameters.

    The weights of linear, convolution and embedding layers are taken from the layers' inputs A and output gradients D, g_i = Σ_t A_it
    D_itᵀ: without forming g_i, Σ_ts (A_it·A_js)(D_it·D_js), where that is cheaper. Scales and shifts of norms, biases, and tensors of
    unknown modules are formed. Inner products are summed in float64. How many examples are evaluated together changes results by
    rounding only (1e-13 of ‖g_i‖‖g_j‖ in float64), and so does ``memory``.

    Args:
        losses: of some examples, (C), each a function of its own example only; ``examples`` are opaque. Examples that are equal (tensors,
            arrays and numbers, and tuples, lists, dicts of them) are evaluated once.
        blocks: parts of tensors of ``module.named_parameters()``. Tied tensors count once, with the sum of their uses' gradients;
            frozen and unused tensors have zero gradients.
        memory: bytes of what is held of gradients; see ``LayerwisePlan``. The network and what autograd keeps come on top.
        together: examples that ``losses`` is given at once, at most.
        stop: asked before every evaluation; Cancelled is raised where it says so.

    Raises LimitExceeded (``memory-budget``), Refused (``gradients-not-finite``, ``not-per-example``).
    """
    if not len(examples):
        raise ValueError("no examples")
    several, index = distinct(examples)
    work = _Work(module, losses, several, blocks, parse_bytes(str(memory)), precision, together, stop)
    gram = work.grams()[:, index[:, None], index]
    zero = np.diagonal(gram, axis1=1, axis2=2) == 0.0
    return LayerwiseGrams(gram, np.where(zero, -1, index[None, :]), work.facts())


def plan(
    module: nn.Module,
    losses: Losses,
    examples: Sequence[Any],
    blocks: Sequence[Block],
    *,
    memory: str | int = "512MiB",
    precision: Precision = "float64",
    together: int | None = None,
) -> LayerwisePlan:
    """Say what ``layerwise_grams`` of the same arguments will hold and do, if all examples are as large as the first two."""
    several, _ = distinct(examples)
    return _Work(module, losses, several, blocks, parse_bytes(str(memory)), precision, together, _never).plan()


def whole_tensors(module: nn.Module) -> tuple[Block, ...]:
    """Make a block of every tensor of ``named_parameters()``."""
    named = module.named_parameters()
    return tuple(Block(n, n, "", "", "", Extent(1, p.numel(), 0, p.numel())) for n, p in named)


class _Work:
    def __init__(
        self,
        module: nn.Module,
        losses: Losses,
        examples: Sequence[Any],
        blocks: Sequence[Block],
        memory: int,
        precision: Precision,
        together: int | None,
        stop: Callable[[], bool],
    ) -> None:
        self.examples, self.blocks, self.memory, self.stop = examples, blocks, memory, stop
        self.precision, self.together = precision, together
        network = for_evaluation(module, precision)
        named = dict(network.named_parameters(remove_duplicate=False))
        self.of: dict[str, list[int]] = {}
        for i, block in enumerate(blocks):
            if block.tensor not in named:
                raise ValueError(f"the module has no parameter {block.tensor}")
            self.of.setdefault(block.tensor, []).append(i)
        learnt = {n: named[n] for n in self.of if named[n].requires_grad and named[n].numel()}
        self.evaluation = Evaluation(network, losses, learnt)
        self.chosen: dict[str, list[Selection]] = {}
        self.planned: LayerwisePlan | None = None

    def plan(self) -> LayerwisePlan:
        looks = survey(self.evaluation, self.examples, single=self.together == 1)
        shapes = {name: look.outer[0][1:] for name, look in looks.items() if look.outer}
        selections = {name: self._selections(name, *shape) for name, shape in shapes.items()}
        self.chosen = {name: found for name, found in selections.items() if found is not None}
        together = 1 if self.evaluation.apart else self.together
        return make_plan(looks, frozenset(self.chosen), len(self.examples), self.memory, together=together)

    def _selections(self, name: str, rows: int, columns: int, tokens: bool) -> list[Selection] | None:
        found = [Selection.of(self.blocks[b].extent, rows, columns) for b in self.of[name]]
        known = [s for s in found if s is not None and not (tokens and s.side == "left")]
        return known if len(known) == len(found) else None

    def grams(self) -> Array:
        """Compute (blocks, n, n) of the examples."""
        while True:
            try:
                return self._once()
            except Disagreement as e:
                self.evaluation.demote(e.names)

    def _once(self) -> Array:
        self.planned = planned = self.plan()
        count = len(self.examples)
        gram = np.zeros((len(self.blocks), count, count))
        for part, size in zip(planned.parts, planned.groups, strict=True):
            for start in range(0, count, size):
                self._group(part, range(start, min(start + size, count)), gram)
        return gram

    def _group(self, part: Sequence[str], group: range, gram: Array) -> None:
        """Hold a group of examples; write its Gram, and its inner products with all examples after it."""
        held = {name: self._held(name, len(group)) for name in part}
        for chunk, gradients in self._evaluated(part, group):
            for name, terms in gradients.items():
                held[name].put(chunk.start - group.start, terms)
        for name in part:
            found = held[name].gram()
            self._refuse(name, found, group)
            _write(gram, self.of[name], group, group, found)
        for chunk, gradients in self._evaluated(part, range(group.stop, len(self.examples))):
            for name, terms in gradients.items():
                _write(gram, self.of[name], group, chunk, held[name].products(terms, len(chunk)))

    def _held(self, name: str, capacity: int) -> Held:
        assert self.planned is not None
        tensor = self.evaluation.tensors[name].detach()
        if name in self.planned.products:
            return HeldProducts(tensor, capacity, self.chosen[name], self.memory // 8)
        return HeldRows(tensor, capacity, [self.blocks[b].extent for b in self.of[name]])

    def _evaluated(self, part: Sequence[str], where: range) -> Iterator[tuple[range, dict[str, list[Contribution]]]]:
        assert self.planned is not None
        size = self.planned.chunk
        for number, start in enumerate(range(where.start, where.stop, size)):
            if self.stop():
                raise Cancelled
            chunk = range(start, min(start + size, where.stop))
            examples = self.examples[chunk.start : chunk.stop]
            yield chunk, self.evaluation.checked(examples, part, [number % len(chunk)])

    def _refuse(self, name: str, found: Tensor, group: range) -> None:
        """Refuse gradients whose squared norm in any block is NaN or infinite."""
        count = int((~found.diagonal(dim1=1, dim2=2).isfinite()).any(dim=0).sum())
        if count:
            raise Refused(
                "gradients-not-finite",
                f"{count} of {len(group)} gradients of {name} have NaN or infinite values",
                hint="Look at the loss of these examples, or choose another checkpoint.",
                tensor=name,
            )

    def facts(self) -> dict[str, Any]:
        assert self.planned is not None
        ways = self.evaluation.ways
        return {
            "mode": "evaluation",
            "precision": self.precision,
            "distinct_examples": len(self.examples),
            "together": self.planned.chunk,
            "evaluations": self.planned.evaluations,
            "not_formed": len(self.planned.products),
            "by_layers": sum(way in ("layer", "repeated") for way in ways.values()),
            "by_autograd": sorted(name for name, way in ways.items() if way in ("together", "alone")),
        }


def _write(gram: Array, blocks: Sequence[int], rows: range, columns: range, found: Tensor) -> None:
    """Put (blocks, rows, columns) into the Gram, and its transpose."""
    for block, values in zip(blocks, found.cpu().numpy(), strict=True):
        gram[block, rows.start : rows.stop, columns.start : columns.stop] = values
        gram[block, columns.start : columns.stop, rows.start : rows.stop] = values.T
