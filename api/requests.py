"""Request models: bodies of submissions and recomputations, which embed the options of an analysis."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from storage_schema.models.service import NAME
from trajsvc.analysis.options import RunOptions, Size, several
from trajsvc.gradients.options import SET_KINDS, SetKind
from trajsvc.jobs.spec import GradientWork, SpectrumWork
from trajsvc.settings import Settings

Device = Literal["cpu", "cuda"]


class Choices(RunOptions):
    """How a run is analysed; what is left out is as for ``trajsvc analyze``."""

    steps: str | None = Field(default=None, max_length=10_000, examples=["every:4", "0..10000"])
    revisions: Annotated[tuple[str, ...], BeforeValidator(several)] = Field(default=(), max_length=64)
    commits: str | None = Field(default=None, max_length=255)
    exclude: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], BeforeValidator(several)] = Field(
        default=(), max_length=64, examples=[["teacher.*"]]
    )
    rename: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], BeforeValidator(several)] = Field(
        default=(), max_length=64, examples=[["visual.=model.visual."]]
    )
    device: Device = "cpu"
    rules: str | None = Field(default=None, max_length=64, description="id of a rules file that the server has")
    memory: Size = Field(
        default_factory=lambda: Settings().memory,
        ge=2**24,
        le=2**44,
        description="bytes the engine may hold in one process",
    )
    priority: int = Field(default=0, ge=-100, le=100)


class Submission(Choices):
    """A run to be analysed."""

    source: str = Field(
        min_length=1, max_length=4096, description="`hf://org/name[@revision]`, or `ROOT:path` within a data root",
        examples=["hf://EleutherAI/pythia-70m", "runs:pythia-nano"],
    )  # fmt: skip
    name: str | None = Field(
        default=None, pattern=NAME, description="the run's name; else the folder's or repository's"
    )
    kind: Literal["trajectory", "ingest"] = "trajectory"
    family: str | None = Field(default=None, pattern=NAME)

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        json_schema_extra={"examples": [{"source": "hf://EleutherAI/pythia-70m", "steps": "every:4"}]},
    )


class Recomputation(Choices):
    """A stored run to be computed anew, from the source that it came from."""

    name: str | None = Field(
        default=None, pattern=NAME, description="a run of its own; else the run itself is replaced"
    )


class CrossSubmission(BaseModel):
    """Two stored runs to be compared with each other."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [{"a": "seed0", "b": "seed1"}]}
    )

    a: str = Field(pattern=NAME, description="a run of the server")
    b: str = Field(pattern=NAME, description="another one")
    rename: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], BeforeValidator(several)] = Field(
        default=(), max_length=64, description="names of b's tensors, as a has them: FROM=TO"
    )
    common: bool = Field(default=False, description="compare the tensors that both have, instead of refusing")
    device: Device = "cpu"
    memory: Size = Field(
        default_factory=lambda: Settings().memory, ge=2**24, le=2**44, description="bytes that the comparison may take"
    )
    priority: int = Field(default=0, ge=-100, le=100)


class GradientSubmission(GradientWork):
    """Sets of gradients of a stored run to be computed, with a probe and data that the server's operator registered."""

    probe: str = Field(max_length=64, description="id of a probe that the server has", examples=["pythia"])
    data: str = Field(max_length=64, description="id of a file of examples that the server has", examples=["text"])
    sets: Annotated[tuple[SetKind, ...], BeforeValidator(several)] = Field(
        default=("example", "batch"), min_length=1, max_length=len(SET_KINDS), description="sets of vectors"
    )
    steps: str = Field(default="all", max_length=10_000, examples=["every:4", "0..10000"])
    device: Device = "cpu"
    memory: Size = Field(
        default_factory=lambda: Settings().memory, ge=2**24, le=2**44, description="bytes that gradients may take"
    )
    priority: int = Field(default=0, ge=-100, le=100)


class SpectrumSubmission(SpectrumWork):
    """Spectra of a stored run's matrices to be computed."""

    steps: str = Field(default="all", max_length=10_000, examples=["every:4", "0..10000"])
    groups: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], BeforeValidator(several)] = Field(
        default=("network",), min_length=1, max_length=64, examples=[["layer/0", "layer/1"]]
    )
    device: Device = "cpu"
    budget: Size = Field(
        default_factory=lambda: Settings().memory,
        ge=2**24,
        le=2**44,
        description="bytes that one decomposition may take",
    )
    priority: int = Field(default=0, ge=-100, le=100)
