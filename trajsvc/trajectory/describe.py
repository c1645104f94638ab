"""Describe the tensors of a run's checkpoints, each distinct set of them once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trajsvc.anatomy.blocks import Anatomy
from trajsvc.anatomy.dissect import dissect
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import TensorEntry

if TYPE_CHECKING:
    from trajsvc.anatomy.architectures import Rules


class Describer:
    """Describe the tensors of checkpoints; those with the same names, shapes and types are described once."""

    def __init__(
        self,
        config: Mapping[str, Any] | None,
        rules: Rules | None,
        heads: int | None,
        known: Mapping[str, str] | None = None,
    ) -> None:
        """Describe with a config and rules; ``known`` is tensor → why it is not a parameter, as found in headers."""
        self.config, self.rules, self.heads, self.known = config, rules, heads, known or {}
        self._seen: dict[str, Anatomy] = {}

    def __call__(
        self,
        tensors: Mapping[str, TensorEntry],
        config: Mapping[str, Any] | None,
        copies: Mapping[str, str],
        reasons: Mapping[str, str],
        apart: Collection[str] = (),
        own: Collection[str] = (),
    ) -> Anatomy:
        """Describe a checkpoint's tensors.

        ``copies`` is tensor → the one that it equals, ``reasons`` tensor → why it is not a parameter, ``apart`` those of ``untied``,
        ``own`` those whose values are not those that the config ties them to.
        """
        equal = {n: other for n, other in copies.items() if n in tensors and other in tensors}
        tied = {**equal, **{n: other for n, other in _tied(tensors).items() if n not in apart}}
        shapes: list[Any] = [[n, e.shape, e.dtype] for n, e in tensors.items()]
        key = json.dumps([*shapes, sorted(tied.items()), reasons is self.known, sorted(own)])
        if key not in self._seen:
            kinds = {n: (e.shape, e.dtype) for n, e in tensors.items()}
            self._seen[key] = dissect(
                kinds, config or self.config, rules=self.rules, heads=self.heads, tied=tied, aside=reasons, own=own
            )
        return self._seen[key]

    def by_names(self, tensors: Mapping[str, TensorEntry]) -> Anatomy:
        """Describe a checkpoint by its names alone; empty if names do not suffice, in which case it is described after
        reading values.
        """
        try:
            return self(tensors, None, {}, self.known)
        except TrajsvcError:
            return Anatomy("", ())


def untied(checkpoints: Sequence[Mapping[str, TensorEntry]]) -> set[str]:
    """Return the tensors that share another's bytes at some checkpoints and have their own at others: parameters that were tied or began
    as one object, and move apart.
    """
    ties = [_tied(tensors) for tensors in checkpoints]
    pairs = {pair for tied in ties for pair in tied.items()}
    return {
        name
        for name, other in pairs
        for tensors, tied in zip(checkpoints, ties, strict=True)
        if name in tensors and other in tensors and tied.get(name, name) != tied.get(other, other)
    }


def _tied(tensors: Mapping[str, TensorEntry]) -> dict[str, str]:
    """Return tensor → the first tensor that shares its bytes."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, entry in tensors.items():
        if entry.storage is None or entry.size == 0:
            continue
        place = (entry.storage, entry.offset, entry.shape, entry.strides)
        if place in first:
            tied[name] = first[place]
        else:
            first[place] = name
    return tied
