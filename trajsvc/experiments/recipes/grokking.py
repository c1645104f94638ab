"""*Hallmarks*, appendix H: whether the trajectory changes its character when a network groks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.experiments import plots
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.families import analysed_family, run_folder
from trajsvc.experiments.grokking import Grokking, grok
from trajsvc.figures.style import GREY, LINES
from trajsvc.measures.phases import change_points
from trajsvc.results.run import Run

PAPER: Final = "Hallmarks (arXiv 2403.07379)"
LARGE, SMALL = "large-decay", "small-decay"
MEMBERS: Final = {LARGE: Grokking(weight_decay=2.0), SMALL: Grokking(weight_decay=0.1)}
FLAT: Final = 0.9
"""cosines of a map that count as flat"""


def rise(steps: NDArray[np.int64], accuracy: NDArray[np.float64]) -> tuple[int, int] | None:
    """Return the last step before ``accuracy`` is above 10 % of its range, and the first at 90 % of it.

    The range is from its first value to its greatest. None where that is below 0.9: the network did not grok.
    """
    first, greatest = float(accuracy[0]), float(accuracy.max())
    if greatest < 0.9:
        return None
    share = (accuracy - first) / (greatest - first)
    begins = max(0, int(np.argmax(share > 0.1)) - 1)
    return int(steps[begins]), int(steps[int(np.argmax(share >= 0.9))])


def grokking(setting: Setting) -> Verdict:
    """H7: change points of the trajectory against the rise of test accuracy, with a large and a small weight decay."""
    chosen = {
        (name, seed): replace(_brief(given, setting), seed=seed)
        for name, given in MEMBERS.items()
        for seed in setting.seeds
    }
    results = {key: grok(given, run_folder(setting, "h7", *key), setting) for key, given in chosen.items()}
    plain = asdict(Grokking())
    facts = {
        key: {k: v for k, v in asdict(g).items() if k == "weight_decay" or (v != plain[k] and k != "seed")}
        for key, g in chosen.items()
    }
    runs = analysed_family(setting, "h7", "Grokking", facts)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in MEMBERS}
    for (name, seed), run in runs.items():
        rows[name].append(_row(run, results[name, seed]))
    first = {name: runs[name, setting.seeds[0]] for name in MEMBERS}
    figures = (
        _curves(
            setting,
            first,
            {name: results[name, setting.seeds[0]] for name in MEMBERS},
            {n: r[0] for n, r in rows.items()},
        ),
        plots.maps(setting, "h7-maps", first),
    )
    within = [bool(row["change_points_in_the_rise"]) for row in rows[LARGE]]
    return Verdict({**rows, "within_the_rise": within}, all(within), figures, _notes(rows))


def _brief(given: Grokking, setting: Setting) -> Grokking:
    return replace(given, modulus=31, share=0.75, steps=500, every=20) if setting.brief else given


def _row(run: Run, result: Mapping[str, Any]) -> dict[str, Any]:
    steps, train, test = np.array(result["step"]), np.array(result["train"]), np.array(result["test"])
    found = rise(steps, test)
    changes = [change.step for change in change_points(run.gram())]
    before = found[0] if found else int(steps[-1])
    learnt = int(steps[int(np.argmax(train >= 0.99))]) if train.max() >= 0.99 else None
    cosines = np.asarray(run.trajectory_map())
    at = {step: k for k, step in enumerate(run.steps.tolist())}
    return {
        "rise": None if found is None else list(found), "greatest_test_accuracy": float(test.max()), "change_points": changes,
        "change_points_in_the_rise": [c for c in changes if found is not None and found[0] <= c <= found[1]],
        "train_learnt_at": learnt,
        "cosine_start_to_rise": float(cosines[0, at[before]]),
        "cosine_learnt_to_rise": None if learnt is None or learnt > before else float(cosines[at[learnt], at[before]]),
        "cosine_rise_to_end": float(cosines[at[before], -1]),
    }  # fmt: skip


def _notes(rows: Mapping[str, list[dict[str, Any]]]) -> tuple[str, ...]:
    said = []
    for name, of in rows.items():
        cosine = float(np.mean([row["cosine_start_to_rise"] for row in of]))
        grokked = sum(row["rise"] is not None for row in of)
        until = (
            "when test accuracy begins to rise"
            if grokked == len(of)
            else "when test accuracy begins to rise, or at the end"
        )
        flat = "flat" if cosine >= FLAT else "not flat"
        said.append(
            f"{name.replace('-', ' ')}: {grokked} of {len(of)} grokked; the map is {flat} before: cos(θ_0, θ_t) = {cosine:.2f} {until}"
        )
    return tuple(said)


def _curves(
    setting: Setting, runs: Mapping[str, Run], results: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]
) -> Path:  # fmt: skip
    """Accuracies and the cosine to the start, with the rise shaded and change points as lines; a panel for each decay."""

    def draw(panels: Any) -> None:
        for axes, (name, run) in zip(panels, runs.items(), strict=True):
            result, row = results[name], rows[name]
            axes.plot(result["step"], result["train"], color=LINES[0], label="train accuracy")
            axes.plot(result["step"], result["test"], color=LINES[1], label="test accuracy")
            axes.plot(run.steps, np.asarray(run.trajectory_map())[0], color=LINES[2], label="cos(θ₀, θ_t)")
            if row["rise"]:
                axes.axvspan(*row["rise"], color=LINES[1], alpha=0.15, lw=0)
            for k, change in enumerate(row["change_points"]):
                axes.axvline(change, color=GREY, lw=0.8, ls="--", label="change point" if k == 0 else None)
            axes.set_title(f"weight decay {MEMBERS[name].weight_decay:g}")
            axes.set_xlabel("step")
            axes.set_ylim(-0.05, 1.05)
        handles = panels[0].get_legend_handles_labels()
        panels[0].figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False)

    return plots.points(setting, "h7", draw, panels=len(runs))


EXPERIMENTS: Final = (
    Experiment(
        "h7", "Grokking", PAPER, "app. H",
        "The map is flat until test accuracy moves; then the trajectory explores new directions",
        "with the large weight decay a change point lies within the rise of test accuracy (from 10 % to 90 % of its range) in every run",
        "a + b mod 59, half of the pairs, one-layer transformer of width 64, full batch, AdamW 3e-3, weight decay 2 and 0.1, "
        "2,000 steps, a checkpoint every 25",
        "modular arithmetic, one-layer transformer, AdamW, full batch", grokking,
    ),
)  # fmt: skip
