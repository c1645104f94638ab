"""What every set is made from: a network, examples in order, batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from trajsvc.anatomy.blocks import Block
from trajsvc.errors import Refused
from trajsvc.gradients.network import Network, part
from trajsvc.gradients.options import GradientOptions
from trajsvc.gradients.probes.base import Probe
from trajsvc.gradients.rows import Vectors, sum_of_losses
from trajsvc.measures.base import Array
from trajsvc.sources.base import never

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SetJob:
    """One set at one checkpoint. ``stop`` is asked between examples."""

    network: Network
    probe: Probe
    options: GradientOptions
    stop: Callable[[], bool] = never

    @property
    def module(self) -> torch.nn.Module:
        return self.network.module

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks over the module's own named parameters."""
        return self.network.places

    @cached_property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The tensors that the blocks are of."""
        named = dict(self.module.named_parameters())
        return {name: named[name] for name in dict.fromkeys(b.tensor for b in self.blocks)}

    @cached_property
    def chosen(self) -> list[int]:
        """Numbers of the examples, in order: the first ones, or drawn without replacement by ``shuffle``."""
        return chosen_examples(len(self.probe.examples), self.options)

    @cached_property
    def examples(self) -> list[Any]:
        return [self.probe.examples[i] for i in self.chosen]

    @cached_property
    def batches(self) -> list[list[int]]:
        """Places among ``examples`` of each whole batch. Raises Refused (``too-few-examples``) where there is none."""
        size = self.options.batch
        found = [list(range(j, j + size)) for j in range(0, len(self.examples) - size + 1, size)]
        if not found:
            hint = "Give a smaller --batch, or more --examples."
            raise Refused("too-few-examples", f"{len(self.examples)} examples are no batch of {size}", hint=hint)
        return found

    def loss(self, places: Sequence[int]) -> torch.Tensor:
        """The mean loss of some of the examples."""
        return self.probe.losses(self.module, [self.examples[i] for i in places]).mean()

    def gradient(self, places: Sequence[int], names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """The gradient of the mean loss of some examples, by tensor, in float64."""
        tensors = self.parameters if names is None else {name: self.parameters[name] for name in names}
        return sum_of_losses(self.loss(places), tensors)

    def of_each(self) -> Vectors:
        """The gradient of every example."""

        def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
            for i in range(len(self.examples)):
                yield self.gradient([i], names)

        return vectors

    def squares(self, values: Mapping[str, torch.Tensor]) -> Array:
        """Squared norm of every block, (blocks), of values by tensor; float64."""
        return np.array([float(part(values[b.tensor].reshape(-1), b).double().pow(2).sum()) for b in self.blocks])

    @contextmanager
    def moved(self, move: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """The parameters moved by ``move``; afterwards they are what they were, bit for bit."""
        import torch

        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        try:
            with torch.no_grad():
                for name, by in move.items():
                    self.parameters[name].add_(by.to(self.parameters[name].dtype).view_as(self.parameters[name]))
            yield
        finally:
            with torch.no_grad():
                for name, values in kept.items():
                    self.parameters[name].copy_(values)

    def facts(self) -> dict[str, Any]:
        """What is noted of any set."""
        return {
            "mode": "evaluation",
            "examples": len(self.examples),
            "loss": float(self.probe.losses(self.module, self.examples[:1]).detach()[0]),
            "parameters_left_out": sorted(set(dict(self.module.named_parameters())) - set(self.parameters)),
        }


def chosen_examples(there: int, options: GradientOptions) -> list[int]:
    """Numbers of the chosen examples. Raises Refused (``too-few-examples``) where the data have fewer than are asked for."""
    if options.examples > there:
        hint = f"Give --examples {there}, or more data."
        raise Refused(
            "too-few-examples", f"the data hold {there} examples, {options.examples} were asked for", hint=hint
        )
    if options.shuffle is None:
        return list(range(options.examples))
    drawn = np.random.default_rng(options.shuffle).permutation(there)[: options.examples]
    return [int(i) for i in drawn]
