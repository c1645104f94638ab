"""``trajsvc report``: a stored run as one file to open and to send, a page or a PDF of figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import GroupOption, OriginOption, QuietOption, RunArgument, StepsOption, StoreOption
from trajsvc.cli.output import write_file
from trajsvc.errors import NotFound, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trajsvc.results.run import Run

EPILOG = """
Examples:

  trajsvc report pythia-70m -o pythia-70m.html

  trajsvc report pythia-70m -o appendix.pdf
"""


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(epilog=EPILOG)(report)


def report(
    run: RunArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="What to write: FILE.html or FILE.pdf.")
    ],
    size: Annotated[
        str,
        typer.Option(
            "--size",
            metavar="BYTES",
            help="Of the Grams in a page, at most: layers come first, then their parts, with five digits if not all fit.",
        ),
    ] = "4MB",
    group: GroupOption = "network",
    origin: OriginOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write a stored run as one file: an HTML page with its data, or a PDF of its figures for a paper's appendix.

    --group, --origin and --steps are of the PDF's figures; the page has all groups that fit into --size.
    """
    kind = output.suffix.lower()
    if kind not in (".html", ".htm", ".pdf"):
        raise UsageError("bad-suffix", f"no report of the kind of {output.name!r}", hint="Name FILE.html or FILE.pdf.")
    from trajsvc.settings import parse_bytes

    room = parse_bytes(size)
    opened = open_run(store, run)
    if kind == ".pdf":
        return write_file(output, lambda out: write_figures(opened, out, group, origin, steps), quiet=quiet)
    from trajsvc.cli.report_page import write_report

    return write_report(opened, output, room=room, quiet=quiet)


def write_figures(run: Run, out: Any, group: str, origin: int | None, steps: str | None) -> None:
    """Write the figures of a run as the pages of a PDF to the binary file ``out``; the bytes depend on the run alone."""
    from matplotlib.backends.backend_pdf import PdfPages

    from trajsvc.figures.style import paper

    with paper(), PdfPages(out, metadata={"Title": run.name, "CreationDate": None}) as pages:
        for figure in figures(run, group, origin, steps):
            pages.savefig(figure)


def figures(run: Run, group: str, origin: int | None, steps: str | None) -> Iterator[Figure]:
    """Yield what a run has: its map beside a random walk's, its curves, its layers, Q/K/V, and what was logged."""
    from trajsvc.figures import of_losses, of_run
    from trajsvc.results import tables

    yield of_run.map_of(run, group, origin, steps, null=True)
    yield of_run.curves_of(run, group, steps)
    if run.layer_ids():
        yield of_run.layers_of(run, origin, steps)
    try:
        answer = tables.qkv(run, steps, origin)
    except NotFound:  # a network without attention
        pass
    else:
        yield of_run.qkv_of(run, answer, steps)
    if run.logged:
        yield of_losses.losses_of(run, None, "update_norm", group, steps)
