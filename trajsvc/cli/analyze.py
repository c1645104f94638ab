"""``trajsvc analyze``: the main command, from a folder of checkpoints to a run in the store, its summary and its
figures.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trajsvc.cli.options import FormatOption, NameOption, QuietOption, SourceArgument, StoreOption, takes_options
from trajsvc.cli.output import choose, emit, errors_console, json_text, results_console
from trajsvc.errors import EXIT_PARTLY

if TYPE_CHECKING:
    from trajsvc.analysis.observer import Outcome
    from trajsvc.results.run import Run
    from trajsvc.sources.base import CheckpointSource
from trajsvc.cli.running import make_options, opened, run_analysis

SHARE: Final = 0.1
"""of the time of an analysis, for figures that nobody asked for"""
STARTING: Final = 1.5
"""seconds that importing matplotlib and drawing the first figure take, about; 0.3 of them where it is imported"""
EPILOG = """Examples:

  trajsvc analyze checkpoints/my-run

  trajsvc analyze checkpoints/my-run --preview 1%     every map with error bars, from 1 % of the bytes

  trajsvc analyze "ckpts/epoch_*.pt" --name my-run --copy

  trajsvc analyze hf://EleutherAI/pythia-70m --steps every:4

  trajsvc analyze hf://EleutherAI/pythia-12b --no-copy --preview 1%

Stopped with ^C, the same command resumes; with new checkpoints in the folder it adds them.
"""


def register(app: typer.Typer) -> None:
    """Add the commands that read checkpoints to ``app``."""
    app.command("analyze", epilog=EPILOG)(analyze)


@takes_options()
def analyze(
    source: SourceArgument,
    store: StoreOption = None,
    name: NameOption = None,
    *,
    chosen: dict[str, Any],
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="DIR",
            help="Draw all figures, into this folder. \\[those that take a tenth of the time, into STORE/figures/RUN]",
        ),
    ] = None,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Draw no figures.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the run's page as one HTML file.")
    ] = None,
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Read checkpoints once, store all their inner products, and summarise how the parameters moved."""
    from trajsvc.cli.summary import render

    kind = choose(form, None, ())
    from trajsvc.analysis.selected import source_of

    options = make_options(chosen)

    def opener(stop: Callable[[], bool]) -> CheckpointSource:
        return source_of(source, options, store, stop)

    begun = time.monotonic()
    outcome = run_analysis(opener, store, name, options, quiet=quiet or kind == "json")
    run = opened(outcome)
    drawn, left = None, []
    if not no_figures and (figures is not None or kind == "human"):
        drawn = figures or outcome.store / "figures" / outcome.name
        left = draw(run, drawn, None if figures else SHARE * (time.monotonic() - begun))
    if report is not None:
        from trajsvc.cli.report_page import write_report

        write_report(run, report, quiet=quiet)
    if kind == "json":
        emit(json_text(machine_summary(run, outcome, drawn)), None)
    else:
        kept = len(run.steps) - len(outcome.new_steps)
        said = {
            "unchanged": f"nothing new: all {kept} checkpoints are stored, and no weight was read",
            "appended": f"{len(outcome.new_steps)} checkpoints added; the products of the {kept} before were not computed again",
        }
        if outcome.action in said and not quiet:
            errors_console().print(said[outcome.action], highlight=False)
        console = results_console()
        from trajsvc.cli.show import summary_of

        render(run, summary_of(run), console)
        console.print(f"store    {outcome.store / 'runs' / (outcome.name + '.zarr')}", markup=False, highlight=False)
        if drawn is not None and (left or drawn.is_dir()):
            more = f"not yet: {', '.join(left)}; --figures DIR draws all"
            where = f"{drawn} ({more})" if left else str(drawn)
            console.print(f"figures  {where if drawn.is_dir() else more}", markup=False, highlight=False)
    if outcome.left_out:
        raise typer.Exit(EXIT_PARTLY)


def machine_summary(run: Run, outcome: Outcome, figures: Path | None) -> dict[str, Any]:
    """Return ``{"run", "store", "steps", "parameters", "summary", "integrity"}`` and what was done."""
    from trajsvc.cli.show import summary_of

    return {
        "run": outcome.name,
        "store": str(outcome.store),
        "steps": [int(s) for s in run.steps],
        "parameters": run.parameters,
        "action": outcome.action,
        "figures": None if figures is None else str(figures),
        "summary": summary_of(run).model_dump(),
        "integrity": [f.model_dump() for f in run.findings],
    }


def draw(run: Run, folder: Path, seconds: float | None = None) -> list[str]:
    """Draw the figures of a run, those for which it has enough checkpoints and layers; return the names of those left out.

    With ``seconds`` only those are drawn that are expected to fit into this time: the first by ``STARTING``, the others by what a panel
    of those before took.
    """
    from trajsvc.cli.output import save_figure
    from trajsvc.figures.of_run import figure_makers

    begun, left = time.monotonic(), []
    panel = STARTING * (0.2 if "matplotlib.figure" in sys.modules else 1.0) / 2  # the map has two
    for maker in figure_makers(run):
        now = time.monotonic()
        if seconds is not None and now - begun + panel * maker.panels > seconds:
            left.append(maker.stem)
            continue
        _make(folder)
        save_figure(maker.make(), folder / f"{maker.stem}.png", quiet=True)
        panel = (time.monotonic() - now) / maker.panels
    return left


def _make(folder: Path) -> None:
    """Make the folder of the figures. Raises TrajsvcError (``cannot-write``)."""
    from storage_schema.files.outputs import writing_result

    with writing_result(folder):
        folder.mkdir(parents=True, exist_ok=True)
