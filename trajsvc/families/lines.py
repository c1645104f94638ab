"""Find the members of a family that a line joins: those that differ only in the value on the axis and in their seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from storage_schema.models.families import FamilyLine, FamilyRow

_SIZED: Final = re.compile(
    r"(?:^|[_.-])(?:width|depth|d_?model|dim|n_?embd|n_?head|n_?layer|layers|heads|channels|blocks|experts|parameters|"
    r"(?:hidden|intermediate|model|embedding|embed|vocab|ffn?|mlp)_?(?:size|dim))$",
    re.IGNORECASE,
)
"""Names of hyperparameters that a network's size follows from: ``hidden_size``, and not ``batch_size`` or ``layer_norm_eps``."""


def sized(name: str) -> bool:
    """Return whether a hyperparameter of this name determines the size of a network."""
    return _SIZED.search(name) is not None


def lines_of(rows: Sequence[FamilyRow], by: str) -> list[str | None]:
    """Return, for every member, the name of the line that joins it to others: the values it shares with them, except
    ``by`` and the seed.

    Against the seed nothing is joined. Members of different sizes are on different lines, unless ``by`` determines the
    size (a width, a depth): its name says so, and of members equal in all else one value has one size.
    """
    if by == "seed":
        return [None] * len(rows)
    known = list(dict.fromkeys(name for row in rows for name in row.hyperparameters if name != by))
    columns: dict[str, list[Any]] = {name: [row.hyperparameters.get(name) for row in rows] for name in known}
    parting = {name: values for name, values in columns.items() if len(set(map(repr, values))) > 1}
    if by != "size" and not (sized(by) and _one_size_each(rows, by, parting)):
        sizes: list[Any] = [row.size for row in rows]
        parting |= {"size": sizes} if len(set(sizes)) > 1 else {}
    return [", ".join(f"{name}={values[k]}" for name, values in parting.items()) or "all" for k in range(len(rows))]


def _one_size_each(rows: Sequence[FamilyRow], by: str, parting: dict[str, list[Any]]) -> bool:
    """Return whether members that are equal in ``by`` and in what parts the lines are of one size."""
    sizes: dict[str, set[Any]] = {}
    for k, row in enumerate(rows):
        sizes.setdefault(repr((row.hyperparameters.get(by), [v[k] for v in parting.values()])), set()).add(row.size)
    return all(len(found) == 1 for found in sizes.values())


def every_line(rows: Sequence[FamilyRow]) -> dict[str, list[FamilyLine]]:
    """Return the lines of the members that are present, for the size, the seed and each hyperparameter as the axis."""
    there = [row for row in rows if row.state == "present"]
    axes = dict.fromkeys(["size", "seed", *(name for row in there for name in row.hyperparameters)])
    return {by: _lines(there, by) for by in axes}


def _lines(rows: Sequence[FamilyRow], by: str) -> list[FamilyLine]:
    members: dict[str, list[str]] = {}
    for row, line in zip(rows, lines_of(rows, by), strict=True):
        if line is not None:
            members.setdefault(line, []).append(row.member)
    return [FamilyLine(line=line, members=found) for line, found in members.items()]
