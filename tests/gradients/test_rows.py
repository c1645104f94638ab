"""Vectors that are formed a few tensors at a time: the Grams of all of them, within the memory that is given."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.gradients.rows import formed_grams

COUNT, SIZE, TENSORS = 8, 2**14, 6
ROWS = COUNT * SIZE * 8
BLOCKS = tuple(Block(f"t{k}", f"t{k}", "", "", "", Extent(1, SIZE, 0, SIZE)) for k in range(TENSORS))


def vectors(names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    for number in range(COUNT):
        yield {name: torch.full((SIZE,), float(number + 1), dtype=torch.float64) for name in names}


def test_passes_give_what_one_gives() -> None:
    once = formed_grams(BLOCKS, COUNT, vectors, TENSORS * ROWS, lambda: False)
    thrice = formed_grams(BLOCKS, COUNT, vectors, 2 * ROWS, lambda: False)
    expected = SIZE * np.outer(np.arange(1, COUNT + 1), np.arange(1, COUNT + 1))
    assert np.array_equal(once.gram, np.broadcast_to(expected, once.gram.shape))
    assert np.array_equal(once.gram, thrice.gram)


def test_no_pass_is_held_while_the_next_is_formed() -> None:
    formed_grams(BLOCKS, COUNT, vectors, 2 * ROWS, lambda: False)
    tracemalloc.start()
    try:
        formed_grams(BLOCKS, COUNT, vectors, 2 * ROWS, lambda: False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 2 * ROWS <= peak < 2.75 * ROWS
