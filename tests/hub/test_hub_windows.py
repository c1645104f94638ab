"""Windows are pure arithmetic: every slab in one of them, never more on disk than there is room for, and few requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.plan import ColumnSpec, Plan, make_plan
from trajsvc.sources.ranges import ByteRange, coalesce
from trajsvc.trajectory.windows import ON_DISK, Window, cut_windows, windows_on_disk

MIB = 2**20


def plan_of(sizes: list[int], rows: int = 20, fraction: float = 0.01) -> Plan:
    specs = [ColumnSpec(f"t{i}", size, 4, ((i, Extent(1, size, 0, size)),)) for i, size in enumerate(sizes)]
    return make_plan(specs, rows, memory=256 * MIB, sample_fraction=fraction, slab=4 * MIB)


def stretches(plan: Plan, windows: list[Window]) -> int:
    """Stretches of one checkpoint whose tensors lie side by side in a file."""
    begins = np.cumsum([0, *(c.size for c in plan.columns)]).tolist()
    return sum(
        len(coalesce(ByteRange("f", begins[s.column] + s.lo, begins[s.column] + s.hi) for slab in w.slabs for s in slab.segments))
        for w in windows
    )  # fmt: skip


def most_on_disk(plan: Plan, windows: list[Window]) -> int:
    """Bytes on disk at most while slabs are used in order and a window begins as soon as one fewer than its limit are there."""
    limit, waiting = windows_on_disk(windows), list(windows)
    sizes = {w.number: sum(plan.slab_read_bytes(s) for s in w.slabs) for w in windows}
    left = {w.number: {s.index for s in w.slabs} for w in windows}
    there: set[int] = set()
    most = 0
    for slab in plan.slabs:
        while waiting and len(there) < limit:
            there.add(waiting.pop(0).number)
        most = max(most, sum(sizes[n] for n in there))
        (number,) = (n for n in there if slab.index in left[n])  # it would be waited for without end otherwise
        left[number].discard(slab.index)
        there -= {number} if not left[number] else set()
    return most


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1000, 3_000_000), min_size=2, max_size=12),
    st.integers(2, 60),
    st.integers(24, 400),
    st.booleans(),
)
def test_every_slab_is_in_one_window_and_windows_fit_the_disk(
    sizes: list[int], rows: int, cache: int, apart: bool
) -> None:
    plan = plan_of(sizes, rows)
    windows = cut_windows(plan, cache * MIB, apart=apart)
    if not windows:
        return
    assert sorted(s.index for w in windows for s in w.slabs) == [s.index for s in plan.slabs]
    assert [w.number for w in windows] == list(range(len(windows)))
    assert most_on_disk(plan, windows) <= cache * MIB
    assert windows[0].slabs[0].index == 0


def test_the_first_window_holds_what_the_sample_leaves_in_pieces() -> None:
    plan = plan_of([100_000] * 30 + [20_000_000])
    windows = cut_windows(plan, 1024 * MIB)
    assert windows_on_disk(windows) == ON_DISK + 1
    first = windows[0].slabs
    assert {s.index for s in plan.slabs if s.sample} < {s.index for s in first}
    assert sum(map(plan.slab_read_bytes, first)) <= 1024 * MIB // (ON_DISK + 1)
    assert stretches(plan, windows) * 8 < stretches(plan, cut_windows(plan, 1024 * MIB, apart=True))


def test_a_run_that_fits_is_one_window() -> None:
    plan = plan_of([100_000] * 30 + [1_000_000])
    size = sum(map(plan.slab_read_bytes, plan.slabs))
    (window,) = cut_windows(plan, 2 * size * 17 // 16 + MIB)
    assert window.slabs == plan.slabs
    assert stretches(plan, [window]) == 1


@pytest.mark.parametrize("fraction", [0.01, 1.0])
def test_an_estimate_that_was_asked_for_reads_nothing_else(fraction: float) -> None:
    plan = plan_of([200_000] * 30 + [20_000_000], fraction=fraction)
    windows = cut_windows(plan, 300 * MIB, apart=True)
    assert windows_on_disk(windows) == ON_DISK
    assert all(len({s.sample for s in w.slabs}) == 1 for w in windows)
