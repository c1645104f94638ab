"""*Correlations*: gradients of neural networks are far more correlated than independent directions would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.data import Split, digits
from trajsvc.experiments.networks import lenet
from trajsvc.experiments.training import one_thread
from trajsvc.experiments.vectors import Optimizers, Recorded, gradient, recorded
from trajsvc.measures.gradients.correlations import alpha, alpha_lag, explained_variance, mu, mu_lag
from trajsvc.measures.gradients.vector_gram import VectorGram

if TYPE_CHECKING:
    pass

PAPER: Final = "Correlations (Rothchild et al.)"
BATCH: Final = 64
SCALE: Final = "LeNet (5 × 5 conv 20, conv 50, fc 200, 10), CIFAR-10"
SMALL: Final = "LeNet-s, scikit-learn's digits, batch 64"


def _data(kind: str, split: Split, seed: int) -> Split:
    import torch

    rng = torch.Generator().manual_seed(seed)
    if kind == "true":
        return split
    if kind == "shuffled labels":
        return Split(split.x, split.y[torch.randperm(len(split), generator=rng)])
    noise = torch.rand(split.x.shape, generator=rng)
    return Split(noise, split.y)


def random_points(setting: Setting) -> Verdict:
    """C1: gradients at θ ~ N(0, σ²I), of true data, of shuffled labels, of white-noise images."""
    import torch

    scales = np.geomspace(0.01, 3.0, 5 if setting.brief else 9)
    count = 16 if setting.brief else 40
    split, _ = digits()
    alphas: dict[str, list[list[float]]] = {}
    mus: dict[str, list[list[float]]] = {}
    with one_thread():
        for kind in ("true", "shuffled labels", "white noise"):
            for seed in setting.seeds:
                setting.note(f"{kind}, seed {seed}")
                grams = [_at_points(_data(kind, split, seed), float(s), count, seed) for s in scales]
                alphas.setdefault(kind, []).append([alpha(g) for g in grams])
                mus.setdefault(kind, []).append([mu(g) for g in grams])
    parameters = sum(p.numel() for p in lenet().parameters())
    floor = 1.0 / np.sqrt(parameters)
    figure = plots.lines(
        setting,
        "c1",
        {k: (scales, v) for k, v in alphas.items()},
        x="σ",
        y="α",
        logx=True,
        logy=True,
        level=(floor, "1/√P"),
    )
    mean = {kind: np.mean(v, axis=0) for kind, v in alphas.items()}
    table = np.array(list(mean.values()))
    at_one = np.array([np.interp(0.0, np.log(scales), m) for m in table])
    above = bool((table >= 3 * floor).all())
    falls = bool((table[:, 0] >= 2 * at_one).all())
    alike = bool((table.max(axis=0) <= 1.3 * table.min(axis=0)).all())
    torch.manual_seed(0)
    measured = {
        "sigma": scales.tolist(), "alpha": {k: v.tolist() for k, v in mean.items()},
        "mu": {k: np.mean(v, axis=0).tolist() for k, v in mus.items()}, "one_over_sqrt_parameters": float(floor),
        "above_three_times_chance": above, "falls_with_sigma": falls, "alike_within_30_percent": alike,
    }  # fmt: skip
    return Verdict(measured, above and falls and alike, (figure,))


def _at_points(split: Split, sigma: float, count: int, seed: int) -> VectorGram:
    import torch

    network = lenet()
    rng = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(sigma * torch.randn(parameter.shape, generator=rng))
        chosen = torch.randint(0, len(split), (BATCH,), generator=rng)
        rows.append(gradient(network, split.x[chosen], split.y[chosen]))
    return VectorGram.of_vectors(np.array(rows))


def _optimizers() -> dict[str, Optimizers]:
    from torch import optim

    return {
        "SGD": lambda n: optim.SGD(n.parameters(), 0.1),
        "Nesterov": lambda n: optim.SGD(n.parameters(), 0.02, 0.9, nesterov=True),
        "Adadelta": lambda n: optim.Adadelta(n.parameters(), 1.0),
        "Adam": lambda n: optim.Adam(n.parameters(), 1e-3),
    }


def _recorded(setting: Setting, names: tuple[str, ...]) -> dict[str, list[Recorded]]:
    import torch

    steps = 150 if setting.brief else 600
    split, _ = digits()
    found: dict[str, list[Recorded]] = {name: [] for name in names}
    with one_thread():
        for name in names:
            for seed in setting.seeds:
                setting.note(f"{name}, seed {seed}")
                torch.manual_seed(seed)
                made = _optimizers()[name]
                found[name].append(recorded(lenet(), made, split, steps=steps, batch=BATCH, seed=seed))
    return found


def lags(setting: Setting) -> Verdict:
    """C2: μ(k) and α(k) of gradients and of updates under four optimisers."""
    found = _recorded(setting, tuple(_optimizers()))
    far = 100 if setting.brief else 400
    values: dict[str, dict[str, Any]] = {}
    for name, runs in found.items():
        sets = {
            "gradient": [VectorGram.of_vectors(r.gradients) for r in runs],
            "update": [VectorGram.of_vectors(r.updates) for r in runs],
        }
        for what, grams in sets.items():
            values.setdefault(name, {})[f"mu_{what}"] = np.array([mu_lag(g) for g in grams])
            values[name][f"alpha_{what}"] = np.array([alpha_lag(g) for g in grams])
    mean = {name: {key: np.nanmean(v, axis=0) for key, v in of.items()} for name, of in values.items()}
    lag = np.arange(1, far + 1)
    figures = tuple(
        plots.lines(
            setting, f"c2-{key.replace('_', '-')}", {name: (lag, values[name][key][:, 1 : far + 1]) for name in values}, x="lag k",
            y=f"{'α' if key.startswith('alpha') else 'μ'}(k) of {key.split('_')[1]}s", logx=True,
        )
        for key in ("mu_gradient", "alpha_gradient", "mu_update", "alpha_update")
    )  # fmt: skip
    checks = {
        "mu_of_gradients_negative_at_lag_1": all(mean[n]["mu_gradient"][1] < 0 for n in ("SGD", "Adadelta")),
        "mu_of_updates_above_half_at_lag_1": all(mean[n]["mu_update"][1] > 0.5 for n in ("Nesterov", "Adam")),
        "alpha_of_updates_below_gradients_adadelta": bool(
            (mean["Adadelta"]["alpha_update"] < mean["Adadelta"]["alpha_gradient"])[lag].all()
        ),
        "alpha_of_updates_below_gradients_adam_far": bool(
            mean["Adam"]["alpha_update"][far] < mean["Adam"]["alpha_gradient"][far]
        ),
    }
    first = {
        n: {"mu_gradient": float(m["mu_gradient"][1]), "mu_update": float(m["mu_update"][1])} for n, m in mean.items()
    }
    last = {
        n: {"alpha_gradient": float(m["alpha_gradient"][far]), "alpha_update": float(m["alpha_update"][far])}
        for n, m in mean.items()
    }
    return Verdict({"at_lag_1": first, f"at_lag_{far}": last, **checks}, all(checks.values()), figures)


def explained(setting: Setting) -> Verdict:
    """C4: how much of the variance of a training's gradients a few directions explain."""
    runs = _recorded(setting, ("SGD",))["SGD"]
    shares = np.array([np.cumsum(explained_variance(VectorGram.of_vectors(r.gradients))) for r in runs])
    rng = np.random.default_rng(0)
    chance = np.cumsum(explained_variance(VectorGram.of_vectors(rng.normal(size=runs[0].gradients.shape))))
    at = range(1, shares.shape[1] + 1)
    figure = plots.lines(
        setting,
        "c4",
        {"gradients": (at, shares), "Gaussian vectors": (at, chance)},
        x="components",
        y="explained variance",
        logx=True,
    )
    ten = float(shares[:, 9].mean())
    measured = {
        "explained_by_10": shares[:, 9].tolist(),
        "mean": ten,
        "gaussian": float(chance[9]),
        "gradients": len(runs[0].gradients),
    }
    return Verdict(measured, ten > 0.5, (figure,))


EXPERIMENTS: Final = (
    Experiment(
        "c1", "Gradients at random points", PAPER, "fig. 1",
        "At random parameters μ ≈ 0 and α ≫ 1/√P; α falls for large σ; true, shuffled and white-noise data look alike",
        "α ≥ 3/√P everywhere, α(0.01) ≥ 2 α(1), and the three curves within 30 % of each other at each σ",
        f"{SMALL}, σ = 0.01 … 3, 40 points", SCALE, random_points,
    ),
    Experiment(
        "c2", "Correlations over a training", PAPER, "fig. 2",
        "α ≫ 1/√P everywhere; with momentum updates are correlated at small lags, without it successive gradients are opposed; "
        "adaptive methods make updates less correlated than gradients",
        "μ(1) < 0 of gradients for SGD and Adadelta, μ(1) > 0.5 of updates for Nesterov and Adam, α of updates below α of gradients for "
        "Adadelta at all lags and for Adam at the largest",
        f"{SMALL}, 600 steps; rates 0.1, 0.02, 1, 1e-3", SCALE, lags,
    ),
    Experiment(
        "c4", "Explained variance of gradients", PAPER, "fig. 4", "A few components explain most of the gradients of a training",
        "10 components explain more than half", f"{SMALL}, 600 steps of SGD", SCALE, explained,
    ),
)  # fmt: skip
