"""``trajsvc push``: a run's curves, numbers and figures to a tracker of experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import QuietOption, RunArgument, StoreOption
from trajsvc.cli.output import errors_console

EPILOG = """
Examples:

  trajsvc push pythia-70m --to tensorboard --project logs

  trajsvc push pythia-70m --to wandb --groups network --names update_norm,update_angle,mds
"""


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(epilog=EPILOG)(push)


def push(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", metavar="TRACKER", help="tensorboard, wandb, mlflow or trackio.")],
    project: Annotated[
        str, typer.Option("--project", metavar="P", help="Project or experiment; of TensorBoard the log folder.")
    ] = "trajsvc",
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--groups", metavar="GLOB", help="Groups: 'layer/*'. May be given again. \\[the network and the layers]"
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option("--names", metavar="A,B", help="Only these measures: numbers, or curves over training."),
    ] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Send a run's curves, numbers and figures to TensorBoard, Weights & Biases, MLflow or trackio, as a run of its own."""
    from trajsvc.integrations.push import push as send
    from trajsvc.measures.registry import names_in

    place = send(open_run(store, run), to, project, groups or None, names_in(names))
    if not quiet:
        errors_console().print(f"pushed to {to}: {place}", markup=False, highlight=False)
