"""*Hallmarks*: how hyperparameters bend a trajectory. Every experiment is a family of small trainings and its ordinary measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.families import Trained, trained_family
from trajsvc.experiments.paper_scale import CIFAR10, IMAGENET
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


Members = Callable[[Training], dict[str, Training]]
"""the trainings of an experiment, as variations of one"""


def both(base: Training) -> dict[str, Training]:
    """H1: momentum and weight decay, without one of them, without either."""
    return {
        "both": base,
        "no-decay": replace(base, weight_decay=0.0),
        "no-momentum": replace(base, momentum=0.0),
        "neither": replace(base, weight_decay=0.0, momentum=0.0),
    }


def decays(base: Training) -> dict[str, Training]:
    """H3: weight decays of AdamW."""
    return {
        f"decay-{d:g}": replace(base, optimizer="adamw", learning_rate=2e-3 if base.data == "digits" else 1e-3, weight_decay=d)
        for d in (1e-3, 1e-2, 1e-1, 1.0)
    }  # fmt: skip


def rates(base: Training) -> dict[str, Training]:
    """H4: learning rates."""
    return {f"rate-{r:g}": replace(base, learning_rate=r) for r in (0.005, 0.02, 0.1)}


def sharp(base: Training) -> dict[str, Training]:
    """H5: ρ of sharpness-aware minimisation."""
    return {f"rho-{r:g}": replace(base, sharpness=r) for r in (0.0, 0.05, 0.2)}


def noise(base: Training) -> dict[str, Training]:
    """H6: shares of random labels."""
    return {f"noise-{s:g}": replace(base, label_noise=s, weight_decay=0.0) for s in (0.0, 0.25, 0.5, 1.0)}


def widths(base: Training) -> dict[str, Training]:
    """H9: widths."""
    return {f"width-{w:g}": replace(base, width=w) for w in (0.5, 1.0, 2.0, 4.0)}


FROM_EPOCHS: Final = (0, 1, 2, 5, 10)


def norms(base: Training) -> dict[str, Training]:
    """H8: only normalisation from an epoch on, only the last layer, all parameters."""
    found = {f"norm-from-{e}": replace(base, only="norm", only_from=e) for e in FROM_EPOCHS}
    return found | {"last-from-0": replace(base, only="last", only_from=0), "all": base}


SMALL_BASE: Final = Training()
DECAYED: Final = Training(weight_decay=5e-3)
LONGER: Final = Training(epochs=60)


def _both(m: dict[str, float]) -> bool:
    others = (m["no-decay"], m["no-momentum"])
    return m["both"] < min(others) and m["neither"] > max(others)


def _rising(names: Sequence[str]) -> Callable[[dict[str, float]], bool]:
    return lambda m: falls([m[n] for n in reversed(names)])


def _falling(names: Sequence[str], slack: float = 0.0) -> Callable[[dict[str, float]], bool]:
    return lambda m: falls([m[n] for n in names], slack)


def angles(base: Training, setting: Setting) -> Verdict:
    """H2: the angle between successive updates in four runs, and where the trajectory has gone as seen from the origin."""
    members = {
        "base": base, "no-momentum": replace(base, momentum=0.0), "no-decay": replace(base, weight_decay=0.0),
        "neither": replace(base, weight_decay=0.0, momentum=0.0),
    }  # fmt: skip
    found = trained_family(setting, "h2", "Angles between updates", members)
    curves = {name: np.array([np.asarray(t.run.update_angle()) for t in runs]) for name, runs in found.items()}
    epochs = found["base"][0].training.epochs
    drop = round(epochs * base.first_drop)
    middle = slice(drop // 4, max(drop // 4 + 1, 3 * drop // 4))
    mid = {name: float(np.nanmean(c[:, middle])) for name, c in curves.items()}
    drop = min(drop, curves["base"].shape[1] - 1)
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


def only_norms(base: Training, setting: Setting) -> Verdict:
    """H8: from epoch e on train nothing but the scales and shifts of normalisation."""
    found = trained_family(setting, "h8", "Only normalisation trained from an epoch on", norms(base))
    accuracy = {name: [t.result["accuracy"] for t in runs] for name, runs in found.items()}
    mean = means(accuracy)
    table = np.array([accuracy[f"norm-from-{e}"] for e in FROM_EPOCHS]).T
    full = (mean["all"], "all parameters")
    figure = plots.lines(
        setting, "h8", {"only normalisation": (FROM_EPOCHS, table)}, x="from epoch", y="test accuracy", level=full
    )
    late = mean[f"norm-from-{FROM_EPOCHS[-1] if not setting.brief else 5}"]
    held = mean["norm-from-0"] < mean["all"] - 0.3 and late > mean["all"] - 0.03
    return Verdict({"accuracy": accuracy, "mean": mean}, bool(held), (figure,))


def _mds(
    name: str, title: str, figure: str, claim: str, criterion: str, members: Members, base: Training, at_scale: Training, scale: str,
    order: Callable[[Sequence[str]], Callable[[dict[str, float]], bool]], small: str = SMALL,
) -> Experiment:  # fmt: skip
    found = members(base)
    holds, varied = order(tuple(found)), f"{small}; {', '.join(found)}"
    return Experiment(
        name, title, PAPER, figure, claim, criterion, varied, scale, of_mds(name, title, found, holds),
        of_mds(name, title, members(at_scale), holds),
    )  # fmt: skip


RESNET50: Final = "ResNet50, ImageNet, SGD, a checkpoint an epoch"
EXPERIMENTS: Final[tuple[Experiment, ...]] = (
    _mds("h1", "Momentum and weight decay", "§3, fig. 2–4", "MDS is lowest with both and highest with neither",
         "mean MDS of `both` below, of `neither` above the two others", both, DECAYED, IMAGENET, RESNET50, lambda names: _both),
    Experiment(
        "h2", "Angles between updates", PAPER, "§4.1", "Updates are at obtuse angles in mid-training, more so with momentum and weight "
        "decay, and turn acute when the rate drops; the angle at the origin grows with momentum",
        "mid-training angle > 90° and largest with both; smaller after the drop in each run; larger angle at the origin with momentum",
        SMALL, RESNET50, partial(angles, SMALL_BASE), partial(angles, IMAGENET),
    ),
    _mds("h3", "Weight decay of AdamW", "§4.2, E.1–2", "MDS falls with weight decay",
         "mean MDS falls from each decay to the next, or by less than 0.002", decays, SMALL_BASE, IMAGENET,
         "ViT and ResNet50, ImageNet, AdamW", partial(_falling, slack=0.002)),
    _mds("h4", "Learning rate", "app. E", "A higher learning rate lowers MDS", "mean MDS falls from each rate to the next", rates,
         SMALL_BASE, IMAGENET, RESNET50, _falling),
    _mds("h5", "Sharpness-aware minimisation", "E.3", "MDS rises slightly with ρ", "mean MDS rises from each ρ to the next", sharp,
         SMALL_BASE, IMAGENET, RESNET50, _rising),
    _mds("h6", "Label noise", "E.10", "MDS falls with the share of random labels", "mean MDS falls from each share to the next", noise,
         LONGER, CIFAR10, "ResNet18, CIFAR-10", _falling, f"{SMALL}, without weight decay, 60 epochs"),
    Experiment(
        "h8", "Only normalisation trained from an epoch on", PAPER, "§6, app. I",
        "After the first few epochs training only scales and shifts of normalisation suffices",
        "from epoch 0 more than 30 points below the full training, from epoch 10 within 3 points", SMALL, RESNET50,
        partial(only_norms, SMALL_BASE), partial(only_norms, IMAGENET),
    ),
    _mds("h9", "Width", "§5, app. B", "Wider networks have higher MDS", "mean MDS rises from each width to the next", widths, SMALL_BASE,
         CIFAR10, "Pythia family, ResNets", _rising),
)  # fmt: skip
