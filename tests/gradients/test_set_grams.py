"""Grams of a set as arrays without objects: what a worker keeps in a file is what the runner reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from storage_schema.files.slab_results import SlabFiles
from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.gradients.set_grams import SetGrams


def test_a_file_gives_back_every_bit_and_every_word(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 3, 5))
    blocks = tuple(Block(f"w[{p}]", "w", p, "0", f"attention.{p}", Extent(1, 10, 5 * i, 5)) for i, p in enumerate("qk"))
    made = SetGrams(
        "weights", blocks, np.einsum("bni,bmi->bnm", rows, rows), ("g", "d1", "d2"), 1e-15, np.array([[0, 1, 1], [0, 1, 2]]),
        {"weight_squares": np.array([1.5, np.pi]), "perturbation_squares": rng.normal(size=(2, 2))},
        {"directions": 2, "etas": [1e-3, 1e-4], "module": "Tüpfel"},
    )  # fmt: skip
    files = SlabFiles(tmp_path, "a" * 64)
    files.put(3, made.arrays())
    kept = files.get(3)
    assert kept is not None
    found = SetGrams.of_arrays(kept)
    assert (found.kind, found.blocks, found.labels, found.error) == (made.kind, made.blocks, made.labels, made.error)
    assert found.facts == made.facts
    assert found.gram.tobytes() == made.gram.tobytes()
    assert found.same is not None
    assert made.same is not None
    assert found.same.tolist() == made.same.tolist()
    assert found.scalars.keys() == made.scalars.keys()
    assert all(found.scalars[name].tobytes() == values.tobytes() for name, values in made.scalars.items())
    without = SetGrams("full", blocks, made.gram)
    assert SetGrams.of_arrays(without.arrays()).same is None
