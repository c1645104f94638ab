"""*Correlations*, figure 3: training within the span of a training's first gradients, against random directions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.data import digits
from trajsvc.experiments.networks import lenet
from trajsvc.experiments.recipes.correlations import BATCH, PAPER, SCALE, SMALL
from trajsvc.experiments.subspaces import confined, drawn, spanned
from trajsvc.experiments.training import evaluate, one_thread

if TYPE_CHECKING:
    import torch

RATES: Final = (0.03, 0.1, 0.3, 1.0)
FREE_RATE: Final = 0.1
"""at which the other initialisation's first gradients are taken"""
KINDS: Final = ("all directions", "random subspace", "foreign gradients")


def subspaces(setting: Setting) -> Verdict:
    """C3: own gradients against random directions under Adam; another initialisation's gradients against random ones under SGD."""
    with one_thread():
        dimensions, own = _own(setting)
        rates, foreign = _foreign(setting)
    figures = (_own_figure(setting, dimensions, own), _foreign_figure(setting, rates, foreign))
    mean = {kind: np.mean(v, axis=0) for kind, v in own.items()}
    gap = float(mean["own gradients"][-1] - mean["random"][-1])
    by_rate = {kind: np.mean(v, axis=0) for kind, v in foreign.items()}
    best = {kind: {"accuracy": float(v.max()), "rate": float(rates[int(v.argmax())])} for kind, v in by_rate.items()}
    worse = best["foreign gradients"]["accuracy"] < best["random subspace"]["accuracy"]
    measured = {
        "dimensions": dimensions, "adam": {k: v.tolist() for k, v in mean.items()}, "adam_gap_at_the_largest": gap,
        "adam_no_clear_gain": gap < 0.03, "sgd_rates": rates, "sgd": {k: v.tolist() for k, v in by_rate.items()}, "sgd_best": best,
        "sgd_foreign_below_random": worse,
        "sgd_random_admits_larger_rate": best["random subspace"]["rate"] > best["all directions"]["rate"],
    }  # fmt: skip
    gains = [
        f"{d} ({100 * g:.0f} points)"
        for d, g in zip(dimensions, mean["own gradients"] - mean["random"], strict=True)
        if g > 0.03
    ]
    notes = (f"the own subspace helps at d = {', '.join(gains)}",) if gains else ()
    return Verdict(measured, bool(gap < 0.03 and worse), figures, notes)


def _own(setting: Setting) -> tuple[list[int], dict[str, list[list[float]]]]:
    """Accuracy (seed, d) of Adam after d free steps, then in the span of their gradients, or of d random directions."""
    import torch

    dimensions = [10, 60] if setting.brief else [10, 30, 100, 300]
    steps = 200 if setting.brief else 1200
    found: dict[str, list[list[float]]] = {"own gradients": [], "random": [], "all directions": []}

    def adam(network: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), 1e-3)

    for seed in setting.seeds:
        setting.note(f"Adam, seed {seed}: all directions")
        free = _accuracy(seed, adam, steps, 0, None)
        rows: dict[str, list[float]] = {"own gradients": [], "random": []}
        for d in dimensions:
            for kind in rows:
                setting.note(f"Adam, seed {seed}: {kind}, d = {d}")
                rows[kind].append(
                    _accuracy(seed, adam, steps, d, spanned if kind == "own gradients" else _random(d, seed))
                )
        for kind, row in rows.items():
            found[kind].append(row)
        found["all directions"].append([free] * len(dimensions))
    return dimensions, found


def _foreign(setting: Setting) -> tuple[list[float], dict[str, list[list[float]]]]:
    """Accuracy (seed, rate) of SGD with all directions, in a random subspace, in that of another initialisation's first gradients."""
    import torch

    dimensions, steps = (30, 200) if setting.brief else (100, 1200)
    split, _ = digits()
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}

    def sgd(rate: float) -> Callable[[torch.nn.Module], torch.optim.Optimizer]:
        return lambda network: torch.optim.SGD(network.parameters(), rate)

    for seed in setting.seeds:
        torch.manual_seed(seed + 1000)
        other = spanned(
            confined(lenet(), sgd(FREE_RATE), split, steps=dimensions, batch=BATCH, seed=seed + 1000, free=dimensions)
        )
        inside = {KINDS[0]: None, KINDS[1]: _random(dimensions, seed), KINDS[2]: lambda _, q=other: q}
        for kind, basis in inside.items():
            setting.note(f"SGD, seed {seed}: {kind}")
            found[kind].append([_accuracy(seed, sgd(rate), steps, 0, basis) for rate in RATES])
    return list(RATES), found


def _random(dimensions: int, seed: int) -> Any:
    parameters = sum(p.numel() for p in lenet().parameters())
    return lambda _: drawn(dimensions, parameters, seed + 5000)


def _accuracy(seed: int, optimizer: Any, steps: int, free: int, basis: Any) -> float:
    import torch

    train, test = digits()
    torch.manual_seed(seed)
    network = lenet()
    confined(network, optimizer, train, steps=steps, batch=BATCH, seed=seed, free=free, basis=basis)
    return evaluate(network, test)["accuracy"]


def _own_figure(setting: Setting, dimensions: list[int], own: dict[str, list[list[float]]]) -> Path:
    full = (float(np.mean(own["all directions"])), "all directions")
    curves = {kind: (dimensions, own[kind]) for kind in ("own gradients", "random")}
    return plots.lines(
        setting, "c3-adam", curves, x="free steps and dimensions d", y="test accuracy", logx=True, level=full
    )


def _foreign_figure(setting: Setting, rates: list[float], found: dict[str, list[list[float]]]) -> Path:
    curves = {kind: (rates, values) for kind, values in found.items()}
    return plots.lines(setting, "c3-sgd", curves, x="learning rate", y="test accuracy", logx=True)


EXPERIMENTS: Final = (
    Experiment(
        "c3", "Training within a subspace of gradients", PAPER, "fig. 3",
        "The span of a training's own first gradients is no clearly better place to train in than random directions; that of another "
        "initialisation's gradients is worse than a random one, which admits a larger learning rate",
        "accuracy in the own subspace less than 3 points above the random one's at the largest d; at each one's best rate the foreign "
        "subspace below the random one",
        f"{SMALL}, 1,200 steps; Adam 1e-3, d = 10, 30, 100, 300; SGD in 100 dimensions, rates 0.03, 0.1, 0.3, 1",
        f"{SCALE}; SGD in 1,000 dimensions, each at its best rate", subspaces,
    ),
)  # fmt: skip
