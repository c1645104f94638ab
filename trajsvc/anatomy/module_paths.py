"""Find the layer and the component of a tensor's name by the rule of its architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from trajsvc.anatomy.adapters import base_name, is_factor
from trajsvc.anatomy.rule import LEAF, Fused, Rule, ending, layer_pattern, pattern

_SEPARATOR: Final = re.compile(r"[./]")
OUTSIDE: Final = ("embedding", "unembedding")
"""Components of tensors that belong to no layer."""


@dataclass(frozen=True, slots=True)
class Place:
    """``stack`` and ``number`` where the rule's layer pattern matches, else empty; ``role`` is the component or the layout."""

    name: str
    stack: str
    number: str
    role: str | Fused


def place(rule: Rule, name: str) -> Place:
    """Return the layer and role that ``rule`` assigns to a tensor's name."""
    base = base_name(name)
    found = layer_pattern(rule.layers).match(base) if rule.layers else None
    if found is not None:
        inside = found["inside"]
        role = next((role for text, role in rule.inside if pattern(text).match(_module(inside))), "")
        return Place(name, found["stack"], str(int(found["number"])), _whole(name, role))
    role = next((role for text, role in rule.outside if ending(text).match(_module(base))), "")
    return Place(name, "", "", _whole(name, role))


def _whole(name: str, role: str | Fused) -> str | Fused:
    """Return the role, or ``""`` for an adapter's factor of a fused projection: its layout differs, and it stays whole."""
    return "" if isinstance(role, Fused) and is_factor(name) else role


def layer_labels(places: Iterable[Place]) -> dict[str, str]:
    """Return tensor → label of its layer, in the order given; ``""`` for embeddings.

    A transformer's layers are numbered. Where it has several stacks (encoder and decoder, text and image), the same
    number occurs in each, and the label is the path: ``encoder.layers.3``.
    """
    places = list(places)
    several = len({p.stack for p in places if p.number}) > 1
    return {p.name: _label(p, several) for p in places}


def _label(at: Place, several: bool) -> str:
    if at.number:
        return _SEPARATOR.sub(".", at.stack) + at.number if several else at.number
    return "" if at.role in OUTSIDE else module_path(at.name)


def module_path(name: str) -> str:
    """Return the name up to its first numeric part, or without one all but the last part: ``layer2.0.conv1.weight`` →
    ``layer2.0``, ``bn1.weight`` → ``bn1``.

    A parameter of the outermost module itself keeps its name (``cls_token``), except a weight or bias
    (``in_proj_weight``, ``in_proj_bias``), which belong together: ``model``.
    """
    parts = _SEPARATOR.split(name)
    numeric = next((i for i, part in enumerate(parts[:-1]) if part.isascii() and part.isdigit()), None)
    kept = parts[:-1] if numeric is None else parts[: numeric + 1]
    return ".".join(kept) or ("model" if name.endswith(("weight", "bias")) else name)


def _module(name: str) -> str:
    return LEAF.sub("", name)
