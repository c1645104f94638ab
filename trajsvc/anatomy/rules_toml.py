"""Parse rules files (TOML) into rows of the table of architectures; ``load_rules`` documents the format."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from os import PathLike
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from storage_schema.files.regular import read_given
from trajsvc.anatomy.architectures import Rules, rows
from trajsvc.anatomy.rule import GATE_UP, QKV, Axis, Fused, Layout, Rule, UsersPattern, layer_pattern, pattern
from trajsvc.errors import NotFound, UsageError, validation_text

_PARTS = dict(QKV + GATE_UP)


def _compiles(text: str) -> str:
    users = UsersPattern(text)
    try:
        pattern(users)
    except UsageError as error:
        raise ValueError(f"not a pattern: {error.message}") from None
    return users


def _one_number(text: str) -> str:
    if text.count("#") != 1:
        raise ValueError(f"{text!r} must have one # for the layer's number, as in layers.#")
    try:
        for half in text.split("#"):
            pattern(UsersPattern(half))
        layer_pattern(text)
    except UsageError as error:
        raise ValueError(f"not a pattern around a number: {error.message}") from None
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
Component = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Part = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
PartList = Annotated[list[Literal["q", "k", "v", "gate", "up"]], Field(min_length=1)]
PartTable = Annotated[dict[Part, Component], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Fused(_Strict):
    layout: Layout
    axis: Axis = "rows"
    parts: Annotated[
        Annotated[PartTable, Tag("<table>")] | Annotated[PartList, Tag("<list>")],
        Discriminator(lambda v: "<table>" if isinstance(v, dict) else "<list>"),
    ] = ["q", "k", "v"]

    def row(self) -> Fused:
        named = self.parts if isinstance(self.parts, dict) else {part: _PARTS[part] for part in self.parts}
        return Fused(self.layout, tuple(named.items()), self.axis)


Role = Annotated[
    Annotated[Component, Tag("<component>")] | Annotated[_Fused, Tag("<layout>")],
    Discriminator(lambda v: "<component>" if isinstance(v, str) else "<layout>"),
]
"""A component, or the layout of a fused tensor. The tags keep an error's place to the keys that the user wrote."""


class _Row(_Strict):
    extends: str | None = None
    layers: Annotated[Pattern, AfterValidator(_one_number)] | None = None
    inside: dict[Pattern, Role] = {}
    outside: dict[Pattern, Role] = {}
    buffers: list[Pattern] = []
    exclude: list[Annotated[str, Field(min_length=1)]] = []
    tied: list[Annotated[list[Pattern], Field(min_length=2, max_length=2)]] = []
    tied_by_default: bool | None = None
    model_types: list[str] = []
    architectures: list[str] = []
    marks: list[Pattern] = []
    heads_keys: list[str] = []
    heads: int | None = Field(None, ge=1)


def _text_of(path: str | PathLike[str]) -> str:
    """Read the text of a rules file. Raises UsageError (``bad-rules``), NotFound (``rules-not-found``)."""
    file = str(path)
    try:
        return read_given(path)
    except FileNotFoundError:
        raise NotFound(
            "rules-not-found", f"there is no file {file}", hint="Check the path of --rules.", file=file
        ) from None
    except UnicodeDecodeError as error:
        raise _bad(file, "", f"not TOML: {error}") from None
    except OSError as error:
        raise _bad(file, "", f"cannot be read: {error.strerror}") from None


def rules_in(text: str, file: str) -> tuple[Rule, ...]:
    """Parse a file's text to rules; ``file`` is its name in messages. Raises UsageError (``bad-rules``)."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(file, "", f"not TOML: {error}") from None
    if not document:
        raise _bad(file, "", "no architecture is described: write a table such as [my-net]")
    return tuple(_row(file, key, table) for key, table in document.items())


def _row(file: str, key: str, table: object) -> Rule:
    if not isinstance(table, Mapping):
        raise _bad(file, key, "this is no table; an architecture is a table such as [my-net]")
    try:
        row = _Row.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"] if str(part)[:1] not in "<["]
        where = ".".join([key, *keys])
        raise _bad(file, where, _said(first)) from None
    base = _base(file, key, row.extends)
    if row.layers is None and base is None:
        raise _bad(file, f"{key}.layers", "missing: say what stands before a layer's own names, as in layers.#")
    _check_parts(file, key, row)
    return _built(key, row, base)


def _said(found: Mapping[str, Any]) -> str:
    return validation_text(found).replace(" or instance of _Fused", "")


def _built(key: str, row: _Row, base: Rule | None) -> Rule:
    said: dict[str, Any] = {
        "layers": row.layers,
        "inside": _roles(row.inside) + (base.inside if base else ()),
        "outside": _roles(row.outside) + (base.outside if base else ()),
        "buffers": tuple(row.buffers) + (base.buffers if base else ()),
        "exclude": tuple(row.exclude) + (base.exclude if base else ()),
        "tied": tuple((a, b) for a, b in row.tied) + (base.tied if base else ()),
        "tied_by_default": row.tied_by_default,
        "heads_keys": tuple(row.heads_keys) or None,
        "heads": row.heads,
    }
    inherited = {name: getattr(base, name) for name in said} if base else {}
    return Rule(
        key=key,
        model_types=tuple(row.model_types),
        architectures=tuple(row.architectures),
        marks=tuple(row.marks),
        **{**inherited, **{name: value for name, value in said.items() if value is not None}},
    )


def _roles(table: Mapping[str, str | _Fused]) -> tuple[tuple[str, str | Fused], ...]:
    return tuple((text, role if isinstance(role, str) else role.row()) for text, role in table.items())


def _base(file: str, key: str, extends: str | None) -> Rule | None:
    if extends is None:
        return None
    known = {rule.key: rule for rule in rows()}
    if extends not in known:
        raise _bad(file, f"{key}.extends", f"there is no architecture {extends!r}; those there are: {', '.join(known)}")
    return known[extends]


def _check_parts(file: str, key: str, row: _Row) -> None:
    for section, table in (("inside", row.inside), ("outside", row.outside)):
        for text, role in table.items():
            if isinstance(role, _Fused) and role.layout.startswith("grouped") and len(role.parts) != 3:
                raise _bad(
                    file, f"{key}.{section}.{text}.parts", f"a {role.layout} tensor has three: queries, keys, values"
                )


def _bad(file: str, key: str, what: str) -> UsageError:
    place = f"{key} in {file}" if key else file
    return UsageError(
        "bad-rules",
        f"{place}: {what}",
        hint="`trajsvc.anatomy.rules_toml.load_rules` documents the format.",
        file=file,
    )


def load_rules(path: str | PathLike[str]) -> Rules:
    r"""Load a user's own rules from a TOML file, one table an architecture; they come before the built-in ones.

    ::

        [my-net]                              # the key, shown as the run's architecture
        extends = "gpt-neox"                  # optional: what is not said here is taken from this row
        model_types = ["my_net"]              # chosen by the config's model_type,
        marks = ["blocks.#.mixer.qkv.weight"] # or by ends of names; with neither, for every checkpoint
        layers = "blocks.#"                   # what stands before a layer's own names, # its number
        heads = 8                             # where no config says it
        buffers = ["mixer.mask"]              # ends of names that are no parameters
        exclude = ["teacher.*"]               # whole names, as for --exclude: * is any text
        tied = [["head.weight", "embed.weight"]]   # one of them counts where the config ties them
        tied_by_default = true                     # and where it does not say

        [my-net.inside]                       # names inside a layer, without .weight and .bias
        "mixer.qkv" = { layout = "interleaved", axis = "rows", parts = ["q", "k", "v"] }
        "mixer.proj" = "attention.out"
        'ln_\d' = "norm"

        [my-net.outside]                      # ends of names that are in no layer
        "embed" = "embedding"
        "head" = "unembedding"

    Patterns are regular expressions in which a dot is a dot and ``#`` a number (see ``rule.Rule``). ``layout`` and ``axis`` are
    those of ``rule.Fused``; ``parts`` are of q, k, v, gate, up, or a table of part = "component".

    Raises UsageError (``bad-rules``) naming the file and the key.
    """

    return parse_rules(_text_of(path), str(path))


def parse_rules(text: str, origin: str = "the rules") -> Rules:
    """Parse the text of a rules file (see ``load_rules``); ``origin`` is its name in messages.

    Raises UsageError (``bad-rules``).
    """

    return Rules(rules_in(text, origin), origin, text)
