"""What is computed beside the trajectory of a family's members: the tables ``[spectra]`` and ``[gradients]`` of its file.

::

    [spectra]                                    # of every member; a member's own [runs.spectra] changes options of it
    of = ["weights", "updates"]
    [gradients]
    probe = "causal-lm"
    data = "text.txt"                            # relative to the file's folder; of a server the name that it has for them
    [[runs]]
    source = "a"
    gradients = false                            # this member is left out

The options are those of ``trajsvc spectra compute`` and of ``trajsvc gradients compute``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from storage_schema.models.service import NAME
from trajsvc.analysis.options import one_text
from trajsvc.gradients.options import GradientOptions
from trajsvc.spectra.options import SpectrumOptions

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
STEPS: Final = (
    "checkpoints of the run, as a text or a list of steps: 0,1,2 · 1000..5000 · every:4 · first:10 · last:5 · all"
)
DEVICE: Final = "where it is computed: cpu, cuda, cuda:1; of a server cpu or cuda"


class SpectraTable(SpectrumOptions):
    """Which spectra of a member's matrices are computed: what ``trajsvc spectra compute`` takes."""

    model_config = _STRICT

    steps: Annotated[str, BeforeValidator(one_text)] = Field(default="all", description=STEPS)
    device: str = Field(default="cpu", min_length=1, description=DEVICE)
    replace: bool = Field(default=False, description="compute anew what is there, each time")

    def options(self, memory: int | None = None) -> SpectrumOptions:
        """Return the options of the computation; ``memory`` in bytes holds instead of ``budget``."""
        return SpectrumOptions.model_validate(_given(self, SpectrumOptions, budget=memory))


class GradientsTable(GradientOptions):
    """Which gradients of a member are computed: what ``trajsvc gradients compute`` takes. Where a family and a member both have
    the table, ``probe`` and ``data`` may stand in either."""

    model_config = _STRICT

    probe: str = Field(
        default="", min_length=1, description="causal-lm, image-classifier, an installed probe, module:object"
    )
    data: str = Field(default="", min_length=1, description="file of the examples, relative to the family's folder")
    steps: Annotated[str, BeforeValidator(one_text)] = Field(default="all", description=STEPS)
    device: str = Field(default="cpu", min_length=1, description=DEVICE)
    name: str | None = Field(
        default=None, pattern=NAME, description="name of the set; else its kind. Of several sets NAME-kind"
    )
    replace: bool = Field(default=False, description="put the set in the place of one of other options")

    def options(self, memory: int | None = None) -> GradientOptions:
        """Return the options of the computation; ``memory`` in bytes holds instead of the table's own."""
        return GradientOptions.model_validate(_given(self, GradientOptions, memory=memory))

    @property
    def lacking(self) -> list[str]:
        """The options without which nothing can be computed, and which are not set."""
        return [name for name in ("probe", "data") if not getattr(self, name)]


def _kind(value: object) -> str:
    return "none" if value is False else "table"


SpectraChoice = Annotated[
    Annotated[Literal[False], Tag("none")] | Annotated[SpectraTable, Tag("table")], Discriminator(_kind)
]
GradientsChoice = Annotated[
    Annotated[Literal[False], Tag("none")] | Annotated[GradientsTable, Tag("table")], Discriminator(_kind)
]
KEYS: Final[Mapping[str, list[str]]] = {
    "spectra": list(SpectraTable.model_fields),
    "gradients": list(GradientsTable.model_fields),
}
"""table → its keys"""
Table = TypeVar("Table", SpectraTable, GradientsTable)


def merged(general: Table | None, own: Table | Literal[False] | None) -> Table | None:
    """Return a member's table: its own options, else the family's. None where neither has one, or its own is false."""
    if own is False or (own is None and general is None):
        return None
    if own is None or general is None:
        return own or general
    return type(own).model_validate({**_set(general), **_set(own)})


def placed(tables: Mapping[str, Any], folder: Path, absolute: Any) -> dict[str, Any]:
    """Return ``tables`` with the files of a table ``gradients`` made absolute.

    What is no path there and not the name of a file in ``folder`` stays: it is a name that a server has for its data.
    """
    table = tables.get("gradients")
    if not isinstance(table, dict):
        return dict(tables)
    files = {
        name: absolute(value)
        for name in ("data", "tokenizer")
        if isinstance(value := table.get(name), str)
        and value
        and (set("./\\~") & set(value) or (folder / value).exists())
    }
    return {**tables, "gradients": {**table, **files}}


def _set(table: BaseModel) -> dict[str, Any]:
    return table.model_dump(exclude_unset=True)


def _given(table: BaseModel, model: type[BaseModel], **instead: Any) -> dict[str, Any]:
    """Return what is set of the fields of ``model``, and what is not None of ``instead``."""
    found = {name: value for name, value in _set(table).items() if name in model.model_fields}
    return found | {name: value for name, value in instead.items() if value is not None}
