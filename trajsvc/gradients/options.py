"""The options of a computation of gradients: one model that the command line, HTTP, jobs and Python embed."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trajsvc.analysis.options import Precision, Size, several
from trajsvc.settings import Settings

SetKind = Literal["example", "batch", "full", "path", "points", "anchored", "weights", "inputs", "input_gradients"]
SET_KINDS: Final[tuple[SetKind, ...]] = get_args(SetKind)
OF_BATCHES: Final[tuple[SetKind, ...]] = ("batch", "path", "points")
"""sets that are of gradients of batches of ``batch`` examples, and of no others"""
Perturbation = Literal["targeted", "limited", "random"]
Normalisation = Literal["evaluation", "training"]
MAX_VECTORS: Final = 512
"""vectors of a set that are not many: 2 MiB a block and checkpoint"""


class GradientChoices(BaseModel):
    """What a set of gradients depends on, beside the run and its checkpoints, that a stranger may choose. Over HTTP ``probe`` and
    ``data`` are names that the server's operator registered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probe: str = Field(description="causal-lm, image-classifier, or the name of an installed probe")
    data: str = Field(description="file of the examples: text or .npy of token ids, .npz of images and labels")
    sets: Annotated[tuple[SetKind, ...], BeforeValidator(several)] = Field(
        default=("example", "batch"), min_length=1, description="sets of vectors: " + ", ".join(SET_KINDS)
    )
    examples: int = Field(default=64, ge=1, description="examples, the first ones of the data unless they are shuffled")
    batch: int = Field(default=16, ge=1, description="examples of a batch; batch j is examples jB … (j+1)B − 1")
    length: int = Field(default=64, ge=2, description="tokens of an example of text")
    steps: str = Field(default="all", description="checkpoints: 0,1,2 · 1000..5000 · every:4 · first:10 · last:5 · all")
    seed: int = Field(default=0, ge=0, description="seed of perturbations, points and random directions")
    shuffle: int | None = Field(default=None, ge=0, description="seed by which examples are drawn without replacement")
    precision: Precision = Field(default="float64", description="the type in which the network is evaluated")
    anchor: int | None = Field(
        default=None, description="step of the earlier checkpoint of the set anchored; by default the first"
    )
    directions: int = Field(default=16, ge=1, description="perturbations of the sets weights and inputs")
    eta: float = Field(
        default=1e-3, gt=0, description="size of a perturbation, a share of the norm of what is perturbed"
    )
    absolute: bool = Field(default=False, description="take eta as a length and not as a share")
    perturbation: Perturbation = Field(default="targeted", description="targeted, limited or random")
    learning_rate: float = Field(default=0.01, gt=0, description="of the short training of the set path")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of the short training of the set path")
    sigma: float = Field(default=0.1, gt=0, description="standard deviation of the parameters of the set points")
    mask: float | None = Field(
        default=None, gt=0, le=1, description="share of the coordinates of every tensor that is kept"
    )
    # Those below came later: they are left out where they are as they always were, so that the digests of earlier jobs stay what they were.
    per_token: bool = Field(
        default=False, exclude_if=lambda v: v is False, description="every predicted token of a text is an example"
    )
    batch_norm: Normalisation = Field(
        default="evaluation",
        exclude_if=lambda v: v == "evaluation",
        description="batch normalisation by running statistics, or (sets of batches only) by those of the batch: evaluation or training",
    )
    max_vectors: int = Field(
        default=MAX_VECTORS,
        ge=1,
        exclude_if=lambda v: v == MAX_VECTORS,
        description="the most vectors that a set may have: a Gram of n is kept for every block and checkpoint",
    )


class GradientOptions(GradientChoices):
    """All that a set of gradients depends on, beside the run; ``memory`` is what may be held, in bytes."""

    tokenizer: str | None = Field(default=None, description="folder of a tokenizer; by default the checkpoint's own")
    memory: Size = Field(default_factory=lambda: Settings().memory, description="bytes that gradients may take")
