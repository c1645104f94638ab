"""Requests from stretches: every wanted byte once, nothing of somebody else's, as few requests as that allows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajsvc.sources.ranges import BRIDGE, ByteRange, MergedRange, coalesce, read_requests

ranges = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 400), st.integers(0, 60)).map(
        lambda t: ByteRange(t[0], t[1], t[1] + t[2])
    ),
    max_size=30,
)


def nothing_between(file: str, lo: int, hi: int) -> bool:
    return True


@given(ranges)
def test_without_bridges_exactly_the_wanted_bytes_are_asked_for(wanted: list[ByteRange]) -> None:
    bytes_wanted = {(s.file, b) for s in wanted for b in range(s.lo, s.hi)}
    asked = [(s.file, b) for s in coalesce(wanted) for b in range(s.lo, s.hi)]
    assert len(asked) == len(set(asked)), "a byte is asked for twice"
    assert set(asked) == bytes_wanted


@given(ranges)
def test_every_span_is_in_the_stretch_that_names_it(wanted: list[ByteRange]) -> None:
    for stretch in coalesce(wanted, nothing_between):
        assert stretch.ranges
        assert stretch.lo == min(s.lo for s in stretch.ranges)
        assert stretch.hi == max(s.hi for s in stretch.ranges)
        assert all(s.file == stretch.file for s in stretch.ranges)
    assert sum(len(s.ranges) for s in coalesce(wanted, nothing_between)) == sum(s.hi > s.lo for s in wanted)


def test_neighbours_are_one_request_and_strangers_two() -> None:
    near = [ByteRange("f", 0, 100), ByteRange("f", 100, 200), ByteRange("f", 264, 300)]
    assert [(s.lo, s.hi) for s in coalesce(near)] == [(0, 200), (264, 300)]
    assert [(s.lo, s.hi) for s in coalesce(near, nothing_between)] == [(0, 300)]
    assert [(s.lo, s.hi) for s in coalesce(near, lambda file, lo, hi: False)] == [(0, 200), (264, 300)]
    far = [ByteRange("f", 0, 1), ByteRange("f", 2 + BRIDGE, 3 + BRIDGE)]
    assert len(coalesce(far, nothing_between)) == 2


@given(st.integers(1, 10_000), st.integers(1, 3_000))
def test_long_stretches_are_cut_into_about_equal_requests(size: int, largest: int) -> None:
    requests = MergedRange("f", 7, 7 + size, ()).requests(largest)
    assert requests[0][0] == 7
    assert requests[-1][1] == 7 + size
    assert all(a[1] == b[0] for a, b in pairwise(requests))
    lengths = [hi - lo for lo, hi in requests]
    assert max(lengths) <= largest
    assert max(lengths) - min(lengths) <= 1
    assert len(requests) == -(-size // largest)


@pytest.mark.parametrize("largest", [7, 16, 1000])
def test_buffers_are_filled_from_cut_requests(largest: int) -> None:
    data = bytes(range(256))
    places = [(3, 20), (20, 21), (40, 90), (100, 101)]
    buffers = [memoryview(bytearray(hi - lo)) for lo, hi in places]
    (stretch,) = coalesce([ByteRange("f", lo, hi, i) for i, (lo, hi) in enumerate(places)], nothing_between)
    for want in read_requests(stretch, buffers, largest):
        at = want.offset
        assert want.nbytes <= largest
        for part in want.parts:
            if isinstance(part, int):
                at += part
            else:
                part[:] = data[at : at + part.nbytes]
                at += part.nbytes
    assert [bytes(b) for b in buffers] == [data[lo:hi] for lo, hi in places]
