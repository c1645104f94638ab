"""A first look at two examples: by which way each tensor's gradients are taken, and what they come to in bytes and operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trajsvc.errors import Cancelled, TrajsvcError
from trajsvc.gradients.layerwise.evaluation import Disagreement, Evaluation
from trajsvc.gradients.layerwise.factors import Contribution, Outer


@dataclass(frozen=True)
class Look:
    """One tensor's gradient of one example: ``caught`` bytes of its terms, and as the positions T of outer products (R × S).

    ``outer`` is None where it has other terms than outer products.
    """

    parameters: int
    itemsize: int
    caught: int
    outer: tuple[tuple[int, int, int, bool], ...] | None
    """(T, R, S, whether the left factors are tokens) of every use"""


def survey(evaluation: Evaluation, examples: Sequence[Any], *, single: bool) -> Mapping[str, Look]:
    """Settle the ways by the first two examples, both compared with what autograd gives each alone; or one where ``single``."""
    names = list(evaluation.tensors)
    few = examples[: 1 if single else 2]
    evaluation.apart |= len(few) == 1
    found, count = _settled(evaluation, few, names)
    return {name: _look(evaluation, name, found[name], count) for name in names}


def _settled(
    evaluation: Evaluation, few: Sequence[Any], names: Sequence[str]
) -> tuple[dict[str, list[Contribution]], int]:
    """Compute the gradients of some examples, and of how many, once no tensor disagrees."""
    while True:
        try:
            if not evaluation.apart:
                return evaluation.checked(few, names, range(len(few))), len(few)
            first, *_ = [evaluation.checked([example], names, [0]) for example in few]
            return first, 1
        except Disagreement as e:
            evaluation.demote(e.names)
        except (TrajsvcError, Cancelled):
            raise
        except Exception:  # of a network that does not bear what is done with it
            if evaluation.apart:
                raise
            evaluation.simplify()


def _look(evaluation: Evaluation, name: str, found: Sequence[Contribution], count: int) -> Look:
    tensor = evaluation.tensors[name]
    outers = [c for c in found if isinstance(c, Outer)]
    shapes = tuple((o.positions, o.rows, int(o.right.shape[-1]), o.tokens) for o in outers)
    caught = sum(c.bytes for c in found) // count
    return Look(tensor.numel(), tensor.itemsize, caught, shapes if outers and len(outers) == len(found) else None)
