"""The protocol of a run's Grams, in a store on this machine or on a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.results import Hyperparameter
from storage_schema.runs.contents import BlockTable, CheckpointTable, GroupRows, GroupTrees
from storage_schema.runs.gradient_source import VectorSets


class GramStore(Protocol):
    """One run: its tables, and the sums of its blocks' Grams in the update basis. T stored checkpoints, R replicates of an estimate.

    A group is named by its id and by the indices of its blocks in ``blocks``; a store uses the one it knows better.
    Raises NotFound (``group-not-found``) where a server does not know the group, and what reading a damaged store raises.
    """

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What the analysis noted: source, architecture, findings, excluded, estimate, …"""
        ...

    @property
    def digest(self) -> str:
        """Changes whenever anything of the run does."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """The run's tags, sorted."""
        ...

    @property
    def notes(self) -> str:
        """What people wrote of the run."""
        ...

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """The run's hyperparameters by name, each with its origin."""
        ...

    @property
    def size(self) -> int:
        """Bytes of its files and of what is kept beside it."""
        ...

    @property
    def generation(self) -> int:
        """Counts the run's commits."""
        ...

    @property
    def checkpoint_count(self) -> int: ...

    @property
    def checkpoints(self) -> CheckpointTable: ...

    @property
    def blocks(self) -> BlockTable: ...

    def nonfinite(self) -> NDArray[np.int64]:
        """Return the counts of NaN and infinite values, (blocks or 1, T); a checkpoint whose column is 0 is usable."""
        ...

    def group_gram(self, group: str, blocks: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (T, T) Gram of the group in the update basis and the (T,) squared rounding error that the stored
        types explain; float64.
        """
        ...

    def group_changes(self, group: str, blocks: Sequence[int]) -> NDArray[np.float64] | None:
        """Return (T, 2) counts of the group's values whose stored bits changed since the checkpoint before, and of those among them
        that had changed there too; NaN at checkpoints where they were not counted. None where they never were.
        """
        ...

    @property
    def has_rows(self) -> bool:
        """Whether the norms of the rows of matrices were kept."""
        ...

    def group_rows(self, group: str, blocks: Sequence[int]) -> GroupRows | None:
        """Return the squared norms of the rows of the group's matrices at all checkpoints; None where they were not kept."""
        ...

    def group_trees(self, group: str, blocks: Sequence[int]) -> GroupTrees | None:
        """Return the group in other bases if some of its blocks lose digits in the update basis, else None."""
        ...

    def group_left_out(self, group: str, blocks: Sequence[int]) -> NDArray[np.float64] | None:
        """Return, for an estimate, the group's Gram with each jackknife replicate left out, (R, T, T).

        None for an exact run.
        """
        ...

    @property
    def gradients(self) -> VectorSets:
        """The sets of gradients that are kept beside the run."""
        ...
