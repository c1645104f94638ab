"""The contract of ``Theta``: what a slab asks for comes bit for bit, in the types in which it is stored, wherever its bytes lie."""

from __future__ import annotations

import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.gram.plan import ColumnSpec, Plan, Slab
from trajsvc.gram.slab_worker import Part, Theta

States = Sequence[Mapping[str, NDArray[np.floating]]]
"""a checkpoint's tensors by their names, for each row"""


def states() -> States:
    """Six checkpoints of three tensors, stored in two types by turns."""
    rng = np.random.default_rng(3)
    shapes = {"layers.0.weight": (700, 300), "layers.1.weight": (31, 7), "layers.1.bias": (5,)}
    found = []
    for row in range(6):
        dtype = np.float16 if row % 2 else np.float32
        found.append({name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()})
    return found


@dataclass
class Opened:
    """A Θ of ``states()``, and a plan of more than a few slabs over it."""

    theta: Theta
    columns: Sequence[ColumnSpec]
    plan: Plan


def parts_of(theta: Theta, slab: Slab) -> list[Part]:
    """A buffer for each segment of ``slab`` at each row."""
    return [
        Part(s.column, row, s.lo, s.hi, memoryview(bytearray((s.hi - s.lo) * ITEMSIZE[dtype])))
        for s in slab.segments
        for row, dtype in enumerate(theta.dtypes(s.column))
    ]


class ThetaContract(ABC):
    """Tests of any ``Theta``. A subclass gives the fixture ``opened``."""

    @pytest.fixture
    @abstractmethod
    def opened(self) -> Opened: ...

    def check(self, opened: Opened, parts: Sequence[Part]) -> None:
        """Every buffer holds what is stored."""
        rows = states()
        for part in parts:
            values = rows[part.row][opened.columns[part.column].name].reshape(-1)
            assert bytes(part.out) == values[part.lo : part.hi].tobytes()

    def test_types_are_those_that_are_stored(self, opened: Opened) -> None:
        for column in range(len(opened.columns)):
            assert list(opened.theta.dtypes(column)) == ["float32", "float16"] * 3

    def test_every_slab_of_a_plan_is_loaded_bit_for_bit(self, opened: Opened) -> None:
        assert len(opened.plan.slabs) > 3
        opened.theta.prepare(opened.plan.slabs)
        for slab in opened.plan.slabs:
            parts = parts_of(opened.theta, slab)
            opened.theta.load(slab, parts, lambda: False)
            self.check(opened, parts)

    @pytest.mark.timing
    def test_threads_load_slabs_at_the_same_time(self, opened: Opened) -> None:
        opened.theta.prepare(opened.plan.slabs)

        def load(slab: Slab) -> list[Part]:
            parts = parts_of(opened.theta, slab)
            opened.theta.load(slab, parts, lambda: False)
            return parts

        with ThreadPoolExecutor(3) as pool:
            for parts in pool.map(load, opened.plan.slabs):
                self.check(opened, parts)

    def test_a_part_of_the_plan_may_be_prepared(self, opened: Opened) -> None:
        later = opened.plan.slabs[len(opened.plan.slabs) // 2 :]
        opened.theta.prepare(later)
        for slab in later:
            parts = parts_of(opened.theta, slab)
            opened.theta.load(slab, parts, lambda: False)
            self.check(opened, parts)

    def test_a_caller_who_wants_no_more_is_let_go(self, opened: Opened) -> None:
        stop = threading.Event()
        stop.set()
        opened.theta.prepare(opened.plan.slabs)
        slab = opened.plan.slabs[0]
        opened.theta.load(slab, parts_of(opened.theta, slab), stop.is_set)

    def test_a_portable_one_loads_the_same_elsewhere(self, opened: Opened) -> None:
        portable = opened.theta.portable()
        if portable is None:
            return
        other = pickle.loads(pickle.dumps(portable))
        slab = opened.plan.slabs[-1]
        parts = parts_of(other, slab)
        other.load(slab, parts, lambda: False)
        self.check(opened, parts)
