"""Answers about spectra for people: tables and courses in a terminal, and progress on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trajsvc.cli.output import errors_console, safe
from trajsvc.cli.progress import size
from trajsvc.cli.terminal import new_table, number, sparkline
from trajsvc.results.labels import numbers_of
from trajsvc.spectra.compute import SpectrumObserver

if TYPE_CHECKING:
    from rich.console import Console

    from storage_schema.models.spectra import (
        SpectrumLayersAnswer,
        SpectrumMeasuresAnswer,
        SpectrumRow,
        SpectrumValuesAnswer,
    )
    from trajsvc.spectra.forecast import MatrixForecast

VALUES_SHOWN = 6


class LiveSpectra(SpectrumObserver):
    """A line for every checkpoint."""

    def __init__(self) -> None:
        self._step: int | None = None

    def planned(self, total: int, done: int) -> None:
        """Say how many matrices at checkpoints there are, and how many are there."""
        there = f", {done} of them there already" if done else ""
        errors_console().print(f"spectra of {total} matrices at checkpoints{there}", highlight=False)

    def computed(self, step: int, matrix: str, done: int, total: int) -> None:
        """Say that the next checkpoint has begun."""
        if step != self._step or done == total:
            self._step = step
            errors_console().print(f"  step {step}: {done} of {total}", highlight=False)


def say_left_out(left_out: Mapping[str, str], console: Console) -> None:
    """Say which tensors are no matrices."""
    for why, count in Counter(left_out.values()).items():
        names = [name for name, reason in left_out.items() if reason == why]
        more = f" … ({count})" if count > 2 else ""
        console.print(f"left out, {why}: {', '.join(names[:2])}{more}", markup=False, highlight=False, soft_wrap=True)


def print_rows(console: Console, rows: Sequence[SpectrumRow]) -> None:
    """Print a line a kind of spectra."""
    if not rows:
        return console.print("no spectra; `trajsvc spectra compute` makes them", markup=False, highlight=False)
    stale = [">stale"] if any(row.stale for row in rows) else []
    table = new_table(["=of", ">matrices", ">heads", ">checkpoints", ">first", ">last", *stale])
    for row in rows:
        ends = [str(step) for step in (row.steps[0], row.steps[-1])] if row.steps else ["–", "–"]
        left = [str(len(row.stale))] if stale else []
        table.add_row(row.of, str(row.matrices), str(row.heads), str(len(row.steps)), *ends, *left)
    return console.print(table)


def print_forecasts(console: Console, rows: Sequence[MatrixForecast], steps: int) -> None:
    """Print a line a matrix that is to be decomposed."""
    table = new_table(["=matrix", ">rows", ">columns", "method", ">memory", ">GFLOP", ">kept", "note"])
    for row in rows:
        cells = (row.method, size(row.memory), number(row.flops / 1e9, 3), size(row.kept), row.note)
        table.add_row(safe(row.matrix), str(row.rows), str(row.columns), *cells)
    console.print(table)
    total = sum(row.flops for row in rows) * steps
    console.print(
        f"[dim]{len(rows)} matrices, {steps} decompositions of each, {number(total / 1e9, 3)} GFLOP; svd, qr: all singular values; "
        "lanczos: the largest, with bounds[/dim]"
    )


def print_measures(
    console: Console, answer: SpectrumMeasuresAnswer, values: SpectrumValuesAnswer, *, axis: str, each_step: bool
) -> None:
    """Print a line a measure with its course over training, or, with ``each_step``, a line a checkpoint.

    ``axis`` is what the checkpoints are numbered by.
    """
    console.print(
        f"[bold]{safe(answer.run)}[/bold]  {safe(answer.tensor)}  {answer.of}  {answer.rows} × {answer.columns}"
    )
    if not answer.steps:
        return console.print(f"no {answer.of}")
    if each_step:
        table = new_table([f">{axis}", *(f">{name}" for name in answer.measures)])
        for k, step in enumerate(answer.steps):
            table.add_row(str(step), *(number(v[k]) for v in answer.measures.values()))
        return console.print(table)
    table = new_table(["=measure", f">at {answer.steps[0]}", f">at {answer.steps[-1]}", "course"])
    for name, found in answer.measures.items():
        table.add_row(name, number(found[0]), number(found[-1]), sparkline(found, 16) if len(set(found)) > 1 else "")
    console.print(table)
    last = values.values[-1] if values.values else []
    shown = "  ".join(number(v) for v in last[:VALUES_SHOWN])
    more = f" … {number(last[-1])} ({len(last)})" if len(last) > VALUES_SHOWN else ""
    console.print(f"σ at {axis} {answer.steps[-1]}: {shown}{more}", highlight=False)
    bounded = [str(s) for s, how in zip(answer.steps, answer.method, strict=True) if how == "lanczos"]
    if bounded:
        console.print(f"[yellow]by Lanczos, with bounds[/yellow]: {numbers_of(axis)} {', '.join(bounded)}")
    return None


def print_layers(console: Console, answer: SpectrumLayersAnswer, axis: str) -> None:
    """Print a line a matrix: each measure at the last step, and the course of the first measure."""
    names = list(answer.matrices[0].measures) if answer.matrices else []
    at = answer.steps[-1] if answer.steps else "–"
    table = new_table(["=matrix", *(f">{name}" for name in names), *(f"{name} over training" for name in names[:1])])
    for row in answer.matrices:
        found = [row.measures[name] for name in names]
        table.add_row(safe(row.name), *(number(v[-1] if v else None) for v in found), sparkline(found[0], 16))
    console.print(f"[bold]{safe(answer.run)}[/bold]  {answer.of}, at {axis} {at}")
    console.print(table)
