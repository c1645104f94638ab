"""Sets of gradients of a network in memory, on the digits: the same sets as of a stored run's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trajsvc.anatomy.dissect import dissect
from trajsvc.experiments.data import Split
from trajsvc.gradients.network import Network
from trajsvc.gradients.options import GradientOptions, SetKind
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob
from trajsvc.measures.gradients.vector_gram import VectorGram

if TYPE_CHECKING:
    import torch


class SplitProbe:
    """A probe of labelled images in memory."""

    digest = "memory"

    def __init__(self, split: Split) -> None:
        self.split = split

    @cached_property
    def examples(self) -> Sequence[Any]:
        return list(zip(self.split.x.double(), self.split.y, strict=True))

    def network(self, config: Mapping[str, Any] | None) -> torch.nn.Module:
        raise LookupError("the network is in memory")

    def losses(self, network: torch.nn.Module, examples: Sequence[Any]) -> torch.Tensor:
        return self.losses_at(network, self.inputs(network, examples), examples)

    def inputs(self, network: torch.nn.Module, examples: Sequence[Any]) -> torch.Tensor:
        """Return the images, (examples, 1, 8, 8)."""
        import torch

        return torch.stack([x for x, _ in examples])

    def losses_at(self, network: torch.nn.Module, inputs: torch.Tensor, examples: Sequence[Any]) -> torch.Tensor:
        import torch

        labels = torch.stack([y for _, y in examples])
        return torch.nn.functional.cross_entropy(network(inputs), labels, reduction="none")


def sets_of(
    module: torch.nn.Module, split: Split, kinds: Sequence[SetKind], **options: Any
) -> dict[SetKind, tuple[VectorGram, Mapping[str, Any]]]:
    """Compute sets of a network: kind → the network's Gram, and the sums over all blocks of the scalars that go with it."""
    return {
        kind: (
            grams.group(range(len(grams.blocks))),
            {name: values.sum(axis=0) for name, values in grams.scalars.items()},
        )
        for kind, grams in _computed(module, split, kinds, options).items()
    }


def set_of(module: torch.nn.Module, split: Split, kind: SetKind, **options: Any) -> SetGrams:
    """Compute one set of a network, block by block."""
    return _computed(module, split, (kind,), options)[kind]


def _computed(
    module: torch.nn.Module, split: Split, kinds: Sequence[SetKind], options: Mapping[str, Any]
) -> Mapping[SetKind, SetGrams]:  # fmt: skip
    chosen = GradientOptions(probe="memory", data="memory", sets=tuple(kinds), **options)
    network = module.double().eval()
    blocks = dissect({n: (tuple(p.shape), "float64") for n, p in network.named_parameters()}).blocks
    from trajsvc.gradients.sets.choose import compute_sets  # imports torch

    return compute_sets(SetJob(Network(network, blocks, blocks, 0), SplitProbe(split), chosen), kinds)
