"""The parsers of a stranger's bytes under random changes, for a few seconds; ``make fuzz SECONDS=600`` does it for as long as one likes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, check, mutated
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_are_read(name: str) -> None:
    target = TARGETS[name]
    assert any(check(target, seed) for seed in target.seeds)


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_whatever_comes_is_read_or_refused(name: str, seed: int) -> None:
    check(TARGETS[name], mutated(random.Random(seed), TARGETS[name]))


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    check(TARGETS[name], data)


@pytest.mark.slow
def test_the_long_run_counts_its_cases() -> None:
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), "--seconds", "0.2", "request body"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert "request body" in done.stdout
    assert "cases" in done.stdout
