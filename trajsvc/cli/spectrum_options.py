"""How the command line shows the options of a computation of spectra, and those that its answers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from storage_schema.models.spectra import Of
    from trajsvc.spectra.options import SpectrumOptions

TensorOption = Annotated[
    str,
    typer.Option(
        "--tensor", metavar="NAME", help="A matrix: a tensor's name, NAME[q] for a part, NAME[q.3] for a head."
    ),
]
OfOption = Annotated[
    str,
    typer.Option(
        "--of", metavar="OF", help="weights, displacement (from the first checkpoint), updates (from the one before)."
    ),
]
HeadsOption = Annotated[bool, typer.Option("--heads", help="The heads of Q, K and V too.")]

SPECTRA: Final[dict[str, tuple[Any, Any]]] = {
    "of": (
        str | None,
        typer.Option("--of", metavar="A,B", help="Of weights, displacement, updates. \\[all three]"),
    ),
    "steps": (
        str | None,
        typer.Option("--steps", metavar="SPEC", help="Checkpoints: 0,1,2 · 1000..5000 · every:4 · last:5. \\[all]"),
    ),
    "groups": (
        str | None,
        typer.Option("--groups", metavar="A,B", help="Groups whose matrices are decomposed. \\[network]"),
    ),
    "heads": (bool, typer.Option("--heads", help="Decompose the heads of Q, K and V too, where their number is known.")),
    "budget": (str | None, typer.Option("--budget", metavar="SIZE", help="What one matrix may take. \\[512MiB]")),
}  # fmt: skip
"""How the command line shows every field of ``trajsvc.spectra.options.SpectrumOptions``, in the order of its help."""


def make_spectrum_options(given: Mapping[str, Any]) -> SpectrumOptions:
    """Options of a computation of spectra from the command line's words. Raises UsageError (``bad-option``)."""
    from trajsvc.analysis.options import validated
    from trajsvc.measures.registry import names_in
    from trajsvc.spectra.options import SpectrumOptions

    words = dict(given)
    for name in ("of", "groups"):
        if name in words:
            words[name] = tuple(dict.fromkeys(names_in(words[name]) or ()))
    return validated(SpectrumOptions, words, given)


def kind_named(text: str) -> Of:
    """Return a kind of spectra. Raises UsageError (``bad-option``)."""
    from storage_schema.models.spectra import OF

    for known in OF:
        if text == known:
            return known
    raise UsageError("bad-option", f"no spectra of {text!r}", hint=f"--of is one of {', '.join(OF)}.")
