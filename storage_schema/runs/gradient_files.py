"""The files of a set of gradient Grams: the zarr metadata of its arrays, and the bytes of its tables and of one step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.format.gradients import SetHead
from storage_schema.format.theta import shard_index, shard_offsets
from storage_schema.runs import small_arrays
from storage_schema.runs.contents import BlockRow, BlockTable

BLOCK_COLUMNS: Final = ("block", "tensor", "part", "layer", "component")
"""Text columns of the table of blocks; ``block`` is the block's name."""
SCALAR: Final = "scalar_"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


class SetAtStep(Protocol):
    """A set of n vectors at one checkpoint, as it was computed: ``trajsvc.gradients.set_grams.SetGrams``."""

    @property
    def kind(self) -> str: ...
    @property
    def blocks(self) -> Sequence[BlockRow]: ...
    @property
    def gram(self) -> NDArray[np.float64]: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def error(self) -> float: ...
    @property
    def same(self) -> NDArray[np.int64] | None: ...
    @property
    def scalars(self) -> Mapping[str, NDArray[np.float64]]: ...
    @property
    def facts(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class GradientRecord:
    """A set of n vectors at one checkpoint, of some blocks, as it is stored."""

    step: int
    gram: NDArray[np.float64]
    """(chosen blocks, n, n)"""
    error: float
    same: NDArray[np.int64] | None = None
    """(chosen blocks, n)"""
    scalars: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """of all blocks; those whose first axis is of length 1 are of the whole"""
    facts: Mapping[str, Any] = field(default_factory=dict)


def block_table(blocks: Sequence[BlockRow]) -> BlockTable:
    size = np.array([b.size for b in blocks], dtype=np.int64)
    offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)[:-1]]) if len(size) else size
    words = {n: tuple(getattr(b, n) for b in blocks) for n in ("name", "tensor", "part", "layer", "component")}
    return BlockTable(**words, size=size, offset=offset)


def check(found: SetAtStep) -> None:
    """Raise ValueError unless the arrays of a set fit each other."""
    blocks, n = len(found.blocks), found.gram.shape[-1]
    if found.gram.shape != (blocks, n, n) or not blocks or not n:
        raise ValueError(f"Grams of {blocks} blocks are not of shape {found.gram.shape}")
    if not np.isfinite(found.gram).all():
        raise ValueError("a Gram holds NaN or infinite values")
    if found.labels and len(found.labels) != n:
        raise ValueError(f"{len(found.labels)} labels for {n} vectors")
    if found.same is not None and found.same.shape != (blocks, n):
        raise ValueError(f"equal vectors are said as {found.same.shape}, not {(blocks, n)}")
    json.dumps(dict(found.facts), allow_nan=False)
    for name, values in found.scalars.items():
        if not _NAME.fullmatch(name) or values.ndim < 1 or values.shape[0] not in (1, blocks):
            raise ValueError(f"the scalar {name!r} of shape {values.shape} is of no block and not of the whole")


def members(head: SetHead) -> dict[str, Any]:
    """Return the zarr metadata of every array of a set, by name."""
    t, b, n = len(head.rows), head.blocks, head.n
    inner = (1, 1, n, n)
    found = {
        "gram": _metadata("float64", (t, b, n, n), _dims("vector", "vector_2"), (1, head.span, n, n), inner),
        "step": _metadata("int64", (t,), ("step",), (1,)),
        "size": _metadata("int64", (b,), ("block",), (b,)),
    }
    for column in BLOCK_COLUMNS:
        found[column] = _metadata("string", (b,), ("block",), (b,))
    if head.labels:
        found["vector"] = _metadata("string", (n,), ("vector",), (n,))
    if head.same:
        found["same"] = _metadata("int64", (t, b, n), _dims("vector"), (1, b, n))
    for name, shape in head.scalars.items():
        dims = ("step", "block" if shape[0] == b else "whole", *(f"{name}_{i}" for i in range(1, len(shape))))
        found[SCALAR + name] = _metadata("float64", (t, *shape), dims, (1, *(max(1, s) for s in shape)))
    return dict(sorted(found.items()))


def _dims(*rest: str) -> tuple[str, ...]:
    return ("step", "block", *rest)


def _metadata(
    kind: str, shape: Sequence[int], dims: Sequence[str], chunks: Sequence[int], inner: Sequence[int] = ()
) -> dict[str, Any]:
    codec = small_arrays.sharded(inner) if inner else (small_arrays.TEXT if kind == "string" else small_arrays.PLAIN)
    return small_arrays.metadata(kind, shape, dims, chunks, [codec])


def table_files(table: BlockTable, labels: Sequence[str]) -> dict[str, bytes]:
    """Return the bytes, by key, of the files that do not change from step to step."""
    found = {"size/c/0": _little(table.size, "<i8")}
    for column in BLOCK_COLUMNS:
        found[f"{column}/c/0"] = small_arrays.encoded(getattr(table, "name" if column == "block" else column))
    if labels:
        found["vector/c/0"] = small_arrays.encoded(list(labels))
    return found


def record_files(
    head: SetHead, row: int, step: int, found: SetAtStep
) -> Iterator[tuple[str, list[bytes | memoryview]]]:
    """Yield (key, pieces) of every file of one step, in row ``row``."""
    n = head.n
    for number, first in enumerate(range(0, head.blocks, head.span)):
        held = np.ascontiguousarray(found.gram[first : first + head.span], "<f8")
        index = shard_index(len(held), head.span, 8 * n * n)
        yield f"gram/c/{row}/{number}/0/0", [held.reshape(-1).view(np.uint8).data, index]
    yield f"step/c/{row}", [_little(np.array([step]), "<i8")]
    if head.same and found.same is not None:
        yield f"same/c/{row}/0/0", [_little(found.same, "<i8")]
    for name, values in found.scalars.items():
        if values.size:
            yield scalar_key(name, row, values.ndim), [_little(values, "<f8")]


def scalar_key(name: str, row: int, axes: int) -> str:
    return "/".join([SCALAR + name, "c", str(row), *("0" for _ in range(axes))])


def grams_in(shard: bytes, head: SetHead, places: Sequence[int]) -> Iterator[NDArray[np.float64]]:
    """Yield the Grams, each (n, n), at ``places`` of a file of the array ``gram``."""
    view, n = memoryview(shard), head.n
    offsets = shard_offsets(view, head.span)
    for place in places:
        yield np.frombuffer(view, "<f8", n * n, int(offsets[place])).reshape(n, n)


def _little(values: NDArray[Any], kind: str) -> bytes:
    return np.ascontiguousarray(values, kind).tobytes()
