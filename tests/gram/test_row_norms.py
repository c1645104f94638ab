"""Norms of rows: every stored type, scattered blocks, types that change, rounding, rows across segments, appends; against plain numpy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from contracts.kernel import TYPES, stored_rows
from contracts.plain_kernel import TORCH, PlainKernel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.extents import position
from trajsvc.gram.kernels.rows import add_row_norms


def widened(values: NDArray[np.float64], types: list[str]) -> NDArray[np.float64]:
    return np.stack(
        [torch.from_numpy(v).to(TORCH[t]).to(torch.float64).numpy() for v, t in zip(values, types, strict=True)]
    )


def expected(values: NDArray[np.float64], extent: Extent, width: int, new: int) -> NDArray[np.float64]:
    """(rows, 3, new) from (T, columns), the rows of a block ``width`` wide, with a last one that may be cut."""
    points = values[:, extent.elements()]
    update, away = np.diff(points, axis=0, prepend=points[:1]), points - points[0]
    starts = np.arange(0, points.shape[1], width)
    sums = np.stack([np.add.reduceat(v * v, starts, axis=1) for v in (update, away, points)])
    return sums.transpose(2, 0, 1)[..., -new:]


def summed(
    values: NDArray[np.float64],
    types: list[str],
    extent: Extent,
    width: int,
    new: int,
    cuts: list[int],
    *,
    wide: bool = True,
    dtype: str | None = None,
) -> NDArray[np.float64]:
    """The same from segments of the tensor between ``cuts``."""
    found = np.zeros((-(-extent.size // width), 3, new))
    kernel = PlainKernel(len(values), new, dtype)
    edges = [0, *cuts, values.shape[1]]
    for lo, hi in pairwise(edges):
        if position(extent, lo) < position(extent, hi):
            first = position(extent, lo) // width
            rows = stored_rows(values[:, lo:hi], types)
            add_row_norms(rows, extent, lo, hi, width, found[first:], kernel, wide, dtype)
    return found


CASES = [
    (Extent(1, 1, 0, 1), 1),
    (Extent(1, 31, 0, 31), 7),
    (Extent(1, 6000, 0, 6000), 600),
    (Extent(1, 4129, 0, 4129), 4129),
    (Extent(40, 96, 32, 32), 32),  # cut along columns: each row a short run
    (Extent(40, 96, 32, 32), 64),
    (Extent(3, 2400, 800, 800), 100),  # a fused matrix: each run whole rows
]


@settings(deadline=None, max_examples=50)
@given(
    total=st.sampled_from([1, 2, 3, 5, 9, 17]),
    kind=st.sampled_from(TYPES),
    case=st.sampled_from(CASES),
    back=st.integers(0, 16),
    wide=st.booleans(),
    cuts=st.lists(st.integers(1, 4000), max_size=3, unique=True),
    seed=st.integers(0, 2**20),
)
def test_sums_are_those_of_numpy(
    total: int, kind: str, case: tuple[Extent, int], back: int, wide: bool, cuts: list[int], seed: int
) -> None:
    extent, width = case
    values = np.random.default_rng(seed).standard_normal((total, extent.outer * extent.stride))
    new, cuts = max(1, total - back), sorted(c for c in cuts if c < values.shape[1])
    found = summed(values, [kind] * total, extent, width, new, cuts, wide=wide)
    wanted = expected(widened(values, [kind] * total), extent, width, new)
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("new", [1, 3, 6])
def test_stored_in_several_types_values_are_widened(new: int) -> None:
    types = ["float32", "float32", "float16", "bfloat16", "float32", "float64"]
    values, extent = np.random.default_rng(0).standard_normal((6, 500)), Extent(1, 500, 0, 500)
    found = summed(values, types, extent, 50, new, [120])
    np.testing.assert_allclose(found, expected(widened(values, types), extent, 50, new), rtol=1e-13)


def test_values_are_those_that_are_multiplied() -> None:
    values, extent = np.random.default_rng(0).standard_normal((4, 300)), Extent(1, 300, 0, 300)
    found = summed(values, ["float32"] * 4, extent, 30, 4, [], dtype="bfloat16")
    rounded = widened(widened(values, ["float32"] * 4), ["bfloat16"] * 4)
    np.testing.assert_allclose(found, expected(rounded, extent, 30, 4), rtol=1e-13)


def test_a_tiny_update_of_a_large_row_keeps_its_digits() -> None:
    values = np.full((2, 64), 1.0)
    values[1] += np.arange(64) * 2.0**-23
    found = summed(values, ["float32"] * 2, Extent(1, 64, 0, 64), 64, 2, [])
    np.testing.assert_allclose(found[0, 0, 1], ((np.arange(64) * 2.0**-23) ** 2).sum(), rtol=1e-14)


def test_a_row_that_is_not_finite_is_nan_alone() -> None:
    values = np.random.default_rng(0).standard_normal((3, 40))
    values[1, 13] = np.nan
    found = summed(values, ["float32"] * 3, Extent(1, 40, 0, 40), 10, 3, [])
    assert np.isnan(found[1, 0]).tolist() == [False, True, True]
    assert np.isnan(found[1, 2]).tolist() == [False, True, False]
    assert np.isfinite(found[[0, 2, 3]]).all()


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_position_counts_the_elements_before_a_column(outer: int, stride: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, stride - 1))
    extent = Extent(outer, stride, start, data.draw(st.integers(1, stride - start)))
    for column in range(outer * stride + 1):
        assert position(extent, column) == (extent.elements() < column).sum()
