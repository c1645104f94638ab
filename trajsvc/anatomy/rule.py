"""One rule of the table of architectures: the names of its tensors, and how its fused tensors are laid out.

Names are described by patterns: regular expressions in which a dot is a dot and ``#`` is a whole number.
``mlp.experts.#.gate_proj`` matches ``mlp.experts.12.gate_proj`` and nothing longer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from trajsvc.anatomy.linear_patterns import compiled

Layout = Literal["concatenated", "interleaved", "grouped-concatenated", "grouped-interleaved"]
Axis = Literal["rows", "columns", "either", "expert-rows"]
Parts = tuple[tuple[str, str], ...]

QKV: Final[Parts] = (("q", "attention.q"), ("k", "attention.k"), ("v", "attention.v"))
CROSS_QKV: Final[Parts] = tuple((part, f"cross-{component}") for part, component in QKV)
GATE_UP: Final[Parts] = (("gate", "mlp.gate"), ("up", "mlp.in"))

LEAF: Final = re.compile(r"\.(?:weight|bias|gamma|beta)$")
"""The last part of the names of a module's own parameters; ``gamma`` and ``beta`` are those of norms converted from TensorFlow."""


@dataclass(frozen=True, slots=True)
class Fused:
    """A tensor that holds several projections side by side along one axis of n features. ``parts`` are (part, component) in the
    order of the layout:

    - ``concatenated``: [parts, n / parts]; the same as [3, heads, head_dim] for Q, K and V
    - ``interleaved``: [heads, parts, head_dim]
    - ``grouped-concatenated``: [heads·head_dim | kv·head_dim | kv·head_dim]
    - ``grouped-interleaved``: [kv, heads / kv + 2, head_dim], the heads/kv queries of a group before their key and value

    ``axis`` is where the features lie: ``rows`` of a Linear, ``columns`` of a Conv1D, ``either`` where the shape tells (the one
    of two axes that is ``parts`` times as long as the other), ``expert-rows`` in a stack of experts [experts, features, in].
    """

    layout: Layout
    parts: Parts = QKV
    axis: Axis = "rows"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: an architecture."""

    key: str
    layers: str
    """pattern of what stands before a layer's own names, its number as ``#``: ``layers.#``. Any prefix may come before it. Where it
    is empty, and for names that do not match, a layer is what ``module_path`` says."""
    inside: tuple[tuple[str, str | Fused], ...]
    """(pattern, component or layout) for names inside a layer, without ``.weight`` or ``.bias``; the first that matches"""
    outside: tuple[tuple[str, str | Fused], ...] = ()
    """the same for the end of names that are in no layer: embeddings, final norm"""
    buffers: tuple[str, ...] = ()
    """patterns for the end of names that are no parameters whatever their type"""
    exclude: tuple[str, ...] = ()
    """shell patterns of whole names that are left out: ``pos_encoder.pe``, ``teacher.*``"""
    tied: tuple[tuple[str, str], ...] = ()
    """(unembedding, embedding): ends of names of which the first is the second where the config ties them"""
    tied_by_default: bool = False
    """what a config without ``tie_word_embeddings`` means"""
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    """beginnings of the class names in a config: ``GPTNeoX`` for ``GPTNeoXForCausalLM``"""
    marks: tuple[str, ...] = ()
    """ends of names that a checkpoint of this architecture has, all of them"""
    heads_keys: tuple[str, ...] = ("num_attention_heads", "n_head", "num_heads", "n_heads")
    """config keys of the number of heads, which the layouts other than ``concatenated`` need"""
    heads: int | None = None
    """the number of heads where the rule itself knows it"""


class UsersPattern(str):
    """The text of a pattern that is not of this program's own tables: it is matched by the linear-time engine."""

    __slots__ = ()


@lru_cache(maxsize=4096, typed=True)
def pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern to a regular expression that matches a whole text. Raises UsageError (``bad-pattern``)."""
    return _compiled(text, rf"(?:{_expanded(text)})")


@lru_cache(maxsize=4096, typed=True)
def ending(text: str) -> re.Pattern[str]:
    """Compile a pattern to a regular expression that matches whole last parts of a name.

    Raises UsageError (``bad-pattern``).
    """
    return _compiled(text, rf"(?:.+\.)?(?:{_expanded(text)})")


@lru_cache(maxsize=256, typed=True)
def layer_pattern(text: str) -> re.Pattern[str]:
    """Compile ``Rule.layers`` to a regular expression with the groups ``stack``, ``number`` and ``inside`` (the rest).

    Raises UsageError.
    """
    before, _, after = text.partition("#")
    stack, rest = _expanded(before), _expanded(after)
    return _compiled(text, rf"(?P<stack>(?:.+?\.)?{stack})(?P<number>[0-9]+){rest}\.(?P<inside>.+)")


def _compiled(text: str, regex: str) -> re.Pattern[str]:
    if isinstance(text, UsersPattern):
        compiled_whole: re.Pattern[str] = compiled(text, within=rf"{regex}\z")
        return compiled_whole
    return re.compile(rf"{regex}\Z")


def _expanded(text: str) -> str:
    """Escape the dots (except those that are escaped already) and replace ``#`` by a pattern for a number."""
    return re.sub(r"(?<!\\)\.", r"\\.", text).replace("#", "[0-9]+")
