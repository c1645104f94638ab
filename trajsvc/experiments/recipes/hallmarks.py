"""*Hallmarks*: how hyperparameters bend a trajectory. Every experiment is a family of small trainings and its ordinary measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.families import Trained, trained_family
from trajsvc.experiments.training import Training

PAPER: Final = "Hallmarks (arXiv 2403.07379)"
SMALL: Final = "LeNet-s with batch normalisation, scikit-learn's digits, 40 epochs, SGD 0.05, momentum 0.9, weight decay 5e-4, batch 64"

Found = Mapping[str, Sequence[Trained]]


def mds_of(found: Found) -> dict[str, list[float]]:
    """Member → the network's MDS, one a seed."""
    return {name: [t.measure("mds") for t in runs] for name, runs in found.items()}


def means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: float(np.mean(v)) for name, v in values.items()}


def falls(values: Sequence[float], slack: float = 0.0) -> bool:
    """Whether every value is below the one before, but for ``slack``."""
    return all(b < a + slack for a, b in pairwise(values))


def of_mds(
    name: str, title: str, members: Mapping[str, Training], holds: Callable[[dict[str, float]], bool]
) -> Callable[[Setting], Verdict]:
    """Make a recipe that trains ``members`` and sees whether their mean MDS are as claimed."""

    def recipe(setting: Setting) -> Verdict:
        found = trained_family(setting, name, title, members)
        values = mds_of(found)
        figures = (
            plots.bars(setting, name, values, y="MDS"),
            plots.maps(setting, f"{name}-maps", {member: runs[0].run for member, runs in found.items()}),
        )
        accuracy = {member: float(np.mean([t.result["accuracy"] for t in runs])) for member, runs in found.items()}
        return Verdict({"mds": values, "mean": means(values), "accuracy": accuracy}, holds(means(values)), figures)

    return recipe


BOTH: Final = {
    "both": Training(weight_decay=5e-3),
    "no-decay": Training(weight_decay=0.0),
    "no-momentum": Training(weight_decay=5e-3, momentum=0.0),
    "neither": Training(weight_decay=0.0, momentum=0.0),
}
DECAYS: Final = {
    f"decay-{d:g}": Training(optimizer="adamw", learning_rate=2e-3, weight_decay=d) for d in (1e-3, 1e-2, 1e-1, 1.0)
}
RATES: Final = {f"rate-{r:g}": Training(learning_rate=r) for r in (0.005, 0.02, 0.1)}
SHARP: Final = {f"rho-{r:g}": Training(sharpness=r) for r in (0.0, 0.05, 0.2)}
NOISE: Final = {f"noise-{s:g}": Training(label_noise=s, weight_decay=0.0, epochs=60) for s in (0.0, 0.25, 0.5, 1.0)}
WIDTHS: Final = {f"width-{w:g}": Training(width=w) for w in (0.5, 1.0, 2.0, 4.0)}


def _both(m: dict[str, float]) -> bool:
    others = (m["no-decay"], m["no-momentum"])
    return m["both"] < min(others) and m["neither"] > max(others)


def _rising(names: Sequence[str]) -> Callable[[dict[str, float]], bool]:
    return lambda m: falls([m[n] for n in reversed(names)])


def _falling(names: Sequence[str], slack: float = 0.0) -> Callable[[dict[str, float]], bool]:
    return lambda m: falls([m[n] for n in names], slack)


def angles(setting: Setting) -> Verdict:
    """H2: the angle between successive updates in four runs, and where the trajectory has gone as seen from the origin."""
    members = {
        "base": Training(), "no-momentum": Training(momentum=0.0), "no-decay": Training(weight_decay=0.0),
        "neither": Training(weight_decay=0.0, momentum=0.0),
    }  # fmt: skip
    found = trained_family(setting, "h2", "Angles between updates", members)
    curves = {name: np.array([np.asarray(t.run.update_angle()) for t in runs]) for name, runs in found.items()}
    epochs = found["base"][0].training.epochs
    middle, drop = slice(epochs // 8, 3 * epochs // 8), epochs // 2
    mid = {name: float(np.nanmean(c[:, middle])) for name, c in curves.items()}
    after = {name: float(np.nanmean(c[:, drop])) for name, c in curves.items()}
    origin = {n: float(np.mean([np.asarray(t.run.apex_angle_origin())[-1] for t in r])) for n, r in found.items()}
    at = range(1, len(curves["base"][0]) + 1)
    figure = plots.lines(
        setting, "h2", {n: (at, c) for n, c in curves.items()}, x="epoch", y="angle between updates (°)",
        level=(90.0, "right angle"),
    )  # fmt: skip
    obtuse = mid["base"] > 90.0 and mid["base"] > mid["no-momentum"] and mid["base"] > mid["no-decay"]
    acute = all(after[n] < mid[n] for n in members)
    larger = origin["base"] > origin["no-momentum"]
    measured = {
        "mid_training": mid, "after_the_drop": after, "from_the_origin": origin,
        "obtuse_and_larger_with_both": obtuse, "falls_at_the_drop": acute, "origin_angle_larger_with_momentum": larger,
    }  # fmt: skip
    return Verdict(measured, bool(obtuse and acute and larger), (figure,))


def only_norms(setting: Setting) -> Verdict:
    """H8: from epoch e on train nothing but the scales and shifts of normalisation."""
    from_epochs = (0, 1, 2, 5, 10)
    members = {f"norm-from-{e}": Training(only="norm", only_from=e) for e in from_epochs}
    members |= {"last-from-0": Training(only="last", only_from=0), "all": Training()}
    found = trained_family(setting, "h8", "Only normalisation trained from an epoch on", members)
    accuracy = {name: [t.result["accuracy"] for t in runs] for name, runs in found.items()}
    mean = means(accuracy)
    table = np.array([accuracy[f"norm-from-{e}"] for e in from_epochs]).T
    full = (mean["all"], "all parameters")
    figure = plots.lines(
        setting, "h8", {"only normalisation": (from_epochs, table)}, x="from epoch", y="test accuracy", level=full
    )
    late = mean[f"norm-from-{from_epochs[-1] if not setting.brief else 5}"]
    held = mean["norm-from-0"] < mean["all"] - 0.3 and late > mean["all"] - 0.03
    return Verdict({"accuracy": accuracy, "mean": mean}, bool(held), (figure,))


def _mds(
    name: str, title: str, figure: str, claim: str, criterion: str, members: Mapping[str, Training], scale: str,
    holds: Callable[[dict[str, float]], bool], small: str = SMALL,
) -> Experiment:  # fmt: skip
    varied = f"{small}; {', '.join(members)}"
    return Experiment(name, title, PAPER, figure, claim, criterion, varied, scale, of_mds(name, title, members, holds))


IMAGENET: Final = "ResNet50, ImageNet, SGD, a checkpoint an epoch"
EXPERIMENTS: Final[tuple[Experiment, ...]] = (
    _mds("h1", "Momentum and weight decay", "§3, fig. 2–4", "MDS is lowest with both and highest with neither",
         "mean MDS of `both` below, of `neither` above the two others", BOTH, IMAGENET, _both),
    Experiment(
        "h2", "Angles between updates", PAPER, "§4.1", "Updates are at obtuse angles in mid-training, more so with momentum and weight "
        "decay, and turn acute when the rate drops; the angle at the origin grows with momentum",
        "mid-training angle > 90° and largest with both; smaller after the drop in each run; larger angle at the origin with momentum",
        SMALL, IMAGENET, angles,
    ),
    _mds("h3", "Weight decay of AdamW", "§4.2, E.1–2", "MDS falls with weight decay",
         "mean MDS falls from each decay to the next, or by less than 0.002", DECAYS, "ViT and ResNet50, ImageNet, AdamW",
         _falling(tuple(DECAYS), 0.002)),
    _mds("h4", "Learning rate", "app. E", "A higher learning rate lowers MDS", "mean MDS falls from each rate to the next", RATES,
         IMAGENET, _falling(tuple(RATES))),
    _mds("h5", "Sharpness-aware minimisation", "E.3", "MDS rises slightly with ρ", "mean MDS rises from each ρ to the next", SHARP,
         IMAGENET, _rising(tuple(SHARP))),
    _mds("h6", "Label noise", "E.10", "MDS falls with the share of random labels", "mean MDS falls from each share to the next", NOISE,
         "ResNet18, CIFAR-10", _falling(tuple(NOISE)), f"{SMALL}, without weight decay, 60 epochs"),
    Experiment(
        "h8", "Only normalisation trained from an epoch on", PAPER, "§6, app. I",
        "After the first few epochs training only scales and shifts of normalisation suffices",
        "from epoch 0 more than 30 points below the full training, from epoch 10 within 3 points", SMALL, IMAGENET, only_norms,
    ),
    _mds("h9", "Width", "§5, app. B", "Wider networks have higher MDS", "mean MDS rises from each width to the next", WIDTHS,
         "Pythia family, ResNets", _rising(tuple(WIDTHS))),
)  # fmt: skip
