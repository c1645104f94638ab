"""The options that commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where runs are kept: TRAJSVC_STORE, else ./trajsvc-store."),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name in the store (see `trajsvc ls`), or http://server:8000/NAME.")
]
GroupOption = Annotated[
    str, typer.Option("--group", metavar="ID", help="What to measure: network, layer/3, layer/3/attention.q, …")
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
    typer.Option("--output", "-o", metavar="FILE", help="Write to a file; its suffix says the format."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and the result.")]


HUB = "Hub"


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A folder of checkpoints, a quoted glob, or hf://org/name\\[@revision] on the Hub."
    ),
]


RevisionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--revisions", metavar="PATTERN", rich_help_panel=HUB,
        help="Branches or tags that are the run: 'stage1-step*', or a regular expression with (?P<step>…). May be given again.",
    ),
]  # fmt: skip


CommitsOption = Annotated[
    str | None,
    typer.Option("--commits", metavar="BRANCH", rich_help_panel=HUB, help="The commits of a branch are the run."),
]


CacheOption = Annotated[
    str | None,
    typer.Option("--cache", metavar="SIZE", rich_help_panel=HUB, help="Disk for what is read ahead; 0: none. [2GiB]"),
]


ConnectionsOption = Annotated[
    int | None, typer.Option("--connections", min=1, max=256, rich_help_panel=HUB, help="Requests at once. [16]")
]


NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The run's name; else the folder's.")]


SelectOption = Annotated[
    str | None,
    typer.Option("--steps", metavar="SPEC", help="Checkpoints to read: 0,1,2 · 1000..5000 · every:4 · last:5."),
]


MemoryOption = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="What the engine may hold beside the interpreter. [512MiB]"),
]


ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="Computing threads; else one a core.")]


DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1. \\[cpu]")]


RulesOption = Annotated[
    Path | None, typer.Option("--rules", metavar="FILE", help="Your own names and layouts of tensors, in TOML.")
]


HeadsOption = Annotated[
    int | None, typer.Option("--heads", min=1, help="Attention heads, where no config.json says them.")
]


SkipOption = Annotated[bool, typer.Option("--skip-damaged", help="Leave unreadable checkpoints out; exit code 3.")]
