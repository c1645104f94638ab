"""What every set is made from: a network, examples in order, batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from trajsvc.anatomy.blocks import Block
from trajsvc.errors import Refused, UsageError
from trajsvc.gradients.fill import part
from trajsvc.gradients.masks import Mask
from trajsvc.gradients.memory import room
from trajsvc.gradients.network import Network
from trajsvc.gradients.options import GradientOptions, SetKind
from trajsvc.gradients.perturbations import difference, norm, times
from trajsvc.gradients.probes.base import Probe
from trajsvc.gradients.rows import Formed, Vectors, formed_grams, sum_of_losses
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.measures.base import Array
from trajsvc.sources.base import never

if TYPE_CHECKING:
    import torch


def _nowhere(step: int) -> Network:
    """Refuse: a job without other checkpoints."""
    raise LookupError(step)


@dataclass(frozen=True)
class SetJob:
    """One set at one checkpoint. ``stop`` is asked between examples."""

    network: Network
    probe: Probe
    options: GradientOptions
    stop: Callable[[], bool] = never
    elsewhere: Callable[[int], Network] = _nowhere
    """the network at the checkpoint of another step"""
    steps: tuple[int, ...] = ()
    """the chosen checkpoints, of which this is one"""

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

    @contextmanager
    def batch_statistics(self) -> Iterator[None]:
        """Normalise by the statistics of the batch where the options say so, as in training; running statistics stay what they are."""
        from torch.nn.modules.batchnorm import _BatchNorm

        norms = [part for part in self.module.modules() if isinstance(part, _BatchNorm) and not part.training]
        if self.options.batch_norm == "evaluation" or not norms:
            yield
            return
        kept = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
        try:
            for norm in norms:
                norm.train()
            yield
        finally:
            for norm, values in zip(norms, kept, strict=True):
                norm.eval()
                for name, buffer in norm.named_buffers():
                    buffer.copy_(values[name])

    def losses(self, module: torch.nn.Module, examples: Sequence[Any]) -> torch.Tensor:
        """Return the probe's losses. Raises UsageError (``bad-probe``) where they are not one number an example."""
        found = self.probe.losses(module, examples)
        if tuple(found.shape) != (len(examples),):
            words = f"probe {self.options.probe} gave losses of shape {tuple(found.shape)} for {len(examples)} examples"
            raise UsageError("bad-probe", words, hint='Its losses are one number an example: reduction="none".')
        return found

    def loss(self, places: Sequence[int]) -> torch.Tensor:
        """Compute the mean loss of some of the examples."""
        return self.losses(self.module, [self.examples[i] for i in places]).mean()

    def gradient(self, places: Sequence[int], names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """Compute the gradient of the mean loss of some examples, by tensor, in float64."""
        tensors = self.parameters if names is None else {name: self.parameters[name] for name in names}
        return sum_of_losses(self.loss(places), tensors)

    def of_each(self) -> Vectors:
        """Compute the gradient of every example."""

        def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
            for i in range(len(self.examples)):
                yield self.gradient([i], names)

        return vectors

    @cached_property
    def mask(self) -> Mask | None:
        """The sample of the coordinates that the vectors are taken at; None where it is all of them."""
        return None if self.options.mask is None else Mask(self.options.mask, self.options.seed)

    def formed(self, kind: SetKind, count: int, vectors: Vectors, blocks: Sequence[Block] | None = None) -> Formed:
        """Return the Grams of vectors that are formed, of the network's blocks or of others. Raises as ``formed_grams``."""
        known = self.blocks if blocks is None else blocks
        free = room(kind, self.network.parameters, self.options)
        return formed_grams(known, count, vectors, free, self.stop, self.mask)

    def result(
        self,
        kind: SetKind,
        formed: Formed,
        labels: Sequence[str],
        *,
        scalars: Mapping[str, Array] | None = None,
        blocks: tuple[Block, ...] | None = None,
        **facts: Any,
    ) -> SetGrams:
        """Return a set as it is stored, with what is noted of every set."""
        known = self.blocks if blocks is None else blocks
        noted = {**self.facts(), **facts}
        if self.mask is not None and formed.parts is not None:
            noted |= self.mask.facts(kind, formed.parts, sum(block.size for block in known))
        return SetGrams(kind, known, formed.gram, tuple(labels), same=formed.same, scalars=scalars or {}, facts=noted)

    def squares(self, values: Mapping[str, torch.Tensor]) -> Array:
        """Squared norm of every block, (blocks), of values by tensor; float64."""
        parts = (part(values[b.tensor].detach().reshape(-1), b) for b in self.blocks)
        return np.array([float(value.double().pow(2).sum()) for value in parts])

    def mean_gradient(self, size: int, names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """Compute the gradient of the mean loss of all the examples, ``size`` of them evaluated together."""
        count = len(self.examples)
        total: dict[str, torch.Tensor] = {}
        for start in range(0, count, size):
            places = range(start, min(start + size, count))
            for name, found in self.gradient(places, names).items():
                part_of_mean = found * (len(places) / count)
                total[name] = total[name].add_(part_of_mean) if name in total else part_of_mean
        return total

    def put(self, values: Mapping[str, torch.Tensor]) -> None:
        """Give the parameters new values, in the network's precision."""
        import torch

        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value.view_as(self.parameters[name]))

    def step(self, move: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Move the parameters, and return by how much they moved in the network's precision, in float64."""
        import torch

        made = {}
        with torch.no_grad():
            for name, change in move.items():
                parameter = self.parameters[name]
                before = parameter.detach().double().clone()
                parameter.copy_(before + change.double().view_as(before))
                made[name] = parameter.detach().double() - before
        return made

    @contextmanager
    def moved(self, move: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        """Move the parameters by ``move`` and give by how much they were moved; afterwards they are what they were, bit for bit."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        try:
            yield self.step(move)
        finally:
            self.put(kept)

    def noise_floor(self, places: Sequence[int]) -> float | None:
        """‖g − g'‖/‖g‖ of the gradient of some examples and the same gradient with other rounding: the examples in reverse, their loss
        times 3. Differences of gradients that are not much larger are noise. None where the gradient is zero.
        """
        losses = self.losses(self.module, [self.examples[i] for i in reversed(places)])
        again = times(sum_of_losses(3.0 * losses.mean(), self.parameters), 1.0 / 3.0)
        first = self.gradient(places)
        length = norm(first)
        return norm(difference(again, first)) / length if length > 0.0 else None

    @property
    def losses_per_example(self) -> int:
        """How many losses an example's is the mean of, as those of the tokens of a window; 1 where the probe does not say it."""
        return int(getattr(self.probe, "losses_per_example", 1))

    @property
    def labels(self) -> tuple[str, ...]:
        """The examples' numbers in the data."""
        return tuple(map(str, self.chosen))

    @property
    def scale(self) -> str:
        """What η is."""
        return "absolute" if self.options.absolute else "relative"

    def facts(self) -> dict[str, Any]:
        """Return what is noted of any set."""
        return {
            "mode": "evaluation",
            "batch_norm": self.options.batch_norm,
            "examples": len(self.examples),
            "losses_per_example": self.losses_per_example,
            "loss": float(self.loss(self.batches[0] if self.options.batch_norm == "training" else [0]).detach()),
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


def numbers(count: int) -> tuple[str, ...]:
    """Labels of vectors that are only in order."""
    return tuple(map(str, range(count)))
