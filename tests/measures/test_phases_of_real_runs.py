"""Phases of really trained networks: the Grams of their whole parameters, as trajsvc computed them, are kept in ``data/``.

``resnet-fashion*``: a small ResNet on Fashion-MNIST, SGD whose learning rate falls to a tenth after epochs 16 and 30, with
momentum, without, and without weight decay; a checkpoint an epoch. ``pythia-nano``: a GPT-NeoX of 265,600 parameters, AdamW
with a warm-up of 50 steps; checkpoints at 0, 1, 2, 4, … 512, then every 250 steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trajsvc.measures.base import GroupGram
from trajsvc.measures.maps import mds
from trajsvc.measures.phases import change_points

DATA = Path(__file__).with_name("data")


def network(run: str) -> GroupGram:
    with np.load(DATA / f"{run}.npz") as kept:
        return GroupGram("network", kept["steps"], kept["gram"], int(kept["parameters"]), kept["rounding"])


@pytest.mark.parametrize("run", ["resnet-fashion", "resnet-fashion-momentum0", "resnet-fashion-wd0"])
def test_drops_of_the_learning_rate_are_found_where_they_are(run: str) -> None:
    found = {c.step: c for c in change_points(network(run))}
    assert {16, 30} <= set(found)
    assert found[16].kind == found[30].kind == "jump"
    strongest = sorted(found.values(), key=lambda c: c.strength)[-2:]
    assert {c.step for c in strongest} == {16, 30}
    assert all(c.speed_ratio < 0.5 for c in strongest)


def test_the_end_of_warm_up_is_found() -> None:
    first = change_points(network("pythia-nano"))[0]
    assert 32 <= first.step <= 128
    assert first.between[0] <= 50 <= first.between[1]


def test_momentum_and_weight_decay_show_in_the_mean_directional_similarity() -> None:
    usual, no_momentum, no_decay = (mds(network(f"resnet-fashion{s}")) for s in ("", "-momentum0", "-wd0"))
    assert usual < no_decay < no_momentum
