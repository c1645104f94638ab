"""Counting the values that change: every stored type, scattered blocks, types that change, appended rows; against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.kernel import TYPES, stored_rows
from contracts.plain_kernel import TORCH, PlainKernel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.kernels.changes import count_changes


def sparse_walk(total: int, columns: int, seed: int) -> NDArray[np.float64]:
    """Values of which every update leaves some as they are, in runs of different lengths."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((1, columns)).repeat(total, axis=0)
    for t in range(1, total):
        moved = rng.random(columns) < rng.choice([0.0, 0.02, 0.5, 1.0])
        values[t] = np.where(moved, values[t - 1] + rng.choice([-0.5, 0.25], columns), values[t - 1])
    return values


def elements(extent: Extent) -> NDArray[np.int64]:
    return np.concatenate(
        [np.arange(extent.length) + extent.start + o * extent.stride for o in range(extent.outer)]
    ).astype(np.int64)


def expected(bits: NDArray[np.int64], new: int) -> NDArray[np.int64]:
    """(T, 2), from (T, n) words that are equal where values are."""
    found = np.zeros((len(bits), 2), np.int64)
    for t in range(max(1, len(bits) - new), len(bits)):
        changed = bits[t] != bits[t - 1]
        found[t, 0] = changed.sum()
        if t > 1:
            found[t, 1] = (changed & (bits[t - 1] != bits[t - 2])).sum()
    return found


def words(values: NDArray[np.float64], kind: str) -> NDArray[np.int64]:
    stored = torch.from_numpy(values).to(TORCH[kind]).contiguous()
    return stored.view(getattr(torch, f"int{8 * ITEMSIZE[kind]}")).to(torch.int64).numpy()


@settings(deadline=None, max_examples=60)
@given(
    total=st.sampled_from([1, 2, 3, 9, 33]),
    kind=st.sampled_from(TYPES),
    extent=st.sampled_from([
        Extent(1, 1, 0, 1), Extent(1, 31, 0, 31), Extent(1, 4129, 0, 4129), Extent(1, 9000, 0, 9000), Extent(40, 96, 32, 32),
        Extent(3, 5000, 17, 4200),
    ]),
    back=st.integers(0, 32),
    wide=st.booleans(),
    seed=st.integers(0, 2**20),
)  # fmt: skip
def test_counts_are_those_of_numpy(total: int, kind: str, extent: Extent, back: int, wide: bool, seed: int) -> None:
    values = sparse_walk(total, extent.outer * extent.stride, seed)
    new = max(1, total - back)
    counts = np.zeros((total, 2), np.int64)
    kernel = PlainKernel(total, new, None)
    count_changes(stored_rows(values, [kind] * total), extent, 0, values.shape[1], new, counts, kernel, wide)
    assert counts.tolist() == expected(words(values[:, elements(extent)], kind), new).tolist()


@pytest.mark.parametrize("wide", [True, False])
def test_a_tensor_in_parts_counts_as_the_whole(wide: bool) -> None:
    values, extent = sparse_walk(5, 9000, 1), Extent(9, 1000, 100, 700)
    counts = np.zeros((5, 2), np.int64)
    kernel = PlainKernel(5, 5, None)
    for lo, hi in ((0, 4096), (4096, 8192), (8192, 9000)):
        count_changes(stored_rows(values[:, lo:hi], ["float32"] * 5), extent, lo, hi, 5, counts, kernel, wide)
    assert counts.tolist() == expected(words(values[:, elements(extent)], "float32"), 5).tolist()


@pytest.mark.parametrize("new", [1, 2, 3, 6])
def test_stored_in_several_types_values_are_compared(new: int) -> None:
    types = ["float32", "float32", "float16", "bfloat16", "float32", "float64"]
    values = sparse_walk(6, 500, 2)  # multiples of a quarter are the same in some types, and others are not
    counts = np.zeros((6, 2), np.int64)
    extent = Extent(1, 500, 0, 500)
    count_changes(stored_rows(values, types), extent, 0, 500, new, counts, PlainKernel(6, new, None), True)
    widened = np.stack(
        [torch.from_numpy(v).to(TORCH[t]).to(torch.float64).numpy() for v, t in zip(values, types, strict=True)]
    )
    assert counts.tolist() == expected(widened.view(np.int64), new).tolist()


def test_bits_are_compared_and_not_numbers() -> None:
    values = np.array([[0.0, np.nan, 1.0, np.inf], [-0.0, np.nan, 1.0, -np.inf], [-0.0, 1.0, 1.0, -np.inf]])
    for kind in TYPES:
        counts = np.zeros((3, 2), np.int64)
        extent = Extent(1, 4, 0, 4)
        count_changes(stored_rows(values, [kind] * 3), extent, 0, 4, 3, counts, PlainKernel(3, 3, None), True)
        assert counts.tolist() == [[0, 0], [2, 0], [1, 0]]
