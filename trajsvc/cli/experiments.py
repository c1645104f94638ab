"""``trajsvc experiment``: the papers' experiments, each by one command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from trajsvc.cli.interrupts import stop_on_interrupt
from trajsvc.cli.options import FormatOption, OutputOption, QuietOption, StoreOption
from trajsvc.cli.output import choose, csv_rows, emit, errors_console, json_text, results_console, safe

if TYPE_CHECKING:
    from storage_schema.models.experiments import ExperimentResult
    from trajsvc.experiments.base import Experiment

COLUMNS = ("name", "title", "paper", "figure", "claim")
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="An experiment: h1 … e1; `experiment ls` lists them.")
]


def register(app: typer.Typer) -> None:
    """Add ``experiment`` to ``app``."""
    experiment = typer.Typer(
        help="The papers' experiments: train or draw something small, analyse it, compare with the claim.",
        no_args_is_help=True,
    )
    experiment.callback()(_nothing)
    experiment.command("ls", epilog="Example:  trajsvc experiment ls --format json | jq '.[].claim'")(ls)
    experiment.command("show", epilog="Example:  trajsvc experiment show h1")(show)
    experiment.command("run", epilog=RUN_EPILOG)(run)
    app.add_typer(experiment, name="experiment")


RUN_EPILOG = """
Examples:

  trajsvc experiment run h1 -o experiments        momentum and weight decay, three seeds

  trajsvc experiment run c4 -o experiments --seeds 1 --format json

  trajsvc experiment run h1 --scale paper         the paper's own settings, and what running them needs

  trajsvc experiment run h6 --scale paper --data cifar-10-batches-bin -o experiments

A claim that does not come out is reported as `not reproduced`, and the command exits with 0. Stopped with ^C, trainings that are done are
kept.
"""


def _nothing() -> None:
    """Keep the commands below a common name."""


def ls(form: FormatOption = None, output: OutputOption = None, quiet: QuietOption = False) -> None:
    """List the experiments and what each claims."""
    from trajsvc.cli.terminal import new_table
    from trajsvc.experiments.registry import experiments

    kind = choose(form, output, ("json", "csv"))
    rows = [{column: getattr(e, column) for column in COLUMNS} for e in experiments().values()]
    if kind == "json":
        return emit(json_text(rows), output, quiet)
    if kind == "csv":
        return emit(csv_rows(rows, COLUMNS), output, quiet)
    table = new_table(["name", "~title", "~claim"])
    for row in rows:
        table.add_row(row["name"], safe(row["title"]), safe(row["claim"]))
    results_console().print(table)
    return None


def show(name: NameArgument, store: StoreOption = None, form: FormatOption = None) -> None:
    """Say what an experiment claims, how it is tested here and in the paper, and its last result in the store."""
    from trajsvc.experiments.kept import last_result
    from trajsvc.experiments.registry import experiment
    from trajsvc.results.run import default_store

    root = store or default_store()
    facts, result = _facts(experiment(name)), last_result(root, name)
    if choose(form, None, ("json",)) == "json":
        return emit(json_text(facts | {"result": None if result is None else result.model_dump()}), None, False)
    for key, value in facts.items():
        _say(key, value)
    if result is None:
        _say("result", f"none in {root}: `trajsvc experiment run {name}` makes one")
    else:
        _tell(result)
    return None


def _facts(found: Experiment) -> dict[str, str]:
    return {
        "name": found.name, "title": found.title, "paper": found.paper, "figure": found.figure, "claim": found.claim,
        "reproduced when": found.criterion, "here": found.small, "paper's scale": found.scale,
    }  # fmt: skip


def run(
    name: NameArgument,
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for checkpoints, figures and the result.")
    ] = Path("experiments"),
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="How many seeds: 0, 1, …")] = 3,
    scale: Annotated[
        str,
        typer.Option(
            "--scale",
            metavar="SCALE",
            help="small: as described; brief: of seconds; paper: the paper's settings, run with --data where there is a recipe.",
        ),
    ] = "small",
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The paper's data, for --scale paper. Nothing is downloaded."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=2, help="With --scale paper: fewer epochs than the paper's.")
    ] = None,
    store: StoreOption = None,
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run an experiment and say whether its claim came out."""
    from storage_schema.files.outputs import writing_result
    from trajsvc.errors import UsageError
    from trajsvc.experiments.base import Setting
    from trajsvc.experiments.registry import experiment
    from trajsvc.experiments.result import keep
    from trajsvc.results.run import default_store

    kind = choose(form, None, ("json",))
    found = experiment(name)
    if scale not in ("small", "brief", "paper"):
        raise UsageError("bad-option", f"no scale {scale!r}", hint="Use small, brief or paper.")
    if scale != "paper" and (data is not None or epochs is not None):
        raise UsageError("bad-option", "--data and --epochs are options of --scale paper", hint="Leave them out.")
    if scale == "paper":
        _say_paper_scale(found, quiet=quiet or kind == "json")
        _check_scale(found, data)
    root, place = store or default_store(), folder / found.name
    with (
        writing_result(place, place),
        stop_on_interrupt() as stop,
        errors_console().status("", spinner="dots") as status,
    ):
        place.mkdir(parents=True, exist_ok=True)

        def say(text: str) -> None:
            if not quiet:
                status.update(f"{found.name}: {text}")

        chosen = tuple(range(seeds))
        setting = Setting(place, root, chosen, scale == "brief", say, stop.is_set, data, epochs)
        began = monotonic()
        recipe = found.at_scale if scale == "paper" and found.at_scale else found.recipe
        verdict = recipe(setting)
    verdict = verdict if epochs is None else replace(verdict, notes=(*verdict.notes, f"{epochs} epochs only"))
    with writing_result(place, place):
        result = keep(found, verdict, place, root, chosen, scale, monotonic() - began)
    if kind == "json":
        answer = {key: getattr(result, key) for key in ("name", "claim", "measured", "verdict", "seeds")}
        emit(json_text(answer | {"figures": [str(figure) for figure in verdict.figures]}), None, quiet)
    else:
        _say("experiment", f"{found.name}, {found.title} ({found.paper}, {found.figure})")
        _say("claim", found.claim)
        _say("reproduced when", found.criterion)
        _tell(result)
        _say("in", str(place))


def _say_paper_scale(found: Experiment, *, quiet: bool) -> None:
    """Print the paper's own settings, what has to be installed and where the data goes."""
    from trajsvc.experiments.paper_scale import PAPER_SCALES

    if quiet:
        return
    _say("paper", f"{found.paper}, {found.figure}: {found.scale}")
    for key, value in PAPER_SCALES[found.name].lines() if found.name in PAPER_SCALES else ():
        _say(key, value)


def _check_scale(found: Experiment, data: Path | None) -> None:
    """Raise Refused (``scale-unavailable``) where an experiment cannot be run at its paper's scale, or not without its data."""
    from trajsvc.errors import Refused
    from trajsvc.experiments.paper_scale import PAPER_SCALES

    if found.at_scale is None:
        hint = "Leave out --scale for the small version, or register an experiment of your own with `at_scale` (docs/experiments.md)."
        raise Refused(
            "scale-unavailable", f"{found.name} has no recipe at the scale of its paper, so nothing was run", hint=hint
        )
    if data is None and found.name in PAPER_SCALES:
        hint = f"{PAPER_SCALES[found.name].data_at}. Nothing is downloaded."
        raise Refused(
            "scale-unavailable", f"{found.name} needs its data at the scale of its paper, so nothing was run", hint=hint
        )


def _tell(result: ExperimentResult) -> None:
    """Print a result below what its experiment claims."""
    from trajsvc.experiments.result import short

    results_console().print("measured", markup=False, highlight=False)
    for key, value in result.measured.items():
        results_console().print(f"  {key.replace('_', ' ')}: {short(value)}", markup=False, highlight=False)
    _say("verdict", f"{result.verdict} ({len(result.seeds)} seeds, scale {result.scale}, {result.made})")
    for note in result.notes:
        _say("note", note)
    if result.runs:
        _say("runs", f"{len(result.runs)}, `trajsvc ls --tag experiment:{result.name}` lists them")
    _say("figures", ", ".join(figure.file for figure in result.figures))


def _say(key: str, value: str) -> None:
    results_console().print(f"{key:<16} {value}", markup=False, highlight=False)
