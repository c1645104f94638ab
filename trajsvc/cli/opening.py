"""The options that say which checkpoints of a repository on the Hub are meant, and how they are read."""

from __future__ import annotations

from typing import Annotated

import typer

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
