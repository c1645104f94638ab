"""The options of a computation of spectra: one model that the command line, HTTP, jobs and Python embed."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from storage_schema.models.spectra import OF, Of
from trajsvc.analysis.options import Size, several
from trajsvc.settings import Settings


class SpectrumChoices(BaseModel):
    """Which spectra are computed: what a stranger may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: Annotated[tuple[Of, ...], BeforeValidator(several)] = Field(
        default=OF, min_length=1, description="matrices that are decomposed: " + ", ".join(OF)
    )
    steps: str = Field(default="all", description="checkpoints: 0,1,2 · 1000..5000 · every:4 · first:10 · last:5 · all")
    groups: Annotated[tuple[str, ...], BeforeValidator(several)] = Field(
        default=("network",), min_length=1, description="groups whose matrices are decomposed, by their ids"
    )
    heads: bool = Field(default=False, description="decompose the heads of Q, K and V too, where their number is known")


class SpectrumOptions(SpectrumChoices):
    """All that a computation of spectra takes; ``budget`` is what one matrix may take, in bytes."""

    budget: Size = Field(default_factory=lambda: Settings().memory, description="bytes that one decomposition may take")
