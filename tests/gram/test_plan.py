"""The planner is pure: every element once, within its memory, a sample of every block first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajsvc.anatomy.blocks import Extent
from trajsvc.errors import LimitExceeded
from trajsvc.gram.plan import ColumnSpec, granule, make_plan

MIB = 2**20


@st.composite
def columns(draw: st.DrawFn) -> list[ColumnSpec]:
    out, block = [], 0
    for i in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            heads, run = draw(st.integers(1, 8)), draw(st.integers(1, 3000))
            blocks = tuple((block + j, Extent(heads, 3 * run, j * run, run)) for j in range(3))
            size = heads * 3 * run
        else:
            size = draw(st.integers(1, 300_000))
            blocks = ((block, Extent(1, size, 0, size)),)
        out.append(ColumnSpec(f"t{i}", size, draw(st.sampled_from([2, 4, 8])), blocks))
        block += len(blocks)
    return out


@settings(deadline=None)
@given(columns(), st.integers(1, 40), st.sampled_from([0.001, 0.01, 0.3, 1.0]))
def test_every_element_is_in_exactly_one_segment(specs: list[ColumnSpec], rows: int, fraction: float) -> None:
    plan = make_plan(specs, rows, memory=256 * MIB, sample_fraction=fraction)
    seen = [np.zeros(c.size, np.int8) for c in specs]
    for slab in plan.slabs:
        for s in slab.segments:
            assert s.lo % granule(specs[s.column].size) == 0
            seen[s.column][s.lo : s.hi] += 1
    assert all((s == 1).all() for s in seen)


@pytest.mark.slow
@settings(deadline=None)
@given(columns(), st.integers(1, 40))
def test_sample_slabs_come_first_and_touch_every_block(specs: list[ColumnSpec], rows: int) -> None:
    plan = make_plan(specs, rows, memory=256 * MIB, sample_fraction=0.001)
    kinds = [s.sample for s in plan.slabs]
    assert kinds == sorted(kinds, reverse=True)
    touched = np.zeros(plan.blocks, bool)
    for slab in plan.slabs[: plan.sample_slabs]:
        for s in slab.segments:
            for block, e in specs[s.column].blocks:
                at = np.arange(s.lo, s.hi) % e.stride
                touched[block] |= bool(((at >= e.start) & (at < e.start + e.length)).any())
    assert touched.all()


@settings(deadline=None)
@given(columns(), st.integers(1, 40), st.integers(64, 512), st.integers(1, 4))
def test_slabs_keep_to_the_budget(specs: list[ColumnSpec], rows: int, mib: int, threads: int) -> None:
    try:
        plan = make_plan(specs, rows, memory=mib * MIB, threads=threads)
    except LimitExceeded:
        return  # what a refusal says is the next test's
    assert plan.projected_memory <= mib * MIB
    held = max(plan.slab_read_bytes(s) for s in plan.slabs)
    assert held <= plan.slab_bytes
    assert (threads + 1) * held < mib * MIB


def test_a_refused_budget_names_one_that_is_enough() -> None:
    specs = [ColumnSpec(f"t{i}", 2**20, 2, ((i, Extent(1, 2**20, 0, 2**20)),)) for i in range(100)]
    with pytest.raises(LimitExceeded) as refused:
        make_plan(specs, 154, memory=3 * MIB)
    enough = int(refused.value.hint.split("--memory ")[1].split("MiB")[0])
    assert make_plan(specs, 154, memory=enough * MIB).projected_memory <= enough * MIB


def test_key_changes_with_whatever_changes_the_bits() -> None:
    specs = [ColumnSpec("t", 300_000, 4, ((0, Extent(1, 300_000, 0, 300_000)),))]
    keys = {
        make_plan(specs, 8).key(),
        make_plan(specs, 9).key(),
        make_plan(specs, 8, new=1).key(),
        make_plan(specs, 8, precision="float32").key(),
        make_plan(specs, 8, sample_fraction=0.2).key(),
    }
    assert len(keys) == 5
    assert make_plan(specs, 8).key() == make_plan(specs, 8).key()


def test_a_one_percent_sample_reads_about_one_percent_of_a_large_run() -> None:
    specs = [ColumnSpec(f"t{i}", 2**22, 2, ((i, Extent(1, 2**22, 0, 2**22)),)) for i in range(40)]
    plan = make_plan(specs, 64)
    read = sum(plan.slab_read_bytes(s) for s in plan.slabs[: plan.sample_slabs])
    assert 0.005 < read / plan.bytes < 0.02


def test_a_budget_that_is_enough_stays_so_when_it_grows() -> None:
    blocks = [ColumnSpec(f"t{i}", 48 * 1024, 4, ((i, Extent(1, 48 * 1024, 0, 48 * 1024)),)) for i in range(28)]
    enough = []
    for memory in range(1, 200, 3):
        try:
            plan = make_plan(blocks, 154, memory=memory * MIB, threads=1)
        except LimitExceeded:
            enough.append(False)
        else:
            assert plan.projected_memory <= memory * MIB
            enough.append(True)
    assert enough == sorted(enough)
    assert enough[-1]
    assert not enough[0]
