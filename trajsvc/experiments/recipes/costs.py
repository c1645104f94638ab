"""*Conditioning*, figure 4.10: what every metric costs against the size of the network."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.cost import Cost, Load, costs
from trajsvc.experiments.recipes.conditioning import PAPER
from trajsvc.gradients.options import SetKind

METRICS: Final[dict[str, tuple[SetKind, str]]] = {
    "κ, weights": ("weights", "kappa_weights"),
    "κ, inputs": ("inputs", "kappa_inputs"),
    "rank, weights": ("example", "gradient_rank"),
    "rank, inputs": ("input_gradients", "gradient_rank"),
    "coherence": ("example", "coherence"),
    "confusion": ("batch", "confusion"),
    "diversity": ("batch", "diversity"),
}
KINDS: Final[tuple[SetKind, ...]] = ("example", "batch", "weights", "inputs", "input_gradients")
DEAR: Final = ("κ, weights", "κ, inputs", "rank, weights")


def metric_costs(setting: Setting) -> Verdict:
    """D4: seconds of one core for every metric, its set of gradients included, against the number of parameters."""
    sizes = (10_000, 100_000) if setting.brief else (10_000, 100_000, 1_000_000, 10_000_000)
    load = (
        Load(examples=8, batch=2, directions=2, repeats=len(setting.seeds))
        if setting.brief
        else Load(repeats=len(setting.seeds))
    )
    found: dict[SetKind, list[Cost]] = {kind: [] for kind in KINDS}
    for cost in costs(sizes, KINDS, load, setting.stop):
        setting.note(f"{cost.kind}, {cost.parameters:,} parameters: {cost.seconds:.3g} s")
        found[cost.kind].append(cost)
    setting.note("drawing")
    at = [cost.parameters for cost in found["example"]]
    seconds = {name: [_of(cost, metric) for cost in found[kind]] for name, (kind, metric) in METRICS.items()}
    figure = plots.lines(
        setting,
        "d4",
        {name: (at, values) for name, values in seconds.items()},
        x="parameters",
        y="processor seconds",
        logx=True,
        logy=True,
    )
    last = {name: values[-1] for name, values in seconds.items()}
    cheap = [name for name in METRICS if name not in DEAR and name != "rank, inputs"]
    dearest = min(last[name] for name in DEAR) > max(last[name] for name in cheap)
    times = {name: [_known(v) for v in values] for name, values in seconds.items()}
    order = sorted(last, key=lambda name: -last[name])
    slope = {name: _growth(at, values) for name, values in seconds.items()}
    refused = [
        f"{cost.kind} at {cost.parameters:,} parameters: {cost.refused}"
        for of in found.values()
        for cost in of
        if cost.refused
    ]
    measured = {
        "parameters": at, "seconds": times, "growth_exponent": slope, "order_at_the_largest": order,
        "gradients_share_of_the_time": {kind: _share(of[-1]) for kind, of in found.items()},
    }  # fmt: skip
    notes = (
        "rank and coherence are functions of the same set's Gram here: the set is counted for both",
        "BackPACK and Opacus were not timed beside it",
        *refused,
    )
    return Verdict(measured, bool(dearest), (figure,), notes)


def _of(cost: Cost, metric: str) -> float:
    measures: Any = cost.measures or {}
    return float(cost.seconds + measures.get(metric, np.nan))


def _growth(parameters: list[int], seconds: list[float]) -> float | None:
    """Return the exponent of time against parameters, by least squares of logarithms; None with fewer than two times."""
    known = np.isfinite(seconds)
    if known.sum() < 2:
        return None
    return float(np.polyfit(np.log(np.array(parameters)[known]), np.log(np.array(seconds)[known]), 1)[0])


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _share(cost: Cost) -> float | None:
    """Return the share of a set's time, with all its measures, that its gradients and Gram take."""
    return _known(cost.seconds / (cost.seconds + sum((cost.measures or {}).values())))


EXPERIMENTS: Final = (
    Experiment(
        "d4", "What the metrics cost", PAPER, "fig. 4.10",
        "Rank and the metrics of perturbed passes are the dearest at every size of network",
        "at the largest network κ of the weights, κ of the inputs and the rank of weights' gradients each take longer than confusion, "
        "diversity and coherence",
        "perceptrons of 24 layers, 10⁴ to 10⁷ parameters, float64, one core; 16 examples, batches of 4, 4 directions; least of as many "
        "repeats as seeds, of fewer where they take more than 20 seconds",
        "networks of the thesis, a GPU", metric_costs,
    ),
)  # fmt: skip
