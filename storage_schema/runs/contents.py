"""What one stored run holds, in memory: the small arrays and tables that a commit writes as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CheckpointTable:
    """One row a checkpoint, in order of the trajectory."""

    step: NDArray[np.int64]
    label: tuple[str, ...]
    fingerprint: tuple[str, ...]
    """hexadecimal digest of the checkpoint's parameters, equal for equal bytes"""
    dtype: tuple[str, ...]
    """stored type; ``mixed`` when tensors differ"""
    files: tuple[str, ...]
    """JSON list of {path, size, mtime_ns, sha256}: what the bytes were read from"""


class BlockRow(Protocol):
    """What a block says of itself: the columns of the table of blocks, all but where it lies."""

    @property
    def name(self) -> str: ...
    @property
    def tensor(self) -> str: ...
    @property
    def part(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class BlockTable:
    """One row a block, in the order of the columns of theta."""

    name: tuple[str, ...]
    tensor: tuple[str, ...]
    part: tuple[str, ...]
    layer: tuple[str, ...]
    component: tuple[str, ...]
    size: NDArray[np.int64]
    offset: NDArray[np.int64]
    """first column of the block in theta"""


@dataclass(frozen=True)
class TreeTable:
    """Blocks whose digits are lost in the update basis, in another basis. Leg t leads from θ_s to θ_t, s = start[t] − 1, or from zero."""

    block: NDArray[np.int64]
    start: NDArray[np.int64]
    """(tree, T): 0 for the zero vector, s + 1 for θ_s"""
    scale: NDArray[np.int64]
    """(tree): the values that were multiplied are those of the parameters times 2^−scale"""
    gram: NDArray[np.float64]
    """(tree, T, T): inner products of the legs"""


@dataclass(frozen=True)
class GroupTrees:
    """The Grams of a group in as many trees as its blocks need; together they are the whole group."""

    start: NDArray[np.int64]
    """(k, T)"""
    gram: NDArray[np.float64]
    """(k, T, T)"""
    scale: int
    """of all of them"""


@dataclass(frozen=True)
class RowTable:
    """The rows of the run's matrices, those of one after those of another, in the order of the blocks."""

    block: NDArray[np.int64]
    """(matrix)"""
    width: NDArray[np.int64]
    """(matrix): elements of a row"""
    norms: NDArray[np.float64]
    """(row, 3, T): squared norms of a row's update from the checkpoint before (0 at the first), of its displacement from the first, and
    of its weights; NaN where it holds NaN or infinity"""


@dataclass(frozen=True)
class GroupRows:
    """The rows of the matrices of a group."""

    block: NDArray[np.int64]
    """(row): the block that the row is of"""
    index: NDArray[np.int64]
    """(row): which of the block's rows it is"""
    norms: NDArray[np.float64]
    """(row, 3, T): see ``RowTable``"""


@dataclass(frozen=True)
class RunContents:
    """A committed run without its theta."""

    name: str
    checkpoints: CheckpointTable
    blocks: BlockTable
    gram: NDArray[np.float64]
    """(block, basis, basis): inner products in the update basis [theta_0, U_1, …]"""
    rounding: NDArray[np.float64]
    """(block, step): Σ ulp²/12 over the block's values, the expected squared norm of their rounding"""
    nonfinite: NDArray[np.int64]
    """(block, step)"""
    changes: NDArray[np.int64] | None = None
    """(block, step, 2): values whose stored bits changed since the checkpoint before, and those among them that had changed there too; −1
    at checkpoints where they were not counted"""
    zeros: NDArray[np.int64] | None = None
    """(tensor, step), tensors in the order of the blocks: values that are zero; of a tensor longer than a granule, those in granules of
    zeros and in the sample. An append need not count them again; None in estimates and in runs of versions that did not keep it"""
    replicates: NDArray[np.float64] | None = None
    """(replicate, block, basis, basis): for an estimate, the gram with each jackknife replicate of the sample left out"""
    trees: TreeTable | None = None
    rows: RowTable | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    """JSON: source, architecture, findings (list), excluded (list of {step, label, reason}), left_out, notes, groups options,
    estimate (null when exact, else {fraction, …}), created, updated, version, plan"""
