"""Answers about gradients for people: tables, curves and maps in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from trajsvc.cli.output import errors_console, safe
from trajsvc.cli.progress import size
from trajsvc.cli.terminal import heat, limits, new_table, number, sparkline
from trajsvc.results.labels import numbers_of

if TYPE_CHECKING:
    from rich.console import Console

    from storage_schema.models.gradients import (
        GradientClustersAnswer,
        GradientLayersAnswer,
        GradientMapAnswer,
        GradientMeasuresAnswer,
        GradientSetRow,
    )
    from trajsvc.gradients.forecast import SetForecast
    from trajsvc.results.gradients import RunGradients

SIZES_SHOWN = 16


def say_stale(found: RunGradients, quiet: bool) -> None:
    """Say on stderr which steps are left out because the run has other parameters now."""
    if found.stale and not quiet:
        numbers = numbers_of(found.run.axis)
        stale = ", ".join(map(str, found.stale))
        message = f"{found.name}: left out, computed of parameters that the run no longer has: {numbers} {stale}"
        errors_console().print(message, style="yellow", markup=False, highlight=False)


def print_sets(console: Console, rows: Sequence[GradientSetRow]) -> None:
    """Print a line a set."""
    if not rows:
        return console.print(
            "no sets of gradients; `trajsvc gradients compute` makes them", markup=False, highlight=False
        )
    stale = [">stale"] if any(row.stale for row in rows) else []
    table = new_table(["=set", "kind", ">vectors", ">checkpoints", ">first", ">last", *stale])
    for row in rows:
        ends = [str(step) for step in (row.steps[0], row.steps[-1])] if row.steps else ["–", "–"]
        left = [str(len(row.stale))] if stale else []
        table.add_row(safe(row.set), row.kind, str(row.n), str(len(row.steps)), *ends, *left)
    return console.print(table)


def print_forecasts(console: Console, rows: Sequence[SetForecast], refused: Sequence[str | None]) -> None:
    """Print a line a set that is to be computed, and why some would be refused."""
    table = new_table(["=set", ">vectors", ">records", ">evaluations", ">passes", ">held", ">beside", ">kept"])
    for row in rows:
        counts = (row.vectors, row.records, row.evaluations, row.passes)
        table.add_row(row.kind, *map(str, counts), size(row.held), size(row.beside), size(row.stored))
    console.print(table)
    console.print(
        "[dim]evaluations: forward and backward passes of single examples, for each record and pass\n"
        "held, beside: bytes of vectors that are multiplied, and of others; kept: bytes of a record[/dim]"
    )
    for words in filter(None, refused):
        console.print(f"[yellow]compute would refuse it[/yellow]: {escape(words)}", highlight=False)


def print_measures(console: Console, answer: GradientMeasuresAnswer, *, axis: str, each_step: bool) -> None:
    """Print a line a measure with its course over training, or, with ``each_step``, a line a checkpoint.

    ``axis`` is what the checkpoints are numbered by.
    """
    _title(console, answer)
    single = {name: values for name, values in answer.measures.items() if not any(isinstance(v, list) for v in values)}
    if single:
        console.print(_by_step(answer.steps, single, axis) if each_step else _by_measure(answer.steps, single))
    for name in answer.measures:
        if name not in single:
            console.print(f"[dim]{name} is more than one number a step: --format json or csv prints it[/dim]")
    _say_kinks(console, answer, axis)
    zero = answer.undefined.get("zero_vectors", [])
    if any(zero):
        console.print(
            f"[yellow]zero vectors[/yellow]: {', '.join(map(str, zero))} by {axis}; their cosines are left out"
        )


def _say_kinks(console: Console, answer: GradientMeasuresAnswer, axis: str) -> None:
    """Say where κ depends on the size of the move by more than a factor of two, as across kinks of ReLU."""
    changes = zip(answer.steps, answer.measures.get("kappa_change", []), strict=False)
    steps = [str(step) for step, change in changes if isinstance(change, float) and not 0.5 <= change <= 2.0]
    if steps:
        console.print(
            f"[yellow]kappa at η and at η/10 differ by more than 2×[/yellow] at {numbers_of(axis)} {', '.join(steps)}"
        )


def _title(console: Console, answer: Any) -> None:
    console.print(
        f"[bold]{safe(answer.run)}[/bold]  {safe(answer.set)}  {safe(answer.group)}  "
        f"{answer.n} vectors of {answer.parameters:,} parameters"
    )


def _by_step(steps: Sequence[int], measures: dict[str, Any], axis: str) -> Any:
    table = new_table([f">{axis}", *(f">{name}" for name in measures)])
    for k, step in enumerate(steps):
        table.add_row(str(step), *(number(values[k]) for values in measures.values()))
    return table


def _by_measure(steps: Sequence[int], measures: dict[str, Any]) -> Any:
    from trajsvc.measures.gradients.registry import GRADIENT_MEASURES

    several = len(steps) > 1
    ends = [f">at {steps[0]}", f">at {steps[-1]}", "course"] if several else [f">at {steps[0]}"]
    table = new_table(["=measure", *ends, "unit"])
    for name, values in measures.items():
        units = GRADIENT_MEASURES[name].units
        course = sparkline(values, 12) if len(set(values)) > 1 else ""
        cells = [number(values[0]), number(values[-1]), course] if several else [number(values[0])]
        table.add_row(name, *cells, "" if units == "1" else units)
    return table


def print_map(console: Console, answer: GradientMapAnswer, axis: str) -> None:
    """Print the map in blocks, its scale, and the mean cosine."""
    import numpy as np

    _title(console, answer)
    values = np.array(answer.map, dtype=np.float64).reshape(answer.n, answer.n)
    console.print(heat(values, colours=console.color_system is not None and console.is_terminal, most=40), end="")
    low, high = limits(values)
    pairs = values[np.triu_indices(answer.n, 1)]
    mean = float(np.nanmean(pairs)) if np.isfinite(pairs).any() else None
    console.print(
        f"{answer.n} × {answer.n} at {axis} {answer.step}, colours from {low:g} to {high:g}\nmean cosine of pairs {number(mean, 6)}"
    )


def print_layers(console: Console, answer: GradientLayersAnswer, axis: str) -> None:
    """Print a row a layer, a column a checkpoint; a table a measure."""
    names = list(answer.layers[0].measures) if answer.layers else []
    console.print(f"[bold]{safe(answer.run)}[/bold]  {safe(answer.set)}  {answer.n} vectors")
    for name in names:
        console.print(f"{name}, by {axis}")
        table = new_table(["=layer", *(f">{step}" for step in answer.steps)])
        for row in answer.layers:
            table.add_row(safe(row.layer), *(number(v) for v in row.measures[name]))
        console.print(table)


def print_clusters(console: Console, answer: GradientClustersAnswer, axis: str) -> None:
    """Print sizes, J beside the paper's iteration, and the variances at this and at later checkpoints."""
    _title(console, answer)
    sizes = sorted(answer.sizes, reverse=True)
    more = f" … {len(sizes) - SIZES_SHOWN} more" if len(sizes) > SIZES_SHOWN else ""
    own = answer.variance[0].objective if answer.variance else None
    console.print(
        f"{answer.clusters} clusters at {axis} {answer.step}, of {', '.join(map(str, sizes[:SIZES_SHOWN]))}{more}\n"
        f"J {number(own, 6)}; of the paper's iteration {number(answer.iteration_objective, 6)}\n"
        f"vectors that are copies of another: {answer.duplicates}"
    )
    table = new_table([f">{axis}", ">SG-B", ">SG-2B", ">SVRG", ">GC"])
    for row in answer.variance:
        table.add_row(str(row.step), number(row.sg_b), number(row.sg_2b), number(row.svrg), number(row.gc))
    console.print(table)
