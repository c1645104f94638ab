"""How the command line shows the options of a computation of gradients, and those that its answers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from trajsvc.gradients.options import GradientOptions

SetOption = Annotated[
    str,
    typer.Option("--set", metavar="SET", help="A set of gradients: example, batch, … (see `trajsvc gradients ls`)."),
]
BatchOption = Annotated[
    int | None, typer.Option("--batch", min=1, help="Examples of the batch whose variance is asked for. \\[1]")
]
ClustersOption = Annotated[int | None, typer.Option("--clusters", min=1, help="Clusters of Gradient Clustering. \\[8]")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Of clustering and of Gaussian matrices. \\[0]")]
StepOption = Annotated[int | None, typer.Option("--step", metavar="STEP", help="The checkpoint. \\[the first]")]

PERTURBED: Final = "Perturbed sets"
TRAINED: Final = "Other sets"
GRADIENTS: Final[dict[str, tuple[Any, Any]]] = {
    "probe": (
        str | None,
        typer.Option("--probe", metavar="PROBE", help="causal-lm, image-classifier, an installed probe, or module:object."),
    ),
    "data": (
        str | None,
        typer.Option("--data", metavar="FILE", help="Examples: text or .npy of token ids; .npz of images x and labels y."),
    ),
    "sets": (
        str | None,
        typer.Option(
            "--sets", metavar="A,B",
            help="Of example, batch, full, path, points, anchored, weights, inputs, input_gradients. \\[example,batch]",
        ),
    ),
    "examples": (int | None, typer.Option("--examples", min=1, help="How many, from the start of the data. \\[64]")),
    "batch": (int | None, typer.Option("--batch", min=1, help="Examples of a batch, which follow one another. \\[16]")),
    "length": (int | None, typer.Option("--length", min=2, help="Tokens of an example of text. \\[64]")),
    "steps": (
        str | None,
        typer.Option("--steps", metavar="SPEC", help="Checkpoints: 0,1,2 · 1000..5000 · every:4 · last:5. \\[all]"),
    ),
    "seed": (int | None, typer.Option("--seed", min=0, help="Of perturbations, points and random directions. \\[0]")),
    "shuffle": (
        int | None,
        typer.Option("--shuffle", metavar="SEED", min=0, help="Draw the examples with this seed, without replacement."),
    ),
    "precision": (
        str | None,
        typer.Option("--precision", help="The type in which the network is evaluated: float64 or float32. \\[float64]"),
    ),
    "mask": (
        float | None,
        typer.Option("--mask", metavar="SHARE", help="Keep this share of every tensor's coordinates, drawn with --seed."),
    ),
    "tokenizer": (
        str | None, typer.Option("--tokenizer", metavar="DIR", help="Folder of a tokenizer; else the checkpoint's own."),
    ),
    "memory": (str | None, typer.Option("--memory", metavar="SIZE", help="What gradients may take. [512MiB]")),
    "per_token": (bool, typer.Option("--per-token", help="Take every predicted token of a text as an example of its own.")),
    "batch_norm": (
        str | None,
        typer.Option(
            "--batch-norm", metavar="MODE",
            help="Normalise by running statistics (evaluation), or by the batch's (training; sets batch, path, points). \\[evaluation]",
        ),
    ),
    "max_vectors": (
        int | None,
        typer.Option("--max-vectors", min=1, help="Allow sets of so many vectors: n × n numbers are kept a block. \\[512]"),
    ),
    "directions": (
        int | None, typer.Option("--directions", min=1, rich_help_panel=PERTURBED, help="How many perturbations. \\[16]"),
    ),
    "eta": (
        float | None,
        typer.Option(
            "--eta", rich_help_panel=PERTURBED, help="Their size, as a share of the norm of what is perturbed. \\[0.001]"
        ),
    ),
    "absolute": (bool, typer.Option("--absolute", rich_help_panel=PERTURBED, help="Take --eta as a length.")),
    "perturbation": (
        str | None,
        typer.Option(
            "--perturbation", rich_help_panel=PERTURBED, help="targeted, limited or random directions. \\[targeted]"
        ),
    ),
    "anchor": (
        int | None,
        typer.Option(
            "--anchor", metavar="STEP", rich_help_panel=TRAINED, help="The earlier checkpoint of the set anchored. \\[the first]"
        ),
    ),
    "learning_rate": (
        float | None, typer.Option("--learning-rate", rich_help_panel=TRAINED, help="Of the training of the set path. \\[0.01]"),
    ),
    "momentum": (
        float | None, typer.Option("--momentum", rich_help_panel=TRAINED, help="Of the training of the set path. \\[0]"),
    ),
    "sigma": (
        float | None,
        typer.Option("--sigma", rich_help_panel=TRAINED, help="Standard deviation of the weights of the set points. \\[0.1]"),
    ),
}  # fmt: skip
"""How the command line shows every field of ``trajsvc.gradients.options.GradientOptions``, in the order of its help."""


def make_gradient_options(given: Mapping[str, Any]) -> GradientOptions:
    """Options of a computation of gradients from the command line's words. Raises UsageError (``bad-option``)."""
    from trajsvc.analysis.options import validated
    from trajsvc.gradients.options import GradientOptions

    for name, what in (("probe", "causal-lm"), ("data", "text.txt")):
        if name not in given:
            raise UsageError("bad-option", f"no --{name} is given", hint=f"For example --{name} {what}.")
    words = dict(given)
    if "sets" in words:
        words["sets"] = tuple(dict.fromkeys(name.strip() for name in words["sets"].split(",") if name.strip()))
    return validated(GradientOptions, words, given)
