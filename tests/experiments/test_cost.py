"""What is measured as the cost of sets of gradients and of their measures."""

from __future__ import annotations

import numpy as np
import pytest

from trajsvc.experiments.cost import Load, computed, cost_of, costs, network_of, peak_memory
from trajsvc.gradients.options import SET_KINDS
from trajsvc.measures.gradients.registry import measures_of

LOAD = Load(examples=4, batch=2, directions=2)


@pytest.mark.parametrize("kind", SET_KINDS)
def test_every_set_and_each_of_its_measures_is_measured(kind: str) -> None:
    found = cost_of(kind, 2000, LOAD)
    assert not found.refused
    assert found.seconds > 0.0
    assert found.vectors == computed(kind, network_of(2000, 0), LOAD).n
    assert found.measures is not None
    assert set(found.measures) == {m.name for m in measures_of(kind)}
    assert min(found.measures.values()) > 0.0


@pytest.mark.parametrize("parameters", [10_000, 1_000_000])
def test_networks_have_about_as_many_parameters_as_are_asked_for(parameters: int) -> None:
    assert sum(p.numel() for p in network_of(parameters, 0).parameters()) == pytest.approx(parameters, rel=0.05)


def test_a_set_that_does_not_fit_the_memory_is_noted_with_the_reason() -> None:
    found = cost_of("weights", 10_000, Load(examples=4, batch=2, directions=2, memory=2**10))
    assert "memory budget" in found.refused
    assert np.isnan(found.seconds)


def test_the_peak_counts_what_was_freed_again() -> None:
    with peak_memory() as peak:
        held = np.ones(8 * 2**20)
        for _ in range(1000):
            if peak() >= held.nbytes // 2:
                break
            held += 1.0
        del held
    assert peak() >= 32 * 2**20


@pytest.mark.slow
def test_each_cost_is_measured_in_a_process_of_its_own() -> None:
    (found,) = costs([2000], ["input_gradients"], LOAD)
    assert found.vectors == 4
    assert list(costs([2000], ["example"], LOAD, stop=lambda: True)) == []
