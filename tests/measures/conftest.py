"""Every case of the table, one at a time."""

from __future__ import annotations

import pytest
from made_trajectories import CASES, Trajectory


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Trajectory:
    return CASES[request.param]
