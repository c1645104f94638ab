"""Rectangles and chunks cover exactly the elements that an extent names."""

from hypothesis import given
from hypothesis import strategies as st

from trajsvc.anatomy.blocks import Extent
from trajsvc.gram.extents import chunks, rectangles


@st.composite
def extents(draw: st.DrawFn) -> Extent:
    stride = draw(st.integers(1, 12))
    length = draw(st.integers(1, stride))
    start = draw(st.integers(0, stride - length))
    return Extent(draw(st.integers(1, 7)), stride, start, length)


@given(extents(), st.data())
def test_rectangles_are_the_extent_within_a_range(extent: Extent, data: st.DataObject) -> None:
    total = extent.outer * extent.stride
    lo = data.draw(st.integers(0, total))
    hi = data.draw(st.integers(lo, total))
    width = data.draw(st.integers(1, 10))
    members = {o * extent.stride + extent.start + i for o in range(extent.outer) for i in range(extent.length)}
    expected = sorted(m for m in members if lo <= m < hi)
    found = rectangles(extent, lo, hi)
    pieces = [p for r in found for p in chunks(r, width)]
    covered = [lo + p.at + o * p.stride + i for p in pieces for o in range(p.outer) for i in range(p.length)]
    assert covered == expected
    assert len(found) <= 3
    assert all(p.size <= width for p in pieces)
