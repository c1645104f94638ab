"""Whether a gap in the spectrum of the latest updates warns of grokking: on runs that grok, and on controls that do not."""

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
from trajsvc.experiments.recipes.grokking import LARGE, MEMBERS, SMALL
from trajsvc.figures.style import GREY, LINES
from trajsvc.measures.spectral_edge import WINDOW, spectral_edge
from trajsvc.results.run import Run

PAPER: Final = "Spectral edge (arXiv 2603.15678)"
SHORT: Final = 4
"""updates of a window: those of ten are not full before test accuracy rises here"""
OPEN: Final = 2.0
"""times the median of all earlier values of the edge: then a gap has opened"""
EARLIER: Final = 3
"""values of the edge before one can be said to be unusual"""


def opened(steps: NDArray[np.int64], edge: NDArray[np.float64]) -> int | None:
    """Return the first step whose edge is above twice the median of the edges before it, at least three; None if there is none.

    ``steps`` are those at which the updates end, (T − 1). Only what is known at a step is used: a warning has no later knowledge.
    """
    known = np.isfinite(edge)
    at, values = steps[known], edge[known]
    for k in range(EARLIER, len(values)):
        if values[k] > OPEN * np.median(values[:k]):
            return int(at[k])
    return None


def reached(steps: NDArray[np.int64], accuracy: NDArray[np.float64], share: float) -> int | None:
    """Return the first step at which ``accuracy`` is above ``share`` of its range; None where its greatest is below 0.9."""
    first, greatest = float(accuracy[0]), float(accuracy.max())
    if greatest < 0.9:
        return None
    return int(steps[int(np.argmax((accuracy - first) / (greatest - first) > share))])


def gap_warns(setting: Setting) -> Verdict:
    """E1: when a gap opens in runs that grok and in controls with little weight decay, and how long before test accuracy has risen."""
    chosen = {
        (name, seed): replace(_brief(given, setting), seed=seed)
        for name, given in MEMBERS.items()
        for seed in setting.seeds
    }
    results = {key: grok(given, run_folder(setting, "e1", *key), setting) for key, given in chosen.items()}
    facts = {key: {"weight_decay": asdict(given)["weight_decay"]} for key, given in chosen.items()}
    runs = analysed_family(setting, "e1", "Spectral gap and grokking", facts)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in MEMBERS}
    for (name, seed), run in runs.items():
        rows[name].append(_row(run, results[name, seed]))
    grokked = [row for of in rows.values() for row in of if row["half"] is not None]
    controls = [row for row in rows[SMALL] if row["half"] is None]
    leads = [row["lead"] for row in grokked]
    alarms = [row["opened"] for row in controls]
    warned, silent = (
        all(lead is not None and lead > 0 for lead in leads) and bool(leads),
        all(a is None for a in alarms) and bool(alarms),
    )
    measured = {
        **rows, "leads": leads, "grokking_runs": len(grokked), "controls": len(controls),
        "warned_before_half_of_the_rise": sum(lead is not None and lead > 0 for lead in leads),
        "controls_with_a_gap": sum(a is not None for a in alarms),
    }  # fmt: skip
    first = {name: runs[name, setting.seeds[0]] for name in MEMBERS}
    figure = _curves(
        setting, first, {n: results[n, setting.seeds[0]] for n in MEMBERS}, {n: r[0] for n, r in rows.items()}
    )
    return Verdict(measured, warned and silent, (figure,), _notes(rows, warned, silent))


def _brief(given: Grokking, setting: Setting) -> Grokking:
    return replace(given, modulus=31, share=0.75, steps=500, every=10) if setting.brief else given


def _row(run: Run, result: Mapping[str, Any]) -> dict[str, Any]:
    steps, test = np.array(result["step"]), np.array(result["test"])
    edge, long = (spectral_edge(run.gram(), window) for window in (SHORT, WINDOW))
    ends = np.asarray(run.steps)[1:]
    half, alarm = reached(steps, test, 0.5), opened(ends, edge)
    return {
        "greatest_test_accuracy": float(test.max()), "tenth": reached(steps, test, 0.1), "half": half, "opened": alarm,
        "earliest_warning": int(ends[np.isfinite(edge)][EARLIER]),
        "lead": None if half is None or alarm is None else half - alarm, "opened_in_windows_of_ten": opened(ends, long),
        "median_edge": float(np.nanmedian(edge)), "greatest_edge": float(np.nanmax(edge)),
    }  # fmt: skip


def _notes(rows: Mapping[str, list[dict[str, Any]]], warned: bool, silent: bool) -> tuple[str, ...]:
    greatest = {name: max(row["greatest_edge"] for row in of) for name, of in rows.items()}
    late = [row for row in rows[LARGE] if row["half"] is not None and row["half"] <= row["earliest_warning"]]
    said = [
        f"greatest edge of a run that groks {greatest[LARGE]:.3g}, of a control {greatest[SMALL]:.3g}",
        "a lead is against half of the rise of test accuracy; its first tenth is reached at "
        + ", ".join(str(row["tenth"]) for row in rows[LARGE]),
    ]
    if late:
        said.append(
            f"in {len(late)} of {len(rows[LARGE])} runs that grok half of the rise comes no later than the first step at which a gap can "
            f"be told, {late[0]['earliest_warning']}: at this distance of checkpoints they say nothing of a lead"
        )
    if not silent:
        said.append("a gap opens in controls that never grok: by itself it is no warning")
    if not warned:
        said.append("not every run that groks has a gap before half of its rise")
    return tuple(said)


def _curves(
    setting: Setting, runs: Mapping[str, Run], results: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]
) -> Path:  # fmt: skip
    """Test accuracy, and the edge on a logarithmic axis of its own, of the first seed of each member."""

    def draw(panels: Any) -> None:
        for axes, (name, run) in zip(panels, runs.items(), strict=True):
            result, row = results[name], rows[name]
            (test,) = axes.plot(result["step"], result["test"], color=LINES[1])
            other = axes.twinx()
            (edge,) = other.plot(np.asarray(run.steps)[1:], spectral_edge(run.gram(), SHORT), color=LINES[0], lw=0.9)
            other.set_yscale("log")
            other.set_ylabel("spectral edge")
            handles, labels = [test, edge], ["test accuracy", f"spectral edge of {SHORT} updates"]
            if row["opened"] is not None:
                handles.append(axes.axvline(row["opened"], color=GREY, lw=0.9, ls="--"))
                labels.append("gap opens")
            axes.set_title(f"weight decay {MEMBERS[name].weight_decay:g}")
            axes.set_xlabel("step")
            axes.set_ylabel("test accuracy")
            axes.set_ylim(-0.05, 1.05)
        panels[0].figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)

    return plots.points(setting, "e1", draw, panels=len(runs))


EXPERIMENTS: Final = (
    Experiment(
        "e1", "Does a spectral gap warn of grokking", PAPER, "the claim on grokking",
        "A gap in the singular values of the latest updates opens before a network groks",
        "in every run that groks the edge of windows of four updates is above twice the median of its earlier values before test accuracy "
        "has made half of its rise, and in no control that does not grok is it ever",
        "the trainings of h7: a + b mod 59, half of the pairs, one-layer transformer of width 64, full batch, AdamW 3e-3, 2,000 steps, a "
        "checkpoint every 25; weight decay 2, and controls of 0.1",
        "modular arithmetic and language models, rolling windows of updates", gap_warns,
    ),
)  # fmt: skip
