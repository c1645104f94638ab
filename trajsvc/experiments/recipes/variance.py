"""*Variance*: random features, where gradients are known in closed form, and what clustering them saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.figures.style import LINES
from trajsvc.measures.gradients.clustering import cluster
from trajsvc.measures.gradients.estimators import average_variance
from trajsvc.measures.gradients.vector_gram import VectorGram

PAPER: Final = "Variance (Faghri et al.)"
BATCH: Final = 10
SCALE: Final = "h_s = 1,000, N/h_s 0.1 … 10, teacher and input dimension 0.1 and 10 × h_s"


@dataclass(frozen=True)
class Features:
    """A student's fixed random features (N, h) of inputs that a teacher labelled −1 or 1 (N)."""

    values: NDArray[np.float64]
    labels: NDArray[np.float64]

    def gradients(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradients (N, h) of the logistic loss of every example at ``weights`` (h)."""
        margin = self.labels * (self.values @ weights)
        return (-self.labels / (1.0 + np.exp(margin)))[:, None] * self.values


def features(count: int, hidden: int, inputs: int, seed: int, duplicates: float = 0.0) -> Features:
    """Draw a teacher, a student and ``count`` examples, of which a share are copies of five of them. A seed has one teacher and one
    student, however many examples there are."""
    rng = np.random.default_rng(seed)
    first, second, shift = _unit_columns(rng.normal(size=(inputs, inputs))), rng.normal(size=inputs), rng.normal()
    student = _unit_columns(rng.normal(size=(inputs, hidden)))
    x = rng.normal(size=(count, inputs))
    copies = int(duplicates * count)
    if copies:
        x[-copies:] = x[rng.integers(0, 5, copies)]
    labels = np.sign(np.maximum(x @ first, 0.0) @ second + shift)
    return Features(np.maximum(x @ student, 0.0), np.where(labels == 0.0, 1.0, labels))


def _unit_columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values / np.linalg.norm(values, axis=0))


def trained(found: Features, rate: float, steps: int, seed: int) -> NDArray[np.float64]:
    """Weights after ``steps`` of SGD with batches of ten, drawn with replacement."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(found.values.shape[1])
    for _ in range(steps):
        chosen = rng.integers(0, len(found.labels), BATCH)
        weights -= rate * Features(found.values[chosen], found.labels[chosen]).gradients(weights).mean(axis=0)
    return weights


def variances(found: Features, weights: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Average variances of batches of ten, of twenty, and of one example from each of ten clusters."""
    gram = VectorGram.of_vectors(found.gradients(weights))
    clusters = cluster(gram, BATCH, seed=seed, restarts=2)
    return {
        "SG-B": average_variance(gram, BATCH),
        "SG-2B": average_variance(gram, 2 * BATCH),
        "GC": clusters.average_variance,
    }


def overparametrised(setting: Setting) -> Verdict:
    """V2: variance against the number of examples and the learning rate."""
    counts = (50, 200, 1000) if setting.brief else (50, 100, 200, 500, 1000, 2000)
    steps, hidden = (600 if setting.brief else 3000), 200
    by_count: dict[str, list[list[float]]] = {"SG-B": [], "SG-2B": [], "GC": []}
    by_rate: list[list[float]] = []
    rates = (1e-3, 1e-2, 1e-1)
    for seed in setting.seeds:
        rows = []
        for count in counts:
            setting.note(f"{count} examples, seed {seed}")
            found = features(count, hidden, 20, seed)
            rows.append(variances(found, trained(found, 0.01, steps, seed), seed))
        for name, values in by_count.items():
            values.append([row[name] for row in rows])
        found = features(500, hidden, 20, seed)
        by_rate.append(
            [
                average_variance(VectorGram.of_vectors(found.gradients(trained(found, r, steps, seed))), BATCH)
                for r in rates
            ]
        )
    figure = plots.lines(
        setting,
        "v2",
        {n: (counts, v) for n, v in by_count.items()},
        x="examples N",
        y="average variance",
        logx=True,
        logy=True,
    )
    mean = {n: np.mean(v, axis=0) for n, v in by_count.items()}
    rate = np.mean(by_rate, axis=0)
    grows, falls = bool((np.diff(mean["SG-B"]) > 0).all()), bool((np.diff(rate) < 0).all())
    saves = bool((mean["GC"] <= mean["SG-B"]).all())
    measured = {"examples": list(counts), **{n: v.tolist() for n, v in mean.items()}, "rates": list(rates), "SG-B_by_rate": rate.tolist(),
                "grows_with_examples": grows, "falls_with_rate": falls, "clusters_no_worse": saves}  # fmt: skip
    return Verdict(measured, grows and falls and saves, (figure,))


def duplicated(setting: Setting) -> Verdict:
    """V3: copies of a few examples, which clustering puts together."""
    shares = (0.0, 0.1, 0.5, 0.9)
    steps = 300 if setting.brief else 3000
    ratio = np.zeros((len(setting.seeds), len(shares)))
    for i, seed in enumerate(setting.seeds):
        for j, share in enumerate(shares):
            setting.note(f"{share:.0%} copies, seed {seed}")
            found = features(200, 200, 20, seed, share)
            values = variances(found, trained(found, 0.01, steps, seed), seed)
            ratio[i, j] = values["GC"] / values["SG-B"]
    figure = plots.lines(
        setting,
        "v3",
        {"GC / SG-B": (shares, ratio), "SG-2B / SG-B": (shares, [0.5] * 4)},
        x="share of copies",
        y="ratio of variances",
    )
    mean = ratio.mean(axis=0)
    measured = {"share": list(shares), "gc_over_sg_b": mean.tolist()}
    return Verdict(measured, bool((np.diff(mean[1:]) < 0).all() and mean[-1] < mean[0]), (figure,))


def separable(setting: Setting) -> Verdict:
    """V4: a linear classifier of two classes in the plane, its gradients in four clusters, and where each would move the boundary."""
    rng = np.random.default_rng(setting.seeds[0])
    x = np.concatenate([rng.normal(size=(40, 2)) * 0.6 + centre for centre in ((1.2, 1.0), (-1.2, -1.0))])
    found = Features(np.concatenate([x, np.ones((80, 1))], axis=1), np.repeat([1.0, -1.0], 40))
    weights = np.array([1.0, -0.3, 0.2])
    gradients = found.gradients(weights)
    clusters = cluster(VectorGram.of_vectors(gradients), 4, seed=setting.seeds[0])

    def draw(axes: Any) -> None:
        at = np.linspace(-3, 3, 2)
        for k in range(len(clusters.sizes)):
            mine = clusters.assignment == k
            colour = LINES[k]
            for sign, marker in ((1.0, "o"), (-1.0, "s")):
                chosen = mine & (found.labels == sign)
                axes[0].plot(x[chosen, 0], x[chosen, 1], marker, color=colour, ms=3)
            moved = weights - 8.0 * gradients[mine].mean(axis=0)
            axes[0].plot(at, -(moved[0] * at + moved[2]) / moved[1], color=colour, lw=0.9)
        axes[0].plot(at, -(weights[0] * at + weights[2]) / weights[1], color="black", lw=1.2, ls="--", label="boundary")
        axes[0].set_xlim(-3, 3)
        axes[0].set_ylim(-3, 3)
        axes[0].set_xlabel("x₁")
        axes[0].set_ylabel("x₂")

    figure = plots.points(setting, "v4", draw, width=3.3, height=3.0)
    gram = VectorGram.of_vectors(gradients)
    single = average_variance(gram, 1)
    measured = {
        "sizes": clusters.sizes.tolist(),
        "GC": clusters.average_variance,
        "SG-1": single,
        "ratio": clusters.average_variance / single,
    }
    return Verdict(measured, clusters.average_variance < 0.5 * single, (figure,))


EXPERIMENTS: Final = (
    Experiment(
        "v2", "Variance and overparametrisation", PAPER, "fig. 4, 5, 9",
        "Variance falls with overparametrisation and with the learning rate; clustering does no worse than plain batches",
        "V(SG-B) rises with N, falls over rates 1e-3, 1e-2, 1e-1, and V(GC) ≤ V(SG-B) at each N",
        "random features, h_s = 200, 20 inputs, N = 50 … 2,000, 3,000 steps of batch 10, rate 0.01", SCALE, overparametrised,
    ),
    Experiment(
        "v3", "Duplicates", PAPER, "fig. 8", "The gain of clustering grows with the share of repeated examples",
        "V(GC)/V(SG-B) falls from 10 to 50 to 90 % of copies", "random features, N = 200, five examples repeated", SCALE, duplicated,
    ),
    Experiment(
        "v4", "Clusters of gradients in the plane", PAPER, "fig. 1", "Clusters gather the examples that would move the boundary alike",
        "four clusters have less than half of the variance of a single example", "two separable classes, generated", "the same", separable,
    ),
)  # fmt: skip
