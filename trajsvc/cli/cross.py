"""``trajsvc cross``: two runs of one network against each other, or several at one step."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.options import ANALYSIS, FormatOption, GroupOption, OutputOption, QuietOption, StepsOption, StoreOption
from trajsvc.cli.output import (
    FIGURES,
    choose,
    csv_text,
    emit,
    errors_console,
    json_text,
    results_console,
    safe,
    save_figure,
    write_file,
)
from trajsvc.cli.terminal import heat, limits, new_table, number
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from storage_schema.models.cross import CrossAnswer, CrossFamilyAnswer
    from trajsvc.results.cross import CrossMethods
    from trajsvc.results.run import Run

EPILOG = """Examples:

  trajsvc cross baseline no-decay                        cosines of displacements, each from its own start

  trajsvc cross baseline no-decay --origin none -o cross.pdf

  trajsvc cross baseline no-decay --group layer/3 -o cross.npz     arrays map, steps_a, steps_b

  trajsvc cross seed0 seed1 seed2 -o seeds.pdf           a matrix at the last common step

  trajsvc cross --family pythia --format csv

  trajsvc cross --bases                                  stored runs that begin with the same parameters

What two runs' checkpoints give is computed once and kept: any group, origin and steps are free then. Sources are analysed first.
"""

HEAT = 36
"""cells across that are printed, so that 80 columns hold them"""


def register(app: typer.Typer) -> None:
    app.command("cross", epilog=EPILOG)(cross)


def cross(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="A B…", help="Stored runs (or sources), http://server:8000/A B; of more than two, a matrix."
        ),
    ] = None,
    origin: Annotated[
        str,
        typer.Option(
            "--origin", metavar="ORIGIN", help="Displacements from: first (own starts), shared (A's start), none."
        ),
    ] = "first",
    group: GroupOption = "network",
    steps: StepsOption = None,
    step: Annotated[
        int | None, typer.Option("--step", help="Of a matrix, the step. \\[the last that all have]")
    ] = None,
    family: Annotated[
        str | None, typer.Option("--family", metavar="F", help="The members of a family, as a matrix.")
    ] = None,
    bases: Annotated[
        bool, typer.Option("--bases", help="List stored runs that begin with the same parameters.")
    ] = False,
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", metavar="FROM=TO", help="Names of B's tensors, as A has them. May be given again."),
    ] = None,
    common: Annotated[bool, typer.Option("--common", help="Compare the tensors that both have.")] = False,
    memory: Annotated[
        str | None, typer.Option("--memory", "--budget", metavar="SIZE", help="Memory for the computation. \\[512MiB]")
    ] = None,
    threads: Annotated[int | None, ANALYSIS["threads"][1]] = None,
    device: Annotated[str | None, ANALYSIS["device"][1]] = None,
    store: StoreOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show two runs against each other: cosines of displacements at all pairs of checkpoints, distances, common starts."""
    from trajsvc.figures.cross import cross_figure, family_matrix_figure

    kind = choose(form, output, ("json", "csv", "npz", *FIGURES))
    if bases:
        return _bases(store, kind)
    names = [*(runs or []), *_members(store, family)]
    if len(names) < 2:
        raise UsageError("runs-needed", "a comparison needs two runs or more", hint="trajsvc cross A B, or --family F")
    machine = {"memory": memory, "threads": threads, "device": device}
    work = _Comparing(names, store, tuple(rename or ()), common, machine, quiet or kind == "json")
    if len(names) > 2 or family is not None:
        matrix = work.matrix(group, origin, step)
        _warn(matrix.warnings, quiet)
        if kind in FIGURES and output is not None:
            return save_figure(family_matrix_figure(matrix), output, quiet)
        return _emit_matrix(matrix, kind, output, quiet)
    answer = work.pair().answer(group, origin, steps)
    if kind != "human":
        _warn(answer.warnings, quiet)
    if kind in FIGURES and output is not None:
        return save_figure(cross_figure(answer), output, quiet)
    return _emit(answer, kind, output, quiet)


class _Comparing:
    """The runs that are named, and how to compare two of them: on a server, or here with progress."""

    def __init__(
        self,
        names: Sequence[str],
        store: Path | None,
        rename: tuple[str, ...],
        common: bool,
        machine: dict[str, Any],
        quiet: bool,
    ) -> None:
        self.names, self.rename, self.common, self.machine, self.quiet = names, rename, common, machine, quiet
        self.store = store

    @property
    def server(self) -> str | None:
        """The address of the server that has the first run; the others are there too."""
        first = self.names[0].rstrip("/")
        return first.rpartition("/")[0] if first.startswith(("http://", "https://")) else None

    def pair(self) -> CrossMethods:
        first, second = self._runs()
        return self._compare(first, second)

    def matrix(self, group: str, origin: str, step: int | None) -> CrossFamilyAnswer:
        from trajsvc.results.cross_family import cross_family

        return cross_family(self._runs(), self._compare, group, origin, step)

    def _runs(self) -> list[Run]:
        from trajsvc.analysis.cross_runs import stored_or_analysed
        from trajsvc.cli.open_run import open_run
        from trajsvc.results.run import default_store

        if self.server is not None:
            return [open_run(None, f"{self.server}/{name.rstrip('/').rpartition('/')[2]}") for name in self.names]
        return [stored_or_analysed(name, self.store or default_store(), self.machine) for name in self.names]

    def _compare(self, first: Run, second: Run) -> CrossMethods:
        from trajsvc.analysis.cross_runs import compare_runs
        from trajsvc.cli.interrupts import stop_on_interrupt
        from trajsvc.cli.progress import LiveObserver
        from trajsvc.results.run import default_store

        if self.server is not None:
            from trajsvc.results.remote_cross import RemoteCross, computed_there

            crossed = first.cross(second, self.rename, self.common)
            assert isinstance(crossed, RemoteCross)
            asked = {k: self.machine[k] for k in ("memory", "device")}
            return computed_there(crossed, self.rename, self.common, **asked)
        with contextlib.ExitStack() as open_things, stop_on_interrupt() as stop:
            observer = None if self.quiet else LiveObserver()
            if observer is not None:
                open_things.callback(observer.close)
            place = self.store or default_store()
            return compare_runs(
                first, second, place, self.rename, self.common, self.machine, observer=observer, stop=stop
            )


def _members(store: Path | None, family: str | None) -> list[str]:
    if family is None:
        return []
    from trajsvc.families.file import open_family
    from trajsvc.results.run import default_store
    from trajsvc.results.run import names as stored_names

    place = store or default_store()
    present = set(stored_names(place))
    return [member.name for member in open_family(place, family).runs if member.name in present]


def _bases(store: Path | None, kind: str) -> None:
    from trajsvc.results.cross_family import bases
    from trajsvc.results.run import default_store, names
    from trajsvc.results.run import open as open_stored

    place = store or default_store()
    found = bases([open_stored(place, name) for name in names(place)])
    if kind == "json":
        return emit(json_text([row.model_dump() for row in found]), None)
    if kind == "csv":
        return emit(csv_text(["digest", "step", "run"], ([r.digest, r.step, n] for r in found for n in r.runs)), None)
    table = new_table(["first checkpoint", ">step", "runs"])
    for row in found:
        table.add_row(row.digest, str(row.step), safe(", ".join(row.runs)))
    return results_console().print(table if found else "no two stored runs begin with the same parameters")


def _warn(warnings: Sequence[str], quiet: bool) -> None:
    for warning in () if quiet else warnings:
        errors_console().print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def _emit(answer: CrossAnswer, kind: str, output: Path | None, quiet: bool) -> None:
    import numpy as np

    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        rows = ([step, *row] for step, row in zip(answer.steps_a, answer.map, strict=True))
        return emit(csv_text([f"{answer.runs[0]} \\ {answer.runs[1]}", *map(str, answer.steps_b)], rows), output, quiet)
    if output is not None:
        arrays = arrays_of(answer)
        return write_file(output, lambda out: np.savez(out, **arrays), quiet=quiet)
    return _print(answer)


def arrays_of(answer: CrossAnswer) -> dict[str, Any]:
    """Return an answer as the arrays of its .npz file."""
    import numpy as np

    shape = len(answer.steps_a), len(answer.steps_b)
    return {
        "map": np.array(answer.map, dtype=np.float64).reshape(shape),
        "distances": np.array(answer.distances, dtype=np.float64).reshape(shape),
        "steps_a": np.array(answer.steps_a, dtype=np.int64),
        "steps_b": np.array(answer.steps_b, dtype=np.int64),
    }


def _print(answer: CrossAnswer) -> None:
    import numpy as np

    values = np.array(answer.map, dtype=np.float64).reshape(len(answer.steps_a), len(answer.steps_b))
    console = results_console()
    said = {
        "first": "displacements from each run's start",
        "shared": f"displacements from the start of {answer.runs[0]}",
    }
    console.print(
        f"[bold]{safe(answer.runs[0])} × {safe(answer.runs[1])}[/bold]  {safe(answer.group)}, {safe(said.get(answer.origin, 'points'))}"
    )
    if values.size:
        console.print(heat(values, most=HEAT, colours=console.color_system is not None and console.is_terminal), end="")
        low, high = limits(values)
        console.print(
            f"{values.shape[0]} × {values.shape[1]}, colours from {low:g} to {high:g}; down {safe(answer.runs[0])}"
        )
    start, same = answer.start, answer.same_start
    exact = " (equal digests)" if start.digests[0] == start.digests[1] else ""
    table = new_table(["", ">value"])
    table.add_row("began at the same point", f"{'yes' if same else 'no'}{exact}")
    table.add_row("relative difference of the first checkpoints", number(start.difference))
    if not same:
        table.add_row(f"largest, in {safe(start.block)}", number(start.largest))
        if start.branch is not None:
            table.add_row(f"begins at a checkpoint of {safe(answer.runs[0])}, step", str(start.branch))
    if values.size:
        table.add_row("cosine at the last checkpoints", number(answer.map[-1][-1], 6))
        table.add_row("distance at the last checkpoints", number(answer.distances[-1][-1], 6))
        table.add_row(f"norm of {safe(answer.runs[0])} there", number(answer.norms_a[-1], 6))
        table.add_row(f"norm of {safe(answer.runs[1])} there", number(answer.norms_b[-1], 6))
    console.print(table)
    for warning in answer.warnings:
        console.print(f"[yellow]{safe(warning)}[/yellow]")
    names = " ".join(answer.runs)
    console.print(f"[dim]trajsvc cross {safe(names)} -o cross.png makes the figure, -o cross.npz the numbers[/dim]")


def _emit_matrix(answer: CrossFamilyAnswer, kind: str, output: Path | None, quiet: bool) -> None:
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(
            csv_text(["run_a", "run_b", "step_a", "step_b", "cosine", "distance", "same_start"], _pairs(answer)),
            output,
            quiet,
        )
    if output is not None:
        raise UsageError("bad-suffix", "a matrix of runs has no .npz", hint="Use .json, .csv, .png, .svg or .pdf.")
    console = results_console()
    steps = set(answer.steps)
    where = f"{answer.axis} {answer.steps[0]}" if len(steps) == 1 else "each one's last checkpoint"
    console.print(f"[bold]{safe(answer.group)}[/bold]  cosines of displacements at {where}, origin {answer.origin}")
    for title, values in (("cosine", answer.map), ("distance", answer.distances)):
        table = new_table([title, *(f">{safe(name)}" for name in answer.runs)])
        for name, row in zip(answer.runs, values, strict=True):
            table.add_row(safe(name), *(number(v) for v in row))
        console.print(table)
    for base in answer.bases:
        console.print(f"begin with the same parameters: {safe(', '.join(base))}")
    return None


def _pairs(answer: CrossFamilyAnswer) -> list[list[Any]]:
    count = len(answer.runs)
    return [
        [
            answer.runs[i], answer.runs[j], answer.steps[i], answer.steps[j], answer.map[i][j], answer.distances[i][j],
            answer.same_start[i][j],
        ]
        for i in range(count) for j in range(i + 1, count)
    ]  # fmt: skip
