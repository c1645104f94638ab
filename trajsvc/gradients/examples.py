"""Grams of the gradients of single examples, for any torch module and a loss of one example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from trajsvc.measures.gradients.vector_gram import VectorGram

if TYPE_CHECKING:
    import torch

Example = TypeVar("Example")


def example_grams(
    module: torch.nn.Module,
    loss: Callable[[torch.nn.Module, Example], torch.Tensor],
    examples: Sequence[Example],
    *,
    memory: str | int = "512MiB",
    precision: Literal["float32", "float64"] = "float64",
) -> dict[str, VectorGram]:
    """Compute parameter tensor → the Gram of its gradients g_i = ∇ ``loss(module, examples[i])``, i = 1 … n. Their sum is the network's.

    ``loss`` gives a scalar for one example, of the types in which the module computes. The module is copied into ``precision`` and
    evaluation mode where it is not so (no dropout; batch normalisation by its running statistics, as an example's gradient depends on
    no other), and left as it was. A tensor that the loss does not use, or that is frozen, has zero gradients; tied tensors are one,
    under the first name. Examples are evaluated one by one; ``layerwise_grams``, on which this is built, takes several at once.

    Raises LimitExceeded (``memory-budget``) where two gradients of one tensor do not fit into ``memory``, and Refused
    (``gradients-not-finite``, ``not-per-example``).
    """
    import torch

    from trajsvc.gradients.layerwise import layerwise_grams, whole_tensors

    def losses(network: torch.nn.Module, chosen: Sequence[Example]) -> torch.Tensor:
        return torch.stack([_scalar(loss(network, example)) for example in chosen])

    blocks = whole_tensors(module)
    found = layerwise_grams(module, losses, examples, blocks, memory=memory, precision=precision, together=1)
    return {
        block.tensor: VectorGram(gram, block.size, group=f"tensor/{block.tensor}", same=same)
        for block, gram, same in zip(blocks, found.gram, found.same, strict=True)
    }


def _scalar(value: torch.Tensor) -> torch.Tensor:
    if value.numel() != 1:
        raise ValueError(f"the loss of an example is a scalar, not of shape {tuple(value.shape)}")
    return value.reshape(())
