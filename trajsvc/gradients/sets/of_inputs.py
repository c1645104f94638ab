"""The sets of the input: gradients with respect to it, and how the gradient of the parameters answers to small moves of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.errors import UsageError
from trajsvc.gradients.perturbations import difference, drawn, scaled, sign, uniform
from trajsvc.gradients.probes.base import InputProbe
from trajsvc.gradients.rows import sum_of_losses
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob
from trajsvc.measures.base import Array

if TYPE_CHECKING:
    import torch

INPUT = "input"


def input_gradients_set(job: SetJob) -> SetGrams:
    """h_i = ∇_x ℓ_i of every example i, n = N; one block, ``input``. Of tokens, x are their embeddings."""
    inputs = _Inputs(job)
    size = int(inputs.of(0).numel())
    block = Block(INPUT, INPUT, "", "", "", Extent(1, size, 0, size))
    count = len(job.examples)

    def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        for i in range(count):
            yield {INPUT: inputs.gradient(i)}

    return job.result(
        "input_gradients", job.formed("input_gradients", count, vectors, [block]), job.labels, blocks=(block,)
    )


def inputs_set(job: SetJob) -> SetGrams:
    """Form, example by example, [g(x), g(x + δ_1) − g(x), …, g(x + δ_n) − g(x)], the label kept, the same n directions for all m examples;
    m (n + 1) vectors.

    Scalars: ``input_squares`` (1, m) ‖x_i‖², ``perturbation_squares`` (1, m, n) ‖δ_ik‖² as they were made in the network's precision.
    """
    moves = _InputMoves(job)
    formed = job.formed("inputs", moves.count, moves.vectors)
    scalars = {"input_squares": moves.sizes[None], "perturbation_squares": moves.squares[None]}
    labels = [f"{i} {k or 'g'}" for i in job.chosen for k in range(moves.directions + 1)]
    facts: dict[str, Any] = {"directions": moves.directions, "eta": job.options.eta, "scale": job.scale}
    return job.result("inputs", formed, labels, scalars=scalars, noise_floor=job.noise_floor([0]), **facts)


class _Inputs:
    """The examples' inputs, and their losses as functions of them. Raises UsageError (``bad-probe``) for a probe that has none."""

    def __init__(self, job: SetJob) -> None:
        if not isinstance(job.probe, InputProbe):
            raise UsageError(
                "bad-probe",
                f"the probe {job.options.probe} does not say what its input is, which the sets inputs and input_gradients need",
                hint="Give it the methods inputs and losses_at, or leave these sets out of --sets.",
            )
        self.job, self.probe = job, job.probe

    def of(self, i: int) -> torch.Tensor:
        """Return the input of one example, apart from the network."""
        return self.probe.inputs(self.job.module, [self.job.examples[i]]).detach()

    def gradient(self, i: int) -> torch.Tensor:
        """h_i, in float64."""
        x = self.of(i).requires_grad_()
        return _float64(self.probe.losses_at(self.job.module, x, [self.job.examples[i]])[0], x)

    def of_parameters(self, i: int, move: torch.Tensor | None, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """g(x_i + ``move``) by tensor. An input that the network itself makes (embeddings) stays a function of its parameters."""
        x = self.probe.inputs(self.job.module, [self.job.examples[i]])
        moved = x if move is None else x + move.to(x.dtype)
        loss = self.probe.losses_at(self.job.module, moved, [self.job.examples[i]])[0]
        return sum_of_losses(loss, {name: self.job.parameters[name] for name in names})


class _InputMoves(_Inputs):
    """The moves of the inputs: direction k for every example."""

    def __init__(self, job: SetJob) -> None:
        super().__init__(job)
        self.directions = job.options.directions
        self.count = len(job.examples) * (self.directions + 1)
        self.sizes: Array = np.zeros(len(job.examples))
        self.squares: Array = np.zeros((len(job.examples), self.directions))

    def vectors(self, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
        directions = [self._direction(k) for k in range(self.directions)]
        for i in range(len(self.job.examples)):
            x = self.of(i)
            self.sizes[i] = float(x.double().pow(2).sum())
            base = self.of_parameters(i, None, names)
            yield base
            for k, direction in enumerate(directions):
                move = self._move(x, direction)
                self.squares[i, k] = float(((x + move).double() - x.double()).pow(2).sum())
                yield difference(self.of_parameters(i, move, names), base)

    def _direction(self, k: int) -> torch.Tensor:
        options = self.job.options
        if options.perturbation == "random":
            return uniform(self.of(0), options, k)
        return sign(options, k) * self.gradient(drawn(options, k, len(self.job.examples)))

    def _move(self, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        size = float(x.double().pow(2).sum().sqrt())
        return scaled({INPUT: direction}, size, self.job.options, self.job.options.eta)[INPUT].to(x.dtype)


def _float64(loss: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    import torch

    found: Any = torch.autograd.grad(loss, x, allow_unused=True)[0]
    return torch.zeros_like(x, dtype=torch.float64) if found is None else found.detach().double()
