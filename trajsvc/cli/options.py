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
