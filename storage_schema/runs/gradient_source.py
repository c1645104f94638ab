"""The protocol of a run's sets of gradients, in a store on this machine or on a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.runs.contents import BlockTable


@dataclass(frozen=True)
class GroupRecord:
    """One group of a set of n vectors at one checkpoint."""

    gram: NDArray[np.float64]
    """(n, n), the sum over its blocks"""
    error: float
    """of an inner product, relative to the product of the norms"""
    same: NDArray[np.int64] | None = None
    """(n), equal numbers for vectors that are equal in all of its blocks; None where that is not known"""
    scalars: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """sums over its blocks of what some measures need beside the Gram"""
    whole: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """the same of all blocks"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """what was noted when the set was computed: seeds, zero gradients, perturbations"""


class VectorSet(Protocol):
    """One set: what it is of, and its records by step. Steps are ascending; stale ones are of parameters that the run no longer has."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...
    @property
    def n(self) -> int: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def scalars(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> list[int]: ...
    @property
    def stale(self) -> list[int]: ...
    @property
    def blocks(self) -> BlockTable: ...
    @property
    def digest(self) -> str:
        """Changes whenever anything of the set does."""
        ...

    def group(self, step: int, group: str, blocks: Sequence[int]) -> GroupRecord:
        """Return a group, by its id and by the indices of its blocks.

        Raises NotFound, and what reading a damaged store raises.
        """
        ...


class VectorSets(Protocol):
    """The sets of a run by name."""

    def names(self) -> tuple[str, ...]: ...
    def open(self, name: str) -> VectorSet:
        """Open a set. Raises NotFound (``gradients-not-found``)."""
        ...


def group_record(
    gram: NDArray[np.float64],
    error: float,
    same: NDArray[np.int64] | None,
    scalars: Mapping[str, NDArray[np.float64]],
    chosen: Sequence[int],
    facts: Mapping[str, Any],
) -> GroupRecord:
    """Sum the blocks ``chosen`` to a group: ``gram`` and ``same`` are of these, ``scalars`` of all blocks, or of the
    whole (first axis 1).
    """
    if same is not None:
        same = np.unique(same.T, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    whole = {name: values.sum(axis=0) for name, values in scalars.items()}
    own = {name: (v[list(chosen)] if len(v) > 1 else v).sum(axis=0) for name, v in scalars.items()}
    return GroupRecord(gram.sum(axis=0), error, same, own, whole, facts)
