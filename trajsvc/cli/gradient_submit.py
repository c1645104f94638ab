"""``trajsvc gradients submit``: have a server compute gradients of one of its runs."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer

from trajsvc.cli.gradient_options import GRADIENTS, make_gradient_options
from trajsvc.cli.jobs import ServerOption, connect, end, follow, say
from trajsvc.cli.options import FormatOption, QuietOption, takes
from trajsvc.cli.output import choose

EPILOG = """Example:

  trajsvc gradients submit pythia-nano --probe nano --data text --sets example,batch --server http://127.0.0.1:8000 --wait
"""


def register_submit(gradients: typer.Typer) -> None:
    """Add ``submit`` to the commands of ``gradients``."""
    gradients.command("submit", epilog=EPILOG)(submit)


@takes(
    GRADIENTS,
    "tokenizer",
    probe="A probe that the server's operator registered, by its name.",
    data="Examples that the server's operator registered, by their name.",
)
def submit(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of the server.")],
    server: ServerOption = None,
    *,
    chosen: dict[str, Any],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Keep the set under this name; of several sets, NAME-KIND."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Compute anew sets that are stored with other options.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda. \\[cpu]")] = "cpu",
    priority: Annotated[int, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")] = 0,
    then_wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended.")] = False,
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Have a server compute gradients of one of its runs. The same work submitted twice is one job."""
    kind = choose(form, None, ())
    client = connect(server)
    asked = make_gradient_options(chosen).model_dump(mode="json", include=set(chosen))
    more = {"name": name, "replace": replace or None, "device": device, "priority": priority or None}
    job = client.submit_gradients(run, key=secrets.token_hex(16), **asked, **more)
    if then_wait:
        job = follow(client, job["id"], quiet=quiet or kind == "json")
    say(job, kind, quiet)
    end(job, ended=then_wait)
