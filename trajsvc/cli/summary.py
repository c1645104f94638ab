"""The summary of a run as a page of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajsvc.cli.output import safe
from trajsvc.cli.progress import size
from trajsvc.cli.terminal import bar, cells_noted, new_table, number, sparkline, step_number
from trajsvc.results.conditions import text_of
from trajsvc.results.labels import numbers_of

if TYPE_CHECKING:
    from rich.console import Console

    from storage_schema.models.results import LayerRow, PhaseRow, QkvRow, Statement, Summary
    from trajsvc.results.run import Run

FINDINGS_SHOWN = 8
MOST_VALUES = 12
"""hyperparameters in the summary"""
NETWORK = (
    {"mds": "MDS", "mds_by_length": "by length"},
    {"relative_mds": "relative MDS", "relative_mds_by_length": "by length", "random_walk_mds": "a random walk's"},
    {"path_length": "path length", "tortuosity": "tortuosity", "mu": "μ", "alpha": "α"},
)
"""What is said of the network first, line by line."""
SEVERITIES = {"error": "red", "warning": "yellow", "info": "blue"}


def render(run: Run, facts: Summary, console: Console) -> None:
    """Print the whole summary."""
    _head(facts, console)
    _network(run, facts, console)
    _phases(facts, console)
    _learning_rate(facts, console)
    _layers(facts, console)
    _qkv(facts.qkv, console)
    render_integrity(run, console)
    console.print(
        f"\n[dim]trajsvc map {safe(facts.run)} -o map.png · trajsvc layers {safe(facts.run)} -o layers.pdf[/dim]"
    )


def _head(facts: Summary, console: Console) -> None:
    console.print(f"[bold]{safe(facts.run)}[/bold]  {safe(facts.source)}")
    span = (
        f"{numbers_of(facts.axis)} {facts.first_step} … {facts.last_step}"
        if facts.checkpoints
        else "no usable checkpoint"
    )
    left_out = f", {len(facts.excluded)} left out" if facts.excluded else ""
    architecture = f" · {safe(facts.architecture)}" if facts.architecture else ""
    console.print(f"{facts.checkpoints} checkpoints{left_out}, {span} · {facts.parameters:,} parameters{architecture}")
    if facts.tags:
        console.print(f"tags {', '.join(facts.tags)}", markup=False, highlight=False)
    _said(facts, console)
    if facts.estimate is not None:
        share = facts.estimate.get("fraction")
        seen = f" from {share:.1%} of the values" if isinstance(share, float) else ""
        console.print(f"[yellow]an estimate{seen}[/yellow]")


def _said(facts: Summary, console: Console) -> None:
    """Print what the run takes in the store, hyperparameters, and notes.

    Those set by hand or by a family come first; a network's shape is left to ``trajsvc set``.
    """
    if facts.bytes:
        console.print(f"stored {size(facts.bytes)}", highlight=False)
    told = [row for row in facts.hyperparameters if row.origin != "config.json"]
    rows = sorted(told, key=lambda row: not row.origin.startswith(("by hand", "family")))
    if rows:
        more = f" … `trajsvc set {facts.run}` has all" if len(rows) > MOST_VALUES else ""
        values = " ".join(f"{row.name}={text_of(row.value)}" for row in rows[:MOST_VALUES])
        console.print(f"hyperparameters {values}{more}", markup=False, highlight=False)
    if facts.notes:
        console.print(f"notes {facts.notes}", markup=False, highlight=False)


def _network(run: Run, facts: Summary, console: Console) -> None:
    from trajsvc.measures.nulls import undefined
    from trajsvc.measures.registry import MEASURES

    network: dict[str, Any] = facts.network
    errors: dict[str, Any] = dict(facts.network_errors or {})

    def said(name: str, title: str) -> str:
        return f"{title} {number(network[name])}" + (f" ± {number(errors[name], 2)}" if errors.get(name) else "")

    console.print()
    for titles in NETWORK:
        console.print(" · ".join(said(name, title) for name, title in titles.items()))
    for note in cells_noted(undefined(run.gram()), facts.checkpoints):
        console.print(f"[yellow]{note}[/yellow]")
    for name, unit, line in (("update_angle", "°", lambda v: v), ("update_norm", "", _decades)):
        numbers = np.asarray(MEASURES[name].compute(run.gram()), dtype=np.float64)
        defined = numbers[np.isfinite(numbers)]
        if defined.size:
            ends = f"{number(float(defined.min()), 3)}{unit} … {number(float(defined.max()), 3)}{unit}"
            console.print(f"{name.replace('_', ' '):<13}{sparkline(line(numbers).tolist(), 40)}  {ends}")


def _decades(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms, so that one large update does not flatten all others; zeros are undefined."""
    return np.log10(values, out=np.full_like(values, np.nan), where=values > 0)


def _phases(facts: Summary, console: Console) -> None:
    if len(facts.phases) < 2:
        found = "no change point found" if facts.phases else "too few checkpoints to say"
        console.print(f"phases       {found}")
        return
    console.print("phases")
    for phase in facts.phases:
        console.print(f"  {phase.start_step:>8} … {phase.end_step:<8}  {_change(phase)}".rstrip())


def _change(phase: PhaseRow) -> str:
    """Describe what began the phase: the kind of change, the range in which it may lie, and the evidence."""
    change = phase.details.get("change")
    if not change:
        return ""
    first, last = change["between"]
    where = f"between {first} and {last}" if first != last else f"at {first}"
    speed = "" if change["kind"] == "turn" else f", speed × {number(change['speed_ratio'], 3)}"
    return (
        f"{change['kind']} {where}{speed} [dim]· explains {change['evidence']:.0%} of the scatter, "
        f"strength {number(change['strength'], 3)}[/dim]"
    )


def _learning_rate(facts: Summary, console: Console) -> None:
    if facts.learning_rate is None:
        return
    found = facts.learning_rate
    drops = f", drops after {', '.join(map(str, found.drops[:12]))}" if found.drops else ""
    console.print(
        f"learning rate  at most {number(max(found.rate))}, at last {number(found.rate[-1])}{drops} [dim](as logged)[/dim]"
    )


def _layers(facts: Summary, console: Console) -> None:
    console.print()
    first = [row for row in facts.others if row.group == "embedding"]
    last = [row for row in facts.others if row.group != "embedding"]
    console.print(layer_table([*first, *facts.layers, *last]))


def layer_table(rows: Sequence[LayerRow]) -> Any:
    """Make the table of layers with a bar of the MDS; the column of noise is left out if there is none."""
    noisy = any(row.below_noise_floor for row in rows)
    columns = [
        "layer",
        ">parameters",
        ">MDS",
        "",
        ">relative",
        ">path length",
        ">tortuosity",
        ">max angle°",
        ">cos(U, U')",
        ">non-random",
        ">settles at",
    ]
    table = new_table([*columns, *([">in noise"] if noisy else [])])
    for row in rows:
        cells = [
            safe(row.layer),
            f"{row.parameters:,}",
            number(row.mds),
            f"[cyan]{bar(row.mds, 1.0)}[/cyan]",
            number(row.relative_mds),
            number(row.path_length),
            number(row.tortuosity),
            number(row.largest_update_angle, 3),
            number(row.mean_update_cosine, 3),
            "–" if row.nonrandom_fraction is None else f"{row.nonrandom_fraction:.0%}",
            step_number(row.settling_step),
        ]
        table.add_row(*cells, *([str(row.below_noise_floor or "")] if noisy else []))
    return table


def _qkv(rows: Sequence[QkvRow], console: Console) -> None:
    if rows:
        console.print()
        console.print(qkv_table(rows))


def qkv_table(rows: Sequence[QkvRow]) -> Any:
    """Make the table of Q, K and V through the layers: both distances of their maps (in shape; rms, in cosines), MDS
    and settling steps.
    """
    most = max((row.rms or 0.0 for row in rows), default=0.0)
    pairs = ["Q-K", "Q-V", "K-V", "mean"]
    table = new_table([
        "layer", *(f">shape\n{n}" for n in pairs), *(f">rms\n{n}" for n in pairs), "",
        *(f">MDS\n{p}" for p in "QKV"), *(f">settles\n{p}" for p in "QKV"),
    ])  # fmt: skip
    for row in rows:
        shapes = (row.distance_qk, row.distance_qv, row.distance_kv, row.heterogeneity)
        rms = (row.rms_qk, row.rms_qv, row.rms_kv, row.rms)
        table.add_row(
            safe(row.layer),
            *(number(d, 3) for d in (*shapes, *rms)),
            f"[cyan]{bar(row.rms, most)}[/cyan]",
            *(number(m) for m in (row.mds_q, row.mds_k, row.mds_v)),
            *(step_number(s) for s in (row.settling_step_q, row.settling_step_k, row.settling_step_v)),
        )
    return table


def render_integrity(run: Run, console: Console, *, all_findings: bool = False) -> None:
    """Print what the integrity check found, the most severe first; only the first few unless ``all_findings``."""
    order = list(SEVERITIES)
    found = sorted(run.findings, key=lambda f: order.index(f.severity))
    if not found:
        console.print("\nintegrity    nothing to report")
        return
    console.print(f"\nintegrity    {len(found)} finding{'s' if len(found) > 1 else ''}")
    for finding in found if all_findings else found[:FINDINGS_SHOWN]:
        style = SEVERITIES[finding.severity]
        console.print(f"  [{style}]{finding.severity}[/{style}] {safe(finding.kind)}: {safe(finding.message)}")
    if not all_findings and len(found) > FINDINGS_SHOWN:
        console.print(f"  … `trajsvc show {safe(run.name)} --integrity` shows all", highlight=False)


def render_statements(run: Run, said: Sequence[Statement], console: Console) -> None:
    """Print what the numbers say, a paragraph each, with the command that has the number."""
    console.print(f"[bold]{safe(run.name)}[/bold]")
    for one in said:
        group = "" if one.group == "network" else f" --group {one.group}"
        command = {
            None: "",
            "phases": f"trajsvc show {run.name}",
            "qkv_heterogeneity": f"trajsvc qkv {run.name}",
        }.get(one.measure, f"trajsvc measures {run.name}{group} --names {one.measure}")
        console.print(f"• {safe(one.text)}")
        if command:
            console.print(f"  [dim]{safe(command)}[/dim]")
