"""Layouts as extents: they partition the tensor, and are the index arithmetic of the reshapes they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajsvc.anatomy.blocks import Extent
from trajsvc.anatomy.layouts import Heads, part_extents, whole
from trajsvc.anatomy.rule import GATE_UP, QKV, Axis, Fused, Layout
from trajsvc.errors import Refused


@dataclass(frozen=True)
class Drawn:
    """A fused tensor, and for each part the flat indices that numpy's own reshape picks."""

    fused: Fused
    shape: tuple[int, ...]
    weight: tuple[int, ...]
    heads: Heads
    expected: tuple[list[int], ...]


AXES: tuple[Axis, ...] = ("rows", "columns", "either", "expert-rows")
LAYOUTS: tuple[Layout, ...] = ("concatenated", "interleaved", "grouped-concatenated", "grouped-interleaved")


@st.composite
def fused_tensors(draw: st.DrawFn) -> Drawn:
    layout, axis = draw(st.sampled_from(LAYOUTS)), draw(st.sampled_from(AXES))
    kv, per, dim = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    if not layout.startswith("grouped"):
        per = 1
    if axis == "either":
        layout, per = "concatenated", 1
    heads = kv * per
    parts = GATE_UP if layout == "concatenated" and draw(st.booleans()) else QKV
    features = (heads + 2 * kv) * dim if layout.startswith("grouped") else len(parts) * heads * dim
    width = heads * dim
    weight = {"rows": (features, width), "columns": (width, features), "expert-rows": (2, features, width)}.get(
        axis, (features, width) if draw(st.booleans()) else (width, features)
    )
    bias = draw(st.booleans())
    shape = ((2, features) if axis == "expert-rows" else (features,)) if bias else weight
    at = 1 if axis == "expert-rows" else list(shape).index(features)
    known = Heads(heads, dim if layout.startswith("grouped") and axis == "expert-rows" else None)
    expected = _expected(layout, len(parts), shape, at, kv, per, dim)
    return Drawn(Fused(layout, parts, axis), shape, weight, known, expected)


def _expected(
    layout: Layout, parts: int, shape: tuple[int, ...], at: int, kv: int, per: int, dim: int
) -> tuple[list[int], ...]:
    index = np.moveaxis(np.arange(prod(shape)).reshape(shape), at, 0)
    heads = kv * per
    if layout == "concatenated":
        split = list(index.reshape(parts, -1, *index.shape[1:]))
    elif layout == "interleaved":
        split = list(index.reshape(heads, parts, dim, *index.shape[1:]).swapaxes(0, 1))
    elif layout == "grouped-concatenated":
        split = np.split(index, [heads * dim, (heads + kv) * dim])
    else:
        grouped = index.reshape(kv, per + 2, dim, *index.shape[1:])
        split = [grouped[:, :-2], grouped[:, -2], grouped[:, -1]]
    return tuple(sorted(part.ravel().tolist()) for part in split)


def indices(extent: Extent) -> list[int]:
    return [o * extent.stride + extent.start + i for o in range(extent.outer) for i in range(extent.length)]


@given(fused_tensors())
def test_parts_are_those_of_the_reshape_and_partition_the_tensor(drawn: Drawn) -> None:
    extents = part_extents(drawn.fused, "fused", drawn.shape, drawn.weight, drawn.heads)
    assert tuple(indices(e) for e in extents) == drawn.expected
    assert sorted(i for e in extents for i in indices(e)) == list(range(prod(drawn.shape)))
    assert all(e.outer * e.stride == prod(drawn.shape) for e in extents)


def test_extents_of_the_layouts_in_numbers() -> None:
    """heads 2, head_dim 4, hidden 8: the numbers that a reader can check by hand."""
    heads = Heads(2)
    neox = part_extents(Fused("interleaved"), "t", (24, 8), (24, 8), heads)
    assert neox == (Extent(2, 96, 0, 32), Extent(2, 96, 32, 32), Extent(2, 96, 64, 32))
    bias = part_extents(Fused("interleaved"), "t", (24,), (24, 8), heads)
    assert bias == (Extent(2, 12, 0, 4), Extent(2, 12, 4, 4), Extent(2, 12, 8, 4))
    conv1d = part_extents(Fused("concatenated", axis="either"), "t", (8, 24), (8, 24), Heads())
    assert conv1d == (Extent(8, 24, 0, 8), Extent(8, 24, 8, 8), Extent(8, 24, 16, 8))
    multi_query = part_extents(Fused("grouped-interleaved"), "t", (16, 8), (16, 8), heads)
    assert multi_query == (Extent(1, 128, 0, 64), Extent(1, 128, 64, 32), Extent(1, 128, 96, 32))
    new_decoder = part_extents(Fused("grouped-interleaved"), "t", (32, 16), (32, 16), Heads(4))
    assert new_decoder == (Extent(2, 256, 0, 128), Extent(2, 256, 128, 64), Extent(2, 256, 192, 64))


def test_a_scalar_and_a_tensor_are_whole() -> None:
    assert whole(()) == Extent(1, 1, 0, 1)
    assert whole((3, 4, 5)) == Extent(1, 60, 0, 60)


def test_the_size_of_a_head_is_the_configs_where_it_says_it() -> None:
    """4 queries and 2 keys of 8 features on a model of width 24, where width / heads would be 6."""
    q, k, v = part_extents(Fused("grouped-concatenated"), "t", (64, 24), (64, 24), Heads(4, 8))
    assert [q.size, k.size, v.size] == [32 * 24, 16 * 24, 16 * 24]


@pytest.mark.parametrize(
    ("fused", "shape", "weight", "heads"),
    [
        (Fused("concatenated"), (10, 4), (10, 4), Heads()),
        (Fused("interleaved"), (24, 8), (24, 8), Heads(5)),
        (Fused("interleaved"), (), (), Heads(1)),
        (Fused("grouped-concatenated"), (16, 9), (16, 9), Heads(2)),
        (Fused("grouped-concatenated"), (20, 8), (20, 8), Heads(2)),
        (Fused("grouped-interleaved"), (8, 8), (8, 8), Heads(2)),
        (Fused("grouped-interleaved"), (40, 16), (40, 16), Heads(4)),
        (Fused("grouped-interleaved"), (32,), (), Heads(4)),
        (Fused("concatenated", axis="either"), (8, 16), (8, 16), Heads()),
        (Fused("concatenated", axis="expert-rows"), (6,), (6,), Heads()),
    ],
)
def test_a_shape_that_is_not_of_the_layout_is_refused(
    fused: Fused, shape: tuple[int, ...], weight: tuple[int, ...], heads: Heads
) -> None:
    with pytest.raises(Refused) as refused:
        part_extents(fused, "blocks.0.fused", shape, weight, heads)
    assert refused.value.kind == "layout-mismatch"
    assert refused.value.tensor == "blocks.0.fused"
    assert fused.layout in str(refused.value)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_layouts_by_head_need_the_number_of_heads(layout: Layout) -> None:
    with pytest.raises(Refused) as refused:
        part_extents(Fused(layout), "t", (24, 8), (24, 8), Heads())
    assert refused.value.kind == "heads-unknown"
