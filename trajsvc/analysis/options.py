"""The options of an analysis: one model that every interface embeds.

The command line, HTTP submissions, family files, jobs and ``trajsvc.analyze`` all take ``RunOptions``; what belongs to the machine and
not to the run (threads, disk and connections for reading over a network) is added by ``Options``. ``tests/doors/test_options.py`` fails
when a door lacks one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trajsvc.errors import UsageError, validation_text
from trajsvc.settings import Settings, parse_bytes, parse_share
from trajsvc.sources.patterns import LONGEST

DEFAULT_SAMPLE: Final = 0.01
"""Share of the values that the first slabs of a job sample."""

Precision = Literal["float32", "float64"]
Dtype = Literal["float16", "bfloat16", "float32"]

CHOICES: Final = (
    "revisions", "commits", "state", "step_pattern", "skip_damaged", "rules", "exclude", "rename", "heads",
)  # fmt: skip
"""Options that say which checkpoints there are and what their tensors mean."""

_KINDS: Final = {
    "precision": ("bad-precision", "Use float32 or float64."),
    "dtype": ("bad-dtype", "Use float16, bfloat16 or float32."),
    "memory": ("bad-size", "Write a number and a unit: 512MiB, 2GiB, 1.5GB."),
    "cache": ("bad-size", "Write a number and a unit: 512MiB, 2GiB, 1.5GB."),
    "preview": ("bad-share", "Write a percentage or a fraction: 1%, 0.05."),
}


def _parsed(parse: Callable[[str], float]) -> BeforeValidator:
    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except UsageError as error:
            raise ValueError(f"{error.message}. {error.hint}") from None

    return BeforeValidator(read)


def one_text(value: object) -> object:
    """Convert a list of steps to the text that selects them."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return value
    if not all(isinstance(step, int) and not isinstance(step, bool) for step in value):
        raise ValueError("steps are whole numbers")
    return ",".join(map(str, value))


def several(value: object) -> object:
    """Convert a text to a tuple of one, None to an empty tuple, a list to a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, Sequence) else () if value is None else value


Model = TypeVar("Model", bound=BaseModel)

Share = Annotated[float, _parsed(parse_share), Field(gt=0, le=1)]
Size = Annotated[int, _parsed(parse_bytes), Field(gt=0)]


class RunOptions(BaseModel):
    """What the result of an analysis depends on, and the memory and device that it may use. Sizes are in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    steps: Annotated[str | None, BeforeValidator(one_text)] = Field(
        default=None, description="checkpoints to read: 0,1,2 · 1000..5000 · every:4 · first:10 · last:5"
    )
    revisions: Annotated[tuple[str, ...], BeforeValidator(several)] = Field(
        default=(),
        description="branches or tags of a repository on the Hub that are the checkpoints: globs, or regular expressions with (?P<step>…)",
    )
    commits: str | None = Field(
        default=None, description="a branch of a repository on the Hub whose commits are the checkpoints"
    )
    state: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="which model is read if a checkpoint holds several: student, ema, unet, actor/ema",
    )
    step_pattern: str | None = Field(
        default=None,
        min_length=1,
        max_length=LONGEST,
        description="a regular expression of the step in names, with groups step, epoch, tokens, index, stage (or phase), ingredient",
    )
    skip_damaged: bool = Field(default=False, description="leave checkpoints that cannot be read out of the run")
    rules: str | None = Field(default=None, description="names and layouts of tensors, as TOML")
    exclude: Annotated[tuple[str, ...], BeforeValidator(several)] = Field(
        default=(),
        description="tensors that are left out: shell patterns of whole names, such as `pos_encoder.pe` or `teacher.*`",
    )
    rename: Annotated[tuple[str, ...], BeforeValidator(several)] = Field(
        default=(),
        description="names of tensors that changed during training, as FROM=TO: `visual.=model.visual.`, `*.gamma=*.weight`, or a "
        r"regular expression that begins with ^, such as `^h\.(\d+)\.=layers.\1.`",
    )
    heads: int | None = Field(
        default=None, ge=1, le=65536, description="number of attention heads, if no config.json says it"
    )
    precision: Precision = Field(
        default="float64", description="the type in which products are taken; float32 is faster"
    )
    dtype: Dtype | None = Field(
        default=None, description="round values to this type first, as if the run had been stored in it"
    )
    preview: Share | None = Field(default=None, description="stop at an estimate from this share of the bytes")
    copy_parameters: bool | None = Field(
        default=None,
        alias="copy",
        description="keep a copy of the parameters in the store; by default only of runs on the Hub, and a stored run goes on as it was",
    )
    archive: bool = Field(default=False, description="keep a copy that is losslessly compressed; slower to read")
    rows: bool | None = Field(
        default=None,
        description="keep the squared norms of every row (neuron) of the matrices at every checkpoint; by default where they take no more "
        "than an eighth of the memory, and a stored run goes on as it was",
    )
    recompute: bool = Field(default=False, description="compute a stored run again from the start")
    replace: bool = Field(default=False, description="replace another run that is stored under the same name")
    memory: Size = Field(
        default_factory=lambda: Settings().memory, description="bytes of memory for the computation in one process"
    )
    device: str = Field(default_factory=lambda: Settings().device, description="cpu, cuda, cuda:1")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None = None, **more: Any) -> Self:
        """Make options from ``given`` and ``more``; None counts as not given.

        Raises UsageError (``bad-precision``, ``bad-dtype``, ``bad-size``, ``bad-share``, ``bad-option``).
        """
        given = {**(given or {}), **more}
        return validated(cls, {name: value for name, value in given.items() if value is not None})

    def with_(self, **changed: Any) -> Self:
        """Return the same options with those in ``changed`` replaced.

        Raises TypeError for a name that does not exist.
        """
        if unknown := set(changed) - set(type(self).model_fields):
            raise TypeError(f"no option {', '.join(sorted(unknown))}")
        return self.model_copy(update=changed)

    def choices(self) -> dict[str, Any]:
        """Return what says where the checkpoints are and what their tensors mean, without what is left to the defaults: with it the same
        checkpoints can be read again."""
        defaults = {name: type(self).model_fields[name].default for name in CHOICES}
        facts = self.model_dump(mode="json", include=set(CHOICES))
        return {name: facts[name] for name in CHOICES if getattr(self, name) != defaults[name]}

    @property
    def keeps_copy(self) -> bool:
        """Whether the parameters will be kept in the store."""
        return bool(self.copy_parameters or self.archive)


class Options(RunOptions):
    """``RunOptions``, and what of this machine an analysis may use."""

    threads: int = Field(default_factory=lambda: Settings().threads, ge=1, description="computing threads")
    cache: Annotated[int, _parsed(parse_bytes), Field(ge=0)] = Field(
        default_factory=lambda: Settings().cache,
        description="bytes of disk for data that are read ahead over a network; 0: none",
    )
    connections: int = Field(
        default_factory=lambda: Settings().connections, ge=1, le=256, description="simultaneous requests to the Hub"
    )


def validated(kind: type[Model], values: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Model:
    """Make options of a kind from ``values``, which errors show as they were ``given``.

    Raises UsageError of the first value that cannot be.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise bad_option(error, values if given is None else given) from None


def bad_option(error: ValidationError, given: Mapping[str, Any]) -> UsageError:
    """Map the first validation error of ``given`` to a UsageError."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    kind, hint = _KINDS.get(name, ("bad-option", ""))
    if first["type"] == "value_error" and kind != "bad-option":  # the parser's own words
        message, _, hint = str(first["ctx"]["error"]).partition(". ")
        return UsageError(kind, message, hint=hint)
    return UsageError(kind, f"{name} cannot be {given.get(name)!r}: {validation_text(first)}", hint=hint)


def rules_text(path: str | PathLike[str]) -> str:
    """Read and check a rules file; return its text.

    Raises UsageError (``bad-rules``) and NotFound (``rules-not-found``).
    """
    from trajsvc.anatomy.rules_toml import load_rules

    return load_rules(path).text
