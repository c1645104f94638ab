"""Write the arrays of a run as a zarr v3 group into a folder, which a commit then publishes.

Everything is uncompressed: Grams of float64 sums have no redundancy that a general codec finds, and the tables are
small. Fill values are NaN and -1, so that even a reader that checks nothing sees a lost chunk as undefined and not as
zero.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.regular import read_file
from storage_schema.format import arrays
from storage_schema.format.theta import ThetaLayout
from storage_schema.runs import small_arrays
from storage_schema.runs.contents import BlockTable, CheckpointTable, RowTable, RunContents, TreeTable

if TYPE_CHECKING:
    import zarr

ROOT: Final = "zarr.json"
_QUIET_NAN: Final = 0x7FC0
"""the bits of a bfloat16 NaN"""
_RESERVED: Final = ("format", "format_version")
BITS: Final[dict[str, str]] = {"float16": "uint16", "bfloat16": "uint16", "float32": "uint32", "float64": "uint64"}
"""numpy type of the same width as each stored type"""


def gram_span(blocks: int, basis: int) -> int:
    """Return the number of blocks in one file of the gram: as many as keep it under 16 MiB, more where that would make
    too many files.
    """
    by_size = arrays.GRAM_SHARD_BYTES // (basis * basis * 8)
    return min(blocks, max(1, by_size, -(-blocks // arrays.GRAM_FILES)))


def rows_span(rows: int, steps: int) -> int:
    """Return the number of rows of matrices whose norms are in one file: as ``gram_span``."""
    by_size = arrays.GRAM_SHARD_BYTES // (steps * 3 * 8)
    return min(rows, max(1, by_size, -(-rows // arrays.GRAM_FILES)))


def stage(folder: Path, contents: RunContents, theta: ThetaLayout | None, archive: ThetaLayout | None) -> None:
    """Write all of a run's files except the chunks of theta and its archive."""
    small_arrays.write_group(folder, _attributes(contents))
    _gram(folder / arrays.GRAM, contents.gram, arrays.DIMS[arrays.GRAM])
    _array(folder, arrays.ROUNDING, np.asarray(contents.rounding, np.float64))
    _array(folder, arrays.NONFINITE, np.asarray(contents.nonfinite, np.int64))
    if contents.changes is not None:
        _array(folder, arrays.CHANGES, np.asarray(contents.changes, np.int64))
    if contents.zeros is not None:
        _array(folder, arrays.ZEROS, np.asarray(contents.zeros, np.int64))
    if contents.replicates is not None:
        _array(folder, arrays.REPLICATES, np.asarray(contents.replicates, np.float64))
    if contents.trees is not None:
        _trees(folder / arrays.TREE, contents.trees)
    if contents.rows is not None:
        _rows(folder / arrays.ROWS, contents.rows)
    _table(folder / arrays.CHECKPOINT, "step", contents.checkpoints, arrays.CHECKPOINT_COLUMNS)
    _table(folder / arrays.BLOCK, "block", contents.blocks, arrays.BLOCK_COLUMNS)
    if theta is not None or archive is not None:
        _create_thetas(folder, theta, archive)
    _consolidate(folder)


def _create_thetas(folder: Path, theta: ThetaLayout | None, archive: ThetaLayout | None) -> None:
    import zarr
    from zarr.storage import LocalStore

    group = zarr.open_group(LocalStore(folder), mode="r+", zarr_format=3)
    if theta is not None:
        create_theta(group, theta)
    if archive is not None:
        create_archive(group, archive)


def _attributes(contents: RunContents) -> dict[str, Any]:
    taken = sorted(set(contents.attributes) & set(_RESERVED))
    if taken:
        raise ValueError(f"attributes {taken} belong to the store")
    own = {"format": arrays.FORMAT, "format_version": arrays.FORMAT_VERSION}
    # JSON as every reader knows it: NaN is not JSON, and tuples would come back as lists anyway
    plain: dict[str, Any] = json.loads(json.dumps(contents.attributes, allow_nan=False))
    return own | plain


def run_attributes(root: bytes) -> dict[str, Any]:
    """Return the caller's attributes from the bytes of the root's ``zarr.json``."""
    found: dict[str, Any] = json.loads(root)["attributes"]
    return {name: value for name, value in found.items() if name not in _RESERVED}


def _trees(folder: Path, trees: TreeTable) -> None:
    small_arrays.write_group(folder, {})
    for name in ("block", "start", "scale"):
        small_arrays.write(folder / name, getattr(trees, name).astype(np.int64), arrays.TREE_DIMS[name])
    _gram(folder / "gram", trees.gram, arrays.TREE_DIMS["gram"])


def _rows(folder: Path, rows: RowTable) -> None:
    small_arrays.write_group(folder, {})
    for name in ("block", "width"):
        small_arrays.write(folder / name, getattr(rows, name).astype(np.int64), arrays.ROW_DIMS[name])
    count, _, steps = rows.norms.shape
    span = rows_span(count, steps)
    small_arrays.write_chunked(folder / "norms", rows.norms, arrays.ROW_DIMS["norms"], span)


def _gram(folder: Path, gram: NDArray[np.float64], dims: tuple[str, ...]) -> None:
    blocks, basis, _ = gram.shape
    small_arrays.write_sharded(folder, gram, dims, gram_span(blocks, basis))


def _array(folder: Path, name: str, values: NDArray[Any]) -> None:
    small_arrays.write(folder / name, values, arrays.DIMS[name])


def _table(folder: Path, dim: str, table: CheckpointTable | BlockTable, columns: Sequence[str]) -> None:
    small_arrays.write_group(folder, {})
    for column in columns:
        values = getattr(table, column)
        kept = values.astype(np.int64) if isinstance(values, np.ndarray) else np.array(values, dtype=object)
        small_arrays.write(folder / column, kept, (dim,))


def create_theta(group: zarr.Group, layout: ThetaLayout) -> None:
    """Write the metadata of theta; its chunks are written by ``ThetaStage``."""
    group.create_array(
        arrays.THETA,
        shape=(layout.rows, layout.columns),
        dtype=arrays.STORED_AS[layout.dtype],
        chunks=(1, layout.chunk),
        shards=(1, layout.shard) if layout.shard else None,
        dimension_names=arrays.DIMS[arrays.THETA],
        compressors=None,
        filters=None,
        fill_value=_QUIET_NAN if layout.dtype == "bfloat16" else "NaN",
        attributes={"stored_type": layout.dtype},
    )


def create_archive(group: zarr.Group, layout: ThetaLayout) -> zarr.Array[Any]:
    """Create the archive of theta: unsigned differences, bit-shuffled and compressed (see ``delta_codec``)."""
    from zarr.codecs import BloscCodec

    bits = BITS[layout.dtype]
    return group.create_array(
        arrays.THETA_ARCHIVE,
        shape=(layout.rows, layout.columns),
        dtype=bits,
        chunks=(1, layout.chunk),
        shards=(1, layout.shard) if layout.shard else None,
        dimension_names=arrays.DIMS[arrays.THETA_ARCHIVE],
        compressors=BloscCodec(typesize=np.dtype(bits).itemsize, cname="zstd", clevel=5, shuffle="bitshuffle"),
        filters=None,
        fill_value=0,
        attributes={"stored_type": layout.dtype, "coding": "ordered-bits-difference"},
        config={"write_empty_chunks": True},
    )


def _consolidate(folder: Path) -> None:
    """Copy all metadata into the root's ``zarr.json``, so that opening a run reads one file of it.

    The form is zarr-python's (``consolidated_metadata``, kind ``inline``). It is written here because zarr-python warns
    that the zarr v3 specification does not name it yet, and a warning cannot be silenced for one thread only.
    """
    root = json.loads(read_file(folder / ROOT))
    below = sorted(p for p in folder.rglob(ROOT) if p.parent != folder)
    members: dict[str, Any] = {}
    for path in below:
        node = json.loads(read_file(path))
        if node["node_type"] == "group":
            node["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
        members[path.parent.relative_to(folder).as_posix()] = node
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": members}
    (folder / ROOT).write_text(json.dumps(root, indent=1, allow_nan=False))
