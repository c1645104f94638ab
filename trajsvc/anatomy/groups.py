"""Groups: the sets of blocks that can be asked for, by id.

In order: ``network``; ``network/no-embedding`` (without embedding and unembedding, where there is an embedding); ``layer/3``; its
parts ``layer/3/attention.q`` …; ``component/attention.q`` (all layers together); ``embedding``; ``unembedding``;
``tensor/<full name>`` and ``tensor/<full name>[q]``. A group of Q, K or V holds weight and bias.

Numbered layers come by number, before them what is named after the embedding (its norm), after them the others in the order of the
checkpoint. Where that is the order of text, as in a sorted file, of layers whose names differ only in their numbers the lower number
comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from storage_schema.runs.contents import BlockRow, BlockTable
from trajsvc.anatomy.blocks import Anatomy, Group
from trajsvc.anatomy.module_paths import OUTSIDE
from trajsvc.anatomy.patterns import matches
from trajsvc.errors import NotFound

COMPONENTS: Final = (
    "attention.q", "attention.k", "attention.v", "attention.out",
    "cross-attention.q", "cross-attention.k", "cross-attention.v", "cross-attention.out",
    "mlp.in", "mlp.gate", "mlp.out", "norm",
)  # fmt: skip
"""Components in the order in which they are listed; others follow."""
_DIGITS: Final = re.compile("([0-9]+)")
_EMBEDDING: Final = re.compile("embed|wte|wpe", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    tensor: str
    part: str
    layer: str
    component: str
    size: int


def groups(anatomy: Anatomy) -> dict[str, Group]:
    """Return every group of an anatomy by its id."""
    return groups_of_rows(anatomy.blocks)


def groups_of(table: BlockTable) -> dict[str, Group]:
    """Return every group of a stored run by its id: the same as those of the anatomy it was stored from."""
    columns = (table.name, table.tensor, table.part, table.layer, table.component, table.size.tolist())
    return groups_of_rows([_Row(*row) for row in zip(*columns, strict=True)])


def groups_of_rows(rows: Sequence[BlockRow]) -> dict[str, Group]:
    """Return every group of some blocks by its id; ``Group.blocks`` are indices into ``rows``."""
    members = _members(rows)
    return {id: _group(id, blocks, rows) for id, blocks in members.items()}


def _members(rows: Sequence[BlockRow]) -> dict[str, list[int]]:
    """Return id → indices of its blocks, in the order in which groups are listed."""
    layers: dict[str, list[int]] = {}
    parts: dict[tuple[str, str], list[int]] = {}
    components: dict[str, list[int]] = {}
    tensors: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.layer:
            layers.setdefault(row.layer, []).append(i)
            if row.component:
                parts.setdefault((row.layer, row.component), []).append(i)
        if row.component:
            components.setdefault(row.component, []).append(i)
        tensors.setdefault(f"tensor/{row.tensor}", []).append(i)
        if row.part:
            tensors.setdefault(f"tensor/{row.name}", []).append(i)
    out = {"network": list(range(len(rows)))} if rows else {}
    inner = [i for i, row in enumerate(rows) if row.component not in OUTSIDE]
    if "embedding" in components and inner:
        out["network/no-embedding"] = inner
    order = in_order(layers)
    out |= {f"layer/{layer}": layers[layer] for layer in order}
    listed = _listed(components)
    out |= {f"layer/{a}/{c}": parts[a, c] for a in order for c in listed if (a, c) in parts}
    out |= {f"component/{c}": components[c] for c in listed}
    out |= {c: components[c] for c in OUTSIDE if c in components}
    return out | tensors


def _listed(components: Iterable[str]) -> list[str]:
    found = [c for c in components if c not in OUTSIDE]
    return [c for c in COMPONENTS if c in found] + [c for c in found if c not in COMPONENTS]


def _group(id: str, blocks: list[int], rows: Sequence[BlockRow]) -> Group:
    parameters = sum(int(rows[i].size) for i in blocks)
    return Group(id, tuple(blocks), parameters, len({rows[i].tensor for i in blocks}))


def in_order(labels: Iterable[str]) -> list[str]:
    """Sort layer labels by depth as far as names tell it (see the module)."""
    labels = list(labels)
    numbered = sorted((label for label in labels if label.isdigit()), key=int)
    if numbered:
        # What is named after the embedding, such as its norm, stands before the layers; all else after them.
        first = [label for label in labels if _EMBEDDING.search(label)]
        after = [label for label in labels if not label.isdigit() and label not in first]
        return [*_unnumbered(first), *numbered, *_unnumbered(after)]
    return _unnumbered(labels)


def _unnumbered(others: list[str]) -> list[str]:
    if others != sorted(others, key=lambda label: f"{label}."):
        return others
    alike: dict[str, list[str]] = {}
    for label in others:
        alike.setdefault(_DIGITS.sub("#", label), []).append(label)
    queues = {shape: iter(sorted(same, key=_numbers)) for shape, same in alike.items()}
    return [next(queues[_DIGITS.sub("#", label)]) for label in others]


def _numbers(label: str) -> list[int]:
    return [int(n) for n in _DIGITS.findall(label)]


def find_group(groups: Mapping[str, Group], id: str) -> Group:
    """Return the group with an id. Raises NotFound (``group-not-found``) naming ids that are close to it."""
    if id in groups:
        return groups[id]
    from difflib import get_close_matches

    kin = [g for g in groups if g.startswith("tensor/") == id.startswith("tensor/")]
    near = get_close_matches(id, kin, n=3, cutoff=0.6)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    raise NotFound("group-not-found", f"there is no group {id!r}", hint=f"{meant}`trajsvc groups RUN` lists them.")


def match_groups(groups: Mapping[str, Group], pattern: str) -> dict[str, Group]:
    """Return the groups whose ids a shell pattern matches: ``layer/*/attention.q``.

    ``*`` crosses slashes; the ``[q]`` at the end of an id may be written literally.
    """
    return {id: group for id, group in groups.items() if matches(pattern, id)}
