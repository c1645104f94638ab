"""``trajsvc spectra submit``: have a server decompose the matrices of one of its runs."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer

from trajsvc.cli.jobs import ServerOption, connect, end, follow, say
from trajsvc.cli.options import FormatOption, QuietOption, takes
from trajsvc.cli.output import choose
from trajsvc.cli.spectrum_options import SPECTRA, make_spectrum_options

EPILOG = """Example:

  trajsvc spectra submit pythia-nano --of weights --server http://127.0.0.1:8000 --wait
"""


def register_submit(spectra: typer.Typer) -> None:
    """Add ``submit`` to the commands of ``spectra``."""
    spectra.command("submit", epilog=EPILOG)(submit)


@takes(SPECTRA)
def submit(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of the server.")],
    server: ServerOption = None,
    *,
    chosen: dict[str, Any],
    replace: Annotated[bool, typer.Option("--replace", help="Compute anew what is there.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda. \\[cpu]")] = "cpu",
    priority: Annotated[int, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")] = 0,
    then_wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended.")] = False,
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Have a server decompose the matrices of one of its runs. The same work submitted twice is one job."""
    kind = choose(form, None, ())
    client = connect(server)
    asked = make_spectrum_options(chosen).model_dump(mode="json", include=set(chosen))
    more = {"replace": replace or None, "device": device, "priority": priority or None}
    job = client.submit_spectra(run, key=secrets.token_hex(16), **asked, **more)
    if then_wait:
        job = follow(client, job["id"], quiet=quiet or kind == "json")
    say(job, kind, quiet)
    end(job, ended=then_wait)
