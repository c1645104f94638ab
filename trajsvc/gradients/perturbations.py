"""Perturbations: moves of a network's parameters, or of its input, by a given share of their norm.

A vector is a mapping from a name (a tensor, or the input) to values. Directions are functions of a seed and of their number alone, so that
they can be made again for every pass over them, bit for bit.

Source: *Conditioning* (Nelson, thesis) 2.6, 2.7 and 3.5. There η is a length: ω = ±η g/‖g‖₂ (targeted), ±η ḡ/‖ḡ‖_∞ (limited), η times
numbers drawn as the weights are distributed (random). Here η is a share by default, ‖ω‖₂ = η ‖w‖₂ in every one of the three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from trajsvc.gradients.options import GradientOptions

if TYPE_CHECKING:
    import torch

Vector = Mapping[str, "torch.Tensor"]
FINER: Final = 10.0
"""κ is computed at η and at η / FINER: on a smooth function the two agree"""


def norm(vector: Vector) -> float:
    """Two-norm, in float64."""
    return float(np.sqrt(sum(float(v.detach().double().pow(2).sum()) for v in vector.values())))


def largest(vector: Vector) -> float:
    """Maximum norm."""
    return max((float(v.detach().abs().max()) for v in vector.values() if v.numel()), default=0.0)


def times(vector: Vector, factor: float) -> dict[str, torch.Tensor]:
    return {name: factor * v for name, v in vector.items()}


def difference(a: Vector, b: Vector) -> dict[str, torch.Tensor]:
    """Return a − b, in float64."""
    return {name: v.double() - b[name].double() for name, v in a.items()}


def generator(options: GradientOptions, *numbers: int) -> np.random.Generator:
    """Return the random numbers of one direction."""
    return np.random.default_rng([options.seed, *numbers])


def sign(options: GradientOptions, k: int) -> float:
    """Draw the random sign of direction ``k``."""
    return float(generator(options, k, 1).choice([-1.0, 1.0]))


def drawn(options: GradientOptions, k: int, count: int) -> int:
    """Which of ``count`` gradients direction ``k`` is along: each once before any comes again, in random order."""
    turn, place = divmod(k, count)
    return int(generator(options, turn, 2).permutation(count)[place])


def scaled(direction: Vector, size: float, options: GradientOptions, eta: float) -> dict[str, torch.Tensor]:
    """Give a direction its length: ``eta`` times ``size``, the norm of what it moves, or ``eta`` alone with ``options.absolute``.

    A direction of zeros stays one.
    """
    if not options.absolute:
        length = norm(direction)
        return times(direction, eta * size / length if length > 0.0 else 0.0)
    if options.perturbation == "random":
        return times(direction, eta)
    length = norm(direction) if options.perturbation == "targeted" else largest(direction)
    return times(direction, eta / length if length > 0.0 else 0.0)


def like_weights(weights: Vector, options: GradientOptions, k: int) -> dict[str, torch.Tensor]:
    """Draw normal numbers with the mean and the standard deviation of all the weights together; float64."""
    import torch

    count = sum(w.numel() for w in weights.values())
    mean = sum(float(w.detach().double().sum()) for w in weights.values()) / count
    spread = np.sqrt(sum(float((w.detach().double() - mean).pow(2).sum()) for w in weights.values()) / count)
    numbers = generator(options, k, 3)
    return {n: torch.from_numpy(numbers.normal(mean, spread, tuple(w.shape))).to(w.device) for n, w in weights.items()}


def normal(like: Vector, spread: float, options: GradientOptions, k: int) -> dict[str, torch.Tensor]:
    """Draw normal numbers of mean 0; float64."""
    import torch

    numbers = generator(options, k, 4)
    return {n: torch.from_numpy(numbers.normal(0.0, spread, tuple(w.shape))).to(w.device) for n, w in like.items()}


def uniform(like: torch.Tensor, options: GradientOptions, k: int) -> torch.Tensor:
    """Numbers of [−1, 1); float64."""
    import torch

    return torch.from_numpy(generator(options, k, 5).uniform(-1.0, 1.0, tuple(like.shape))).to(like.device)
