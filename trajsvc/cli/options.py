"""The options that commands share, each described once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from trajsvc.cli.completion import complete_groups, complete_runs

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Folder of the stored runs: TRAJSVC_STORE, else ./trajsvc-store."),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's name in the store (see `trajsvc ls`), or http://server:8000/NAME.",
        autocompletion=complete_runs,
    ),
]
GroupOption = Annotated[
    str,
    typer.Option(
        "--group",
        metavar="ID",
        help="What to measure: network, layer/3, layer/3/attention.q, …",
        autocompletion=complete_groups,
    ),
]
StepsOption = Annotated[
    str | None,
    typer.Option("--steps", metavar="SPEC", help="Checkpoints: 0,1,2 · 1000..5000 · every:4 · first:10 · last:5."),
]
OriginOption = Annotated[
    int | None, typer.Option("--origin", metavar="STEP", help="Map relative to this step instead of to zero.")
]
FormatOption = Annotated[
    str | None, typer.Option("--format", metavar="FORMAT", help="human, json or csv, to standard output.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to a file, in the format of its suffix."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and the result.")]


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A folder of checkpoints, a quoted glob, or hf://org/name\\[@revision] on the Hub."
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="The run's name; by default the folder's.")
]

HUB: Final = "Hub"
ANALYSIS: Final[dict[str, tuple[Any, Any]]] = {
    "steps": (
        str | None,
        typer.Option("--steps", metavar="SPEC", help="Checkpoints to read: 0,1,2 · 1000..5000 · every:4 · last:5."),
    ),
    "state": (
        str | None,
        typer.Option(
            "--state", metavar="NAME", help="Which model to read if checkpoints hold several: student, ema, unet, actor/ema."
        ),
    ),
    "step_pattern": (
        str | None,
        typer.Option(
            "--step-pattern", metavar="REGEX", help="Regular expression of the step in names: 'run_(?P<step>\\d+k?)'; also stage, epoch, …"
        ),
    ),
    "preview": (
        str | None,
        typer.Option("--preview", metavar="SHARE", help="Stop at an estimate from this share of the bytes: 1%."),
    ),
    "copy_parameters": (
        bool | None,
        typer.Option(
            "--copy/--no-copy", help="Keep a copy of the parameters in the store, too. \\[only from the Hub]"
        ),
    ),
    "archive": (
        bool,
        typer.Option("--archive", help="Keep a copy that is losslessly compressed; slower to read."),
    ),
    "rows": (
        bool | None,
        typer.Option(
            "--rows/--no-rows", help="Keep how every row (neuron) of the matrices moved. \\[if an eighth of --memory holds it]"
        ),
    ),
    "memory": (
        str | None,
        typer.Option("--memory", metavar="SIZE", help="Memory for the computation, beside the interpreter's. [512MiB]"),
    ),
    "threads": (int | None, typer.Option("--threads", min=1, help="Computing threads. \\[one a core]")),
    "device": (str | None, typer.Option("--device", help="cpu, cuda, cuda:1. \\[cpu]")),
    "precision": (str | None, typer.Option("--precision", help="Type of the products: float64, or float32 (faster, six digits).")),
    "dtype": (
        str | None,
        typer.Option("--dtype", help="Round values to float16, bfloat16 or float32 first, as if stored in that type."),
    ),
    "rules": (
        str | None,
        typer.Option("--rules", metavar="FILE", help="TOML file that describes names and layouts of tensors."),
    ),
    "exclude": (
        list[str] | None,
        typer.Option(
            "--exclude", metavar="PATTERN",
            help="Tensors to leave out: 'pos_encoder.pe', 'teacher.*'. May be given again.",
        ),
    ),
    "rename": (
        list[str] | None,
        typer.Option(
            "--rename", metavar="FROM=TO",
            help=r"Tensor names that changed: 'visual.=model.visual.', '*.gamma=*.weight', '^h\.(\d+)\.=layers.\1.'. May be given again.",
        ),
    ),
    "heads": (int | None, typer.Option("--heads", min=1, help="Number of attention heads, if no config.json says it.")),
    "recompute": (bool, typer.Option("--recompute", help="Compute a stored run again from the start.")),
    "replace": (
        bool,
        typer.Option("--replace", help="Replace another run that is stored under the same name."),
    ),
    "skip_damaged": (bool, typer.Option("--skip-damaged", help="Leave unreadable checkpoints out; exit code 3.")),
    "revisions": (
        list[str] | None,
        typer.Option(
            "--revisions", metavar="PATTERN", rich_help_panel=HUB,
            help="Branches or tags that are the checkpoints: 'stage1-step*', or a regular expression with (?P<step>…). May be given again.",
        ),
    ),
    "commits": (
        str | None,
        typer.Option("--commits", metavar="BRANCH", rich_help_panel=HUB, help="Take the commits of this branch as checkpoints."),
    ),
    "cache": (
        str | None,
        typer.Option(
            "--cache", metavar="SIZE", rich_help_panel=HUB, help="Disk space for bytes that are read ahead; 0: none. [2GiB]"
        ),
    ),
    "connections": (
        int | None,
        typer.Option("--connections", min=1, max=256, rich_help_panel=HUB, help="Simultaneous requests. [16]"),
    ),
}  # fmt: skip
"""How the command line shows every field of ``trajsvc.analysis.options.Options``, in the order of its help."""

SERVED: Final = ("threads", "cache", "connections")
"""Options of the machine that computes: on a server they are its operator's."""


def takes_options(*left_out: str, **helps: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command all options of an analysis but ``left_out``; see ``takes``."""
    return takes(ANALYSIS, *left_out, **helps)


def takes(
    table: Mapping[str, tuple[Any, Any]], *left_out: str, **helps: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command all options of ``table`` but ``left_out``: it gets those that were given as a dict ``chosen``.

    ``helps`` are texts for options that mean something else in this command. The options stand in the help where ``chosen`` stands
    in the command's parameters.
    """
    names = [name for name in table if name not in left_out]
    unset = {name: False if table[name][0] is bool else None for name in names}

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in names}
            command(
                chosen={k: v for k, v in chosen.items() if v is not None and v != [] and v is not unset[k]}, **given
            )

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name == "chosen":
                parameters += [_parameter(name, *table[name], helps.get(name)) for name in names]
            else:
                parameters.append(parameter)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return add


def _parameter(name: str, kind: Any, option: Any, text: str | None) -> inspect.Parameter:
    if text is not None:
        option = copy(option)
        option.help = text
    default = False if kind is bool else None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
