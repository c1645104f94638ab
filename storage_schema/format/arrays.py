"""Names, dimensions, types and chunks of the arrays of a stored run.

A run is one zarr v3 group, ``<store>/runs/<name>.zarr``::

    gram         (block, basis, basis_2)  float64, chunk (1, T, T)   inner products in the update basis
    rounding     (block, step)            float64    expected squared norm of the stored type's rounding
    nonfinite    (block, step)            int64      count of NaN and infinite values
    changes      (block, step, count)     int64      values whose stored bits differ from the checkpoint before, and those among them
                                                 that differed there from the one before that too; -1 where it was not counted
    zeros        (tensor, step)           int64      values that are zero, or lie in a long run of zeros (of large tensors)
    rows/        block, width, norms    (matrix) (matrix) (row, quantity, step): squared norms of every row of the matrices, one after the
                                                 other: of its update, its displacement from the first checkpoint, its weights; optional
    tree/        block, start, scale, gram    (tree) (tree, leg) (tree) (tree, leg, leg_2): blocks whose digits are lost in the
                                                 update basis, in another; only where there are such
    replicates   (replicate, block, basis, basis_2)  float64    the gram with each jackknife replicate left out;
                                                 only in an estimate
    theta        (step, parameter)        stored type, chunks (1, 2**20); only in a self-contained run
    theta_archive  (step, parameter)      the same for cold storage: differences of ordered bits, compressed
    checkpoint/  step, label, fingerprint, dtype, files           (step)
    block/       name, tensor, part, layer, component, size, offset    (block)
    gradients/   sets of gradients at checkpoints, each with a record of its own (``storage_schema.format.gradients``)

Leg t of a tree is 2**-scale (theta_t - theta_s) with s = start[t] - 1, and 2**-scale theta_t where start[t] is 0.

The update basis of T checkpoints is [theta_0, U_1, ..., U_{T-1}] with U_t = theta_t - theta_{t-1}.
"""

from typing import Final

FORMAT: Final = "trajsvc-run"
FORMAT_VERSION: Final = 1
SUFFIX: Final = ".zarr"

GRAM: Final = "gram"
ROUNDING: Final = "rounding"
NONFINITE: Final = "nonfinite"
CHANGES: Final = "changes"
ZEROS: Final = "zeros"
REPLICATES: Final = "replicates"
ROWS: Final = "rows"
TREE: Final = "tree"
THETA: Final = "theta"
THETA_ARCHIVE: Final = "theta_archive"
CHECKPOINT: Final = "checkpoint"
BLOCK: Final = "block"

DIMS: Final[dict[str, tuple[str, ...]]] = {
    GRAM: ("block", "basis", "basis_2"),
    ROUNDING: ("block", "step"),
    NONFINITE: ("block", "step"),
    CHANGES: ("block", "step", "count"),
    ZEROS: ("tensor", "step"),
    REPLICATES: ("replicate", "block", "basis", "basis_2"),
    THETA: ("step", "parameter"),
    THETA_ARCHIVE: ("step", "parameter"),
}

ROW_DIMS: Final[dict[str, tuple[str, ...]]] = {
    "block": ("matrix",),
    "width": ("matrix",),
    "norms": ("row", "quantity", "step"),
}

TREE_DIMS: Final[dict[str, tuple[str, ...]]] = {
    "block": ("tree",),
    "start": ("tree", "leg"),
    "scale": ("tree",),
    "gram": ("tree", "leg", "leg_2"),
}

CHECKPOINT_COLUMNS: Final = ("step", "label", "fingerprint", "dtype", "files")
BLOCK_COLUMNS: Final = ("name", "tensor", "part", "layer", "component", "size", "offset")

THETA_CHUNK: Final = 2**20
"""Columns in one chunk of theta; a chunk never spans two checkpoints, so an append rewrites nothing."""
THETA_SHARD: Final = 2**26
"""Columns in one shard of theta when a run has more than ``THETA_SHARD_ABOVE`` parameters."""
THETA_SHARD_ABOVE: Final = 2**28
GRAM_SHARD_BYTES: Final = 2**24
"""Size that a file of the gram is kept below, so that one layer of a deep network is read without the rest."""
GRAM_FILES: Final = 64
"""Files that a gram is cut into at most, whatever its size: an open run holds them all open."""

FLOAT_TYPES: Final = ("float16", "bfloat16", "float32", "float64")
"""The stored types that are parameters, in the spelling used in every table and message."""
ITEMSIZE: Final[dict[str, int]] = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
STORED_AS: Final[dict[str, str]] = {
    "float16": "float16",
    "bfloat16": "uint16",
    "float32": "float32",
    "float64": "float64",
}
"""numpy type that holds the bits of each stored type (zarr and numpy have no bfloat16)."""
MANTISSA_BITS: Final[dict[str, int]] = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}
