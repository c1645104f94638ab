"""What *Hallmarks* proves: lemma 1 on quadratics, and the map of a random walk in many dimensions. No training: numbers are drawn."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.measures.base import GroupGram
from trajsvc.measures.maps import relative_mds, trajectory_map

PAPER: Final = "Hallmarks (arXiv 2403.07379)"
TOLERANCE: Final = 5e-3
"""largest difference of a simulated cosine from its limit in 2 · 10⁵ dimensions"""


def two_steps(values: NDArray[Any], start: NDArray[Any], rate: float, momentum: float) -> float:
    """⟨u₁, u₂⟩ of the first two heavy-ball steps on ½ θᵀAθ, A = diag(values), from ``start``."""
    first = -rate * values * start
    second = momentum * first - rate * values * (start + first)
    return float(first @ second)


def bounds(values: NDArray[Any], rate: float, momentum: float) -> tuple[NDArray[Any], float, float]:
    """η² a² (1 + μ − η a) for every eigenvalue a, its least and its greatest value: bounds of ⟨u₁, u₂⟩ / ‖θ₀‖²."""
    found = rate**2 * values**2 * (1.0 + momentum - rate * values)
    return found, float(found.min()), float(found.max())


def lemma(setting: Setting) -> Verdict:
    """Draw quadratics and compare the inner product of the first two updates with both forms of the bounds."""
    cases = 200 if setting.brief else 2000
    inside = ends = 0
    shown: list[tuple[float, float, float]] = []
    for seed in setting.seeds:
        rng = np.random.default_rng(seed)
        for _ in range(cases):
            size = int(rng.integers(2, 30))
            values = np.exp(rng.uniform(np.log(1e-3), 0.0, size)) + 10.0 ** rng.uniform(-4, -1)
            rate, momentum = rng.uniform(0.05, 1.9) / values.max(), rng.uniform(0.0, 0.95)
            start = rng.normal(size=size)
            product = two_steps(values, start, rate, momentum) / float(start @ start)
            each, low, high = bounds(values, rate, momentum)
            slack = 1e-12 * np.abs(each).max()
            inside += low - slack <= product <= high + slack
            largest, smallest = each[values.argmax()], each[values.argmin()]
            ends += min(largest, smallest) - slack <= product <= max(largest, smallest) + slack
            shown.append((low, product, high))
    total = cases * len(setting.seeds)
    sample = np.array(shown[:60])[np.argsort([s[1] for s in shown[:60]])]
    figure = plots.lines(
        setting, "h10", {"least": (range(len(sample)), sample[:, 0]), "⟨u₁, u₂⟩/‖θ₀‖²": (range(len(sample)), sample[:, 1]),
                         "greatest": (range(len(sample)), sample[:, 2])}, x="case, by its inner product", y="inner product",
    )  # fmt: skip
    measured = {"cases": total, "inside_least_and_greatest": int(inside), "inside_end_points": int(ends)}
    failed = total - ends
    notes = (f"the form with the extreme eigenvalues at its ends fails in {failed} of {total} cases",) if failed else ()
    return Verdict(measured, bool(inside == total), (figure,), notes)


def walk(rates: NDArray[Any], dimensions: int, seed: int) -> NDArray[np.float64]:
    """Draw the points θ_0 = 0, θ_{t+1} = θ_t + η_t ε of a random walk, (T + 1, P)."""
    steps = np.random.default_rng(seed).normal(size=(len(rates), dimensions)) * rates[:, None]
    return np.concatenate([np.zeros((1, dimensions)), np.cumsum(steps, axis=0)])


def random_walk(setting: Setting) -> Verdict:
    """Simulate walks with constant and with decaying steps against cos = sqrt(S_min / S_max), S = Σ η²."""
    dimensions = 20_000 if setting.brief else 200_000
    tolerance = TOLERANCE * np.sqrt(200_000 / dimensions)
    rates = {"constant": np.ones(20), "decaying": 0.9 ** np.arange(20.0)}
    worst: dict[str, float] = {}
    means: dict[str, list[float]] = {}
    curves: dict[str, tuple[Any, Any]] = {}
    for name, rate in rates.items():
        sums = np.cumsum(rate**2)
        limit = np.sqrt(np.minimum.outer(sums, sums) / np.maximum.outer(sums, sums))
        found = []
        for seed in setting.seeds:
            setting.note(f"{name} steps, seed {seed}")
            gram = GroupGram.of_points(walk(rate, dimensions, seed))
            found.append(trajectory_map(gram, origin=0))
            means.setdefault(name, []).append(relative_mds(gram))
        worst[name] = float(np.abs(np.mean(found, axis=0) - limit).max())
        last = np.array(found)[:, :, -1]
        curves[f"{name}, simulated"] = (range(1, 21), last)
        curves[f"{name}, limit"] = (range(1, 21), limit[:, -1])
    figure = plots.lines(setting, "h11", curves, x="step t", y="cos(θ_t − θ_0, θ_T − θ_0)")
    steady = float(np.mean(means["constant"]))
    measured = {
        "largest_difference": worst,
        "dimensions": dimensions,
        "relative_mds_constant": steady,
        "limit_of_many_steps": 2 / 3,
    }
    return Verdict(measured, all(w < tolerance for w in worst.values()), (figure,))


EXPERIMENTS: Final = (
    Experiment(
        "h10", "The first two updates on a quadratic", PAPER, "lemma 1",
        "⟨u₁, u₂⟩ of two heavy-ball steps on a quadratic lies between bounds given by the spectrum",
        "it lies between the least and the greatest of η²a²(1 + μ − ηa) ‖θ₀‖² over the eigenvalues a in every case",
        "2,000 random spectra a seed, 2 to 29 eigenvalues", "a proof", lemma,
    ),
    Experiment(
        "h11", "The map of a random walk", PAPER, "appendix C, fig. 12–13",
        "In many dimensions the cosines of a random walk approach sqrt(S_min / S_max), S = Σ η²",
        "cosines, their means over the seeds, differ from the limit by less than 5e-3 in 2·10⁵ dimensions",
        "20 steps, constant and decaying, 2·10⁵ dimensions", "the dimensions of the networks", random_walk,
    ),
)  # fmt: skip
