"""*Layer updates*: which layers' successive gradients are more alike than random directions."""

from __future__ import annotations

from typing import Final

import numpy as np

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.data import digits
from trajsvc.experiments.networks import residual
from trajsvc.experiments.training import one_thread
from trajsvc.experiments.vectors import recorded
from trajsvc.measures.gradients.correlations import gradient_cosine_share, mean_gradient_cosine
from trajsvc.measures.gradients.vector_gram import VectorGram

PAPER: Final = "Layer updates (Zhang et al.)"


def layers(setting: Setting) -> Verdict:
    """L1: cosines of successive gradients of every weight matrix, with the bound sqrt(ln n / n) of n parameters."""
    import torch

    split, _ = digits()
    steps = 80 if setting.brief else 250
    mean: dict[str, list[float]] = {}
    share: dict[str, list[float]] = {}
    with one_thread():
        for seed in setting.seeds:
            setting.note(f"seed {seed}")
            torch.manual_seed(seed)
            found = recorded(
                residual(), lambda n: torch.optim.SGD(n.parameters(), 0.05), split, steps=steps, batch=64, seed=seed
            )
            shapes = {name: p.ndim for name, p in found.network.named_parameters()}
            for name, at in found.columns.items():
                if shapes[name] < 2:
                    continue
                gram = VectorGram.of_vectors(found.gradients[:, at])
                mean.setdefault(name, []).append(mean_gradient_cosine(gram))
                share.setdefault(name, []).append(gradient_cosine_share(gram))
    names = list(mean)
    values = np.array([np.mean(mean[n]) for n in names])
    rank = float(np.corrcoef(np.argsort(np.argsort(values)), np.arange(len(values)))[0, 1])
    last = float(np.mean(share[names[-1]]))
    table = np.array([mean[n] for n in names]).T
    figure = plots.lines(
        setting, "l1", {"mean cosine": (range(len(names)), table)}, x="weight matrix, by depth", y="cos(g_t, g_t+1)"
    )
    measured = {"mean_cosine": {n: float(v) for n, v in zip(names, values, strict=True)},
                "share_above_bound": {n: float(np.mean(share[n])) for n in names},
                "rank_correlation_with_depth": rank, "last_layer_share": last}  # fmt: skip
    return Verdict(measured, rank > 0.7 and last > 0.8, (figure,))


EXPERIMENTS: Final = (
    Experiment(
        "l1", "Successive gradients, layer by layer", PAPER, "fig. 1",
        "Only layers near the output, and projection shortcuts, have successive gradients above the random bound",
        "rank correlation of mean cosine with depth > 0.7, share of the last layer above the bound > 0.8",
        "residual network of 6 blocks, scikit-learn's digits, 250 steps of SGD 0.05, batch 64",
        "ResNet-18/34/50, CIFAR-10, batch 128, rate 0.05", layers,
    ),
)  # fmt: skip
