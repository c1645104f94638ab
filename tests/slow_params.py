"""Which of a parametrised test's cases ``make test`` runs where all of them take long and go one way; ``make test-all`` runs them all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(every: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """``every`` case, those that are not in ``quick`` marked slow. Raises ValueError if a quick one is none of them."""
    cases = list(every)
    if unknown := [case for case in quick if case not in cases]:
        raise ValueError(f"no such cases: {unknown}")
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
