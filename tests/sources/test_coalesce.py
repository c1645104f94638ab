"""Requests from stretches: every wanted byte once, nothing of somebody else's, as few requests as that allows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajsvc.sources.ranges import BRIDGE, Span, Stretch, coalesce, wants

spans = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 400), st.integers(0, 60)).map(
        lambda t: Span(t[0], t[1], t[1] + t[2])
    ),
    max_size=30,
)


def nothing_between(file: str, lo: int, hi: int) -> bool:
    return True


@given(spans)
def test_without_bridges_exactly_the_wanted_bytes_are_asked_for(wanted: list[Span]) -> None:
    bytes_wanted = {(s.file, b) for s in wanted for b in range(s.lo, s.hi)}
    asked = [(s.file, b) for s in coalesce(wanted) for b in range(s.lo, s.hi)]
    assert len(asked) == len(set(asked)), "a byte is asked for twice"
    assert set(asked) == bytes_wanted


@given(spans)
def test_every_span_is_in_the_stretch_that_names_it(wanted: list[Span]) -> None:
    for stretch in coalesce(wanted, nothing_between):
        assert stretch.spans
        assert stretch.lo == min(s.lo for s in stretch.spans)
        assert stretch.hi == max(s.hi for s in stretch.spans)
        assert all(s.file == stretch.file for s in stretch.spans)
    assert sum(len(s.spans) for s in coalesce(wanted, nothing_between)) == sum(s.hi > s.lo for s in wanted)


def test_neighbours_are_one_request_and_strangers_two() -> None:
    near = [Span("f", 0, 100), Span("f", 100, 200), Span("f", 264, 300)]
    assert [(s.lo, s.hi) for s in coalesce(near)] == [(0, 200), (264, 300)]
    assert [(s.lo, s.hi) for s in coalesce(near, nothing_between)] == [(0, 300)]
    assert [(s.lo, s.hi) for s in coalesce(near, lambda file, lo, hi: False)] == [(0, 200), (264, 300)]
    far = [Span("f", 0, 1), Span("f", 2 + BRIDGE, 3 + BRIDGE)]
    assert len(coalesce(far, nothing_between)) == 2


@given(st.integers(1, 10_000), st.integers(1, 3_000))
def test_long_stretches_are_cut_into_about_equal_requests(size: int, largest: int) -> None:
    requests = Stretch("f", 7, 7 + size, ()).requests(largest)
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
    (stretch,) = coalesce([Span("f", lo, hi, i) for i, (lo, hi) in enumerate(places)], nothing_between)
    for want in wants(stretch, buffers, largest):
        at = want.offset
        assert want.nbytes <= largest
        for part in want.parts:
            if isinstance(part, int):
                at += part
            else:
                part[:] = data[at : at + part.nbytes]
                at += part.nbytes
    assert [bytes(b) for b in buffers] == [data[lo:hi] for lo, hi in places]
