"""*Conditioning*, all figures of masks: what a random part of the coordinates says of a metric, and what it saves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.cost import sample_of
from trajsvc.experiments.data import Split, digits
from trajsvc.experiments.networks import deep
from trajsvc.experiments.probe import set_of
from trajsvc.experiments.recipes.conditioning import PAPER
from trajsvc.experiments.training import endless, one_thread
from trajsvc.gradients.options import SetKind
from trajsvc.measures.gradients.registry import gradient_measure_named

if TYPE_CHECKING:
    import torch

SHARES: Final = (0.001, 0.01, 0.05, 0.2)
METRICS: Final[dict[SetKind, tuple[str, ...]]] = {
    "example": ("coherence", "gradient_rank"),
    "batch": ("confusion", "diversity", "batch_dissonance"),
    "weights": ("kappa_weights", "weight_cosine_distance"),
    "inputs": ("kappa_inputs",),
}
MASKS: Final = 3
CLOSE: Final = 0.1


def masks(setting: Setting) -> Verdict:
    """D3: relative error and time of every metric against the share of coordinates, over runs and three masks of a size each."""
    import torch

    split, _ = digits()
    errors: dict[str, list[list[float]]] = {}
    times: dict[str, list[list[float]]] = {}
    with one_thread():
        for seed in setting.seeds:
            setting.note(f"seed {seed}: training")
            torch.manual_seed(seed)
            network = _trained(split, seed, 40 if setting.brief else 200, 32 if setting.brief else 128)
            for kind in METRICS:
                for mask in range(MASKS):
                    setting.note(f"seed {seed}: {kind}, mask {mask + 1} of {MASKS}")
                    _compare(network, split, kind, mask, setting, errors, times)
    parameters = sum(p.numel() for p in network.parameters())
    figures = (
        _errors_figure(setting, errors, "d3-examples", ("example", "batch")),
        _errors_figure(setting, errors, "d3-perturbed", ("weights", "inputs")),
        _times_figure(setting, times),
    )
    mean = {name: np.mean(v, axis=0) for name, v in errors.items()}
    falls = {name: bool(v[-1] < v[0]) for name, v in mean.items()}
    close = {name: bool(v[2] < CLOSE) for name, v in mean.items()}
    measured = {
        "shares": list(SHARES), "parameters": parameters, "relative_error": {n: v.tolist() for n, v in mean.items()},
        "time_over_exact": {n: np.mean(v, axis=0).tolist() for n, v in times.items()},
        "falls_with_the_share": falls, "within_10_percent_at_5_percent": close,
    }  # fmt: skip
    far = [name.replace("_", " ") for name, near in close.items() if not near]
    slower = [kind.replace("_", " ") for kind, v in times.items() if np.mean(v) > 1.0]
    notes = (
        *([f"not within 10 % at 5 % of the coordinates: {', '.join(far)}"] if far else []),
        *([f"a mask saves no time for the sets of {', '.join(slower)}"] if slower else []),
    )
    return Verdict(measured, all(falls.values()) and all(close.values()), figures, notes)


def _trained(split: Split, seed: int, steps: int, width: int) -> torch.nn.Module:
    import torch

    network = deep("plain", 8, width)
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    order = endless(len(split), 64, np.random.default_rng(seed))
    for _ in range(steps):
        batch = next(order)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(split.x[batch]), split.y[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network


def _compare(
    network: torch.nn.Module, split: Split, kind: SetKind, mask: int, setting: Setting, errors: dict[str, Any], times: dict[str, Any]
) -> None:  # fmt: skip
    """Append a row over ``SHARES`` to the errors of every metric of a set, and to the set's times over that of all coordinates.

    Perturbations follow the seed as the mask does, so every mask is compared with all coordinates at its own seed.
    """
    exact, whole = _values(network, split, kind, mask, None, setting)
    found = [_values(network, split, kind, mask, share, setting) for share in SHARES]
    for name, value in exact.items():
        row = [abs(masked[name] - value) / abs(value) for masked, _ in found]
        errors.setdefault(name, []).append(row)
    times.setdefault(kind, []).append([seconds / whole for _, seconds in found])


def _values(
    network: torch.nn.Module, split: Split, kind: SetKind, seed: int, share: float | None, setting: Setting
) -> tuple[dict[str, float], float]:
    """Return the metrics of a set, and the processor seconds that the set took."""
    batch, examples, directions = (4, 16, 2) if setting.brief else (8, 64, 8)
    if kind == "inputs":
        examples = min(examples, 16)
    begun = time.process_time()
    found = set_of(
        network,
        split,
        kind,
        examples=examples,
        batch=batch,
        seed=seed,
        directions=directions,
        **({} if share is None else {"mask": share}),
    )
    seconds = time.process_time() - begun
    sample = sample_of(found)
    return {name: float(gradient_measure_named(name).compute(sample)) for name in METRICS[kind]}, seconds


def _errors_figure(setting: Setting, errors: dict[str, Any], name: str, kinds: Sequence[SetKind]) -> Path:
    curves = {metric.replace("_", " "): (SHARES, errors[metric]) for kind in kinds for metric in METRICS[kind]}
    return plots.lines(
        setting, name, curves, x="share of the coordinates", y="relative error", logx=True, logy=True, level=(CLOSE, "10 %")
    )  # fmt: skip


def _times_figure(setting: Setting, times: dict[str, Any]) -> Path:
    curves = {kind.replace("_", " "): (SHARES, rows) for kind, rows in times.items()}
    return plots.lines(
        setting, "d3-time", curves, x="share of the coordinates", y="time over all's", logx=True, logy=True, level=(1.0, "all coordinates")
    )  # fmt: skip


EXPERIMENTS: Final = (
    Experiment(
        "d3", "Metrics from a random part of the coordinates", PAPER, "fig. 2.3, 3.1, 3.6, 3.14, 3.15, 3.18, 4.1, 4.2",
        "A small random part of the coordinates gives every metric of conditioning nearly as all of them do",
        "the mean relative error of every metric falls from 0.1 % of the coordinates to 20 % and is below 10 % at 5 %",
        "perceptron of 8 layers of 128 units, scikit-learn's digits, 200 steps; 64 examples, batches of 8, "
        "8 directions; 0.1, 1, 5 and 20 % of the coordinates, three masks of a size",
        "26-layer residual network of 7.5 M parameters, CIFAR-10, five runs, three masks of a size", masks,
    ),
)  # fmt: skip
