"""The Θ in memory that the engine's tests use is one."""

from __future__ import annotations

import pytest
import torch
from contracts.theta import Opened, ThetaContract, states
from memory_theta import MemoryTheta

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.plan import ColumnSpec, make_plan


class TestMemory(ThetaContract):
    @pytest.fixture
    def opened(self) -> Opened:
        rows = states()
        columns = tuple(
            ColumnSpec(name, value.size, 4, ((number, Extent(1, value.size, 0, value.size)),))
            for number, (name, value) in enumerate(rows[0].items())
        )
        values = [[torch.from_numpy(row[c.name].reshape(-1)) for row in rows] for c in columns]
        return Opened(MemoryTheta(values, columns), columns, make_plan(columns, len(rows), slab=2**19))
