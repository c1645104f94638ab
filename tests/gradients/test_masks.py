"""A sample of the coordinates: the same for all vectors, unbiased, and as uncertain as it says."""

from __future__ import annotations

import numpy as np
import pytest
from small_network import PointsProbe, gradient, job, tanh_network
from torch import nn

from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.gradients.masks import Mask
from trajsvc.gradients.sets.of_examples import example_set
from trajsvc.measures.gradients.conditioning import coherence


def wide() -> nn.Module:
    module = tanh_network()
    module[0], module[2] = nn.Linear(3, 400).double(), nn.Linear(400, 2).double()
    return module


def test_a_sample_of_everything_is_exact_and_certain() -> None:
    found = example_set(job(mask=1.0))
    exact = example_set(job())
    assert found.gram == pytest.approx(exact.gram, rel=1e-12, abs=1e-14)
    assert set(found.facts["standard_errors"].values()) == {0.0}


def test_the_kept_coordinates_are_the_same_for_all_vectors() -> None:
    work = job(mask=0.3)
    found = example_set(work)
    rows = np.stack([gradient(work.module, [e]) for e in work.examples])
    at = 0
    assert work.mask is not None
    for block, gram in zip(work.blocks, found.gram, strict=True):
        kept = work.mask.kept(block)
        assert len(set(kept.tolist())) == int(np.ceil(0.3 * block.size))
        part = rows[:, at + kept]
        assert gram == pytest.approx(part @ part.T * block.size / len(kept), rel=1e-12)
        at += block.size


def test_which_are_kept_depends_on_the_seed_and_the_block_alone() -> None:
    block = Block("w", "w", "", "", "", Extent(1, 100, 0, 100))
    other = Block("v", "v", "", "", "", Extent(1, 100, 0, 100))
    assert Mask(0.5, 1).kept(block).tolist() == Mask(0.5, 1).kept(block).tolist()
    assert Mask(0.5, 1).kept(block).tolist() != Mask(0.5, 2).kept(block).tolist()
    assert Mask(0.5, 1).kept(block).tolist() != Mask(0.5, 1).kept(other).tolist()


@pytest.mark.slow
def test_sampled_grams_are_unbiased_and_their_errors_are_those_that_occur() -> None:
    module, probe = wide(), PointsProbe()
    exact = example_set(job(probe, module)).group(range(4))
    found = [example_set(job(probe, module, mask=0.2, seed=seed)) for seed in range(60)]
    traces = np.array([np.trace(f.gram.sum(axis=0)) for f in found])
    assert traces.mean() == pytest.approx(np.trace(exact.gram), abs=4.0 * traces.std() / np.sqrt(60))
    values = np.array([coherence(f.group(range(4))) for f in found])
    said = np.array([f.facts["standard_errors"]["coherence"] for f in found])
    actual = np.sqrt(np.mean((values - coherence(exact)) ** 2))
    assert 0.6 < np.sqrt(np.mean(said**2)) / actual < 1.7
