"""*Conditioning*: how gradients answer to small moves of the weights, and how much batches disagree, by depth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.data import Split, digits
from trajsvc.experiments.networks import deep
from trajsvc.experiments.probe import sets_of
from trajsvc.experiments.training import batches, one_thread
from trajsvc.measures.gradients.conditioning import confusion, diversity, gradient_rank
from trajsvc.measures.gradients.perturbed import kappa_weights

if TYPE_CHECKING:
    import torch

PAPER: Final = "Conditioning (Nelson, thesis)"
KINDS: Final = ("plain", "residual", "CReLU", "looks-linear")


def by_depth(setting: Setting) -> Verdict:
    """D1: κ of the weights, confusion, diversity and rank at initialisation against depth, in four kinds of networks."""
    import torch

    depths = (2, 48) if setting.brief else (2, 8, 24, 48)
    split, _ = digits()
    values: dict[str, dict[str, list[list[float]]]] = {}
    with one_thread():
        for kind in KINDS:
            for seed in setting.seeds:
                rows = []
                for depth in depths:
                    setting.note(f"{kind}, depth {depth}, seed {seed}")
                    torch.manual_seed(seed)
                    rows.append(_metrics(deep(kind, depth), split, seed, directions=4 if setting.brief else 16))
                for name in rows[0]:
                    values.setdefault(name, {}).setdefault(kind, []).append([row[name] for row in rows])
    figures = tuple(_figure(setting, name, depths, of) for name, of in values.items())
    mean = {name: {kind: np.mean(v, axis=0) for kind, v in of.items()} for name, of in values.items()}
    deepest = {name: {kind: float(v[-1]) for kind, v in of.items()} for name, of in mean.items()}
    kappa, confused = deepest["kappa_weights"], deepest["confusion"]
    apart = kappa["plain"] > 10 * kappa["residual"]
    between = kappa["residual"] < kappa["looks-linear"] < kappa["plain"]
    disagree = confused["plain"] > 0.2 and confused["residual"] < 0.1
    measured = {"depths": list(depths), **{n: {k: v.tolist() for k, v in of.items()} for n, of in mean.items()},
                "plain_over_residual": kappa["plain"] / kappa["residual"], "looks_linear_between": between}  # fmt: skip
    ranks = mean["gradient_rank"]["plain"]
    notes = (
        ()
        if ranks[-1] > ranks[0]
        else ("the rank with respect to the weights does not rise with depth in plain networks",)
    )
    return Verdict(measured, bool(apart and between and disagree), figures, notes)


def _figure(setting: Setting, name: str, depths: tuple[int, ...], of: Mapping[str, Any]) -> Path:
    words = name.replace("_", " ")
    curves = {kind: (depths, values) for kind, values in of.items()}
    logy = name == "kappa_weights"
    return plots.lines(setting, f"d1-{words.replace(' ', '-')}", curves, x="depth", y=words, logx=True, logy=logy)


def _metrics(network: torch.nn.Module, split: Split, seed: int, directions: int) -> dict[str, float]:
    found = sets_of(
        network, split, ("example", "batch", "weights"), examples=256, batch=16, seed=seed, directions=directions
    )
    weights, scalars = found["weights"]
    moves = np.sqrt(scalars["perturbation_squares"])
    half = 1 + directions
    coarse = type(weights)(weights.gram[:half, :half], weights.parameters)
    kappa = kappa_weights(coarse, float(scalars["weight_squares"]), moves[:directions] ** 2)
    return {
        "kappa_weights": kappa,
        "confusion": confusion(found["batch"][0]),
        "diversity": diversity(found["batch"][0]),
        "gradient_rank": gradient_rank(found["example"][0]),
    }


def targeted(setting: Setting) -> Verdict:
    """D2: the largest κ of the weights over targeted, limited and random directions after training, beside the Hessian's."""
    import torch

    split, _ = digits()
    directions = 16 if setting.brief else 64
    kappas: dict[str, list[float]] = {"targeted": [], "batch gradient": [], "random": [], "Hessian": []}
    with one_thread():
        for seed in setting.seeds:
            setting.note(f"seed {seed}: training")
            torch.manual_seed(seed)
            network = _trained_mlp(split, 100 if setting.brief else 400, seed)
            for name, kind in (("targeted", "targeted"), ("batch gradient", "limited"), ("random", "random")):
                setting.note(f"seed {seed}: {name}")
                count = 2 if kind == "limited" else directions
                found, scalars = sets_of(
                    network, split, ("weights",), examples=64, batch=64, seed=seed, directions=count, perturbation=kind
                )["weights"]
                coarse = type(found)(found.gram[: count + 1, : count + 1], found.parameters)
                kappas[name].append(
                    kappa_weights(coarse, float(scalars["weight_squares"]), scalars["perturbation_squares"][:count])
                )
            kappas["Hessian"].append(_hessian_kappa(network, Split(split.x[:64], split.y[:64]), seed))
    figure = plots.bars(setting, "d2", kappas, y="κ of the weights")
    mean = {name: float(np.mean(v)) for name, v in kappas.items()}
    return Verdict({"kappa": kappas, "mean": mean}, mean["targeted"] > 2 * mean["random"], (figure,))


def _trained_mlp(split: Split, steps: int, seed: int) -> torch.nn.Module:
    import torch
    from torch import nn

    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    rng, done = np.random.default_rng(seed), 0
    while done < steps:
        for batch in batches(len(split), 64, rng):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(split.x[batch]), split.y[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done += 1
    return network.double()


def _hessian_kappa(network: torch.nn.Module, split: Split, seed: int) -> float:
    """‖H‖₂ ‖w‖ / ‖ḡ‖ by power iteration on the Hessian of the batch's loss."""
    import torch

    parameters = list(network.parameters())
    loss = torch.nn.functional.cross_entropy(network(split.x.double()), split.y)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters, create_graph=True)])
    vector: Any = torch.randn(gradient.numel(), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    largest = 0.0
    for _ in range(60):
        vector = vector / vector.norm()
        product = torch.autograd.grad(gradient @ vector, parameters, retain_graph=True)
        vector = torch.cat([p.reshape(-1) for p in product]).detach()
        largest = float(vector.norm())
    weights = torch.cat([p.detach().reshape(-1) for p in parameters])
    return largest * float(weights.norm()) / float(gradient.detach().norm())


SCALE: Final = "fully connected and convolutional networks of 2 to 200 layers, CIFAR-10, batch 64"
EXPERIMENTS: Final = (
    Experiment(
        "d1", "Conditioning by depth", PAPER, "fig. 2.5–4.9",
        "κ of the weights, confusion and diversity rise with depth in plain networks, not in residual or looks-linear ones",
        "at the largest depth κ of plain networks more than 10 × that of residual ones, looks-linear between, confusion above 0.2 against "
        "below 0.1",
        "width 32, depth 2 to 48, scikit-learn's digits, at initialisation, 256 examples, 16 batches of 16", SCALE, by_depth,
    ),
    Experiment(
        "d2", "Targeted against random perturbations", PAPER, "fig. 2.4, 3.2, 4.3",
        "Perturbations of the weights along gradients find far larger κ than random ones; the batch's gradient alone does as well",
        "the largest κ over targeted directions more than twice that over random ones, after training",
        "tanh network of 32 units, scikit-learn's digits, 400 steps, η = 1e-3 of ‖w‖, 64 directions",
        "11-layer convolutional network, CIFAR-10", targeted,
    ),
)  # fmt: skip
