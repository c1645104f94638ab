"""Find the elements of a segment that belong to a block, as rectangles that a strided view can gather."""

from __future__ import annotations

from dataclasses import dataclass

from trajsvc.anatomy.blocks import Extent


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Elements ``{at + o * stride + i : 0 <= o < outer, 0 <= i < length}`` of a segment."""

    at: int
    outer: int
    stride: int
    length: int

    @property
    def size(self) -> int:
        return self.outer * self.length


def position(extent: Extent, column: int) -> int:
    """Return how many elements of a block lie before ``column`` of its tensor."""
    runs, rest = divmod(max(0, column - extent.start), extent.stride)
    return extent.size if runs >= extent.outer else runs * extent.length + min(extent.length, rest)


def rectangles(extent: Extent, lo: int, hi: int) -> list[Rectangle]:
    """Return the part of ``extent`` within elements [lo, hi), relative to lo, as at most three rectangles.

    They are a cut first run, whole runs, and a cut last run.
    """
    first = max(0, (lo - extent.start - extent.length) // extent.stride + 1)
    last = min(extent.outer - 1, -(-(hi - extent.start) // extent.stride) - 1)
    if first > last or hi <= lo:
        return []

    def run(o: int) -> tuple[int, int]:
        begin = o * extent.stride + extent.start
        return max(begin, lo), min(begin + extent.length, hi)

    def whole(o: int) -> bool:
        begin, end = run(o)
        return end - begin == extent.length

    found: list[Rectangle] = []
    if not whole(first):
        begin, end = run(first)
        found.append(Rectangle(begin - lo, 1, end - begin, end - begin))
        first += 1
    tail = None
    if first <= last and not whole(last):
        begin, end = run(last)
        tail = Rectangle(begin - lo, 1, end - begin, end - begin)
        last -= 1
    if first <= last:
        begin, _ = run(first)
        n = last - first + 1
        if n == 1 or extent.stride == extent.length:
            found.append(Rectangle(begin - lo, 1, n * extent.length, n * extent.length))
        else:
            found.append(Rectangle(begin - lo, n, extent.stride, extent.length))
    return found + ([tail] if tail else [])


def chunks(rectangle: Rectangle, width: int) -> list[Rectangle]:
    """Cut ``rectangle`` into pieces of at most ``width`` elements (one run is cut, many runs are kept whole)."""
    if rectangle.length >= width or rectangle.outer == 1:
        return [
            Rectangle(rectangle.at + o * rectangle.stride + i, 1, n, n)
            for o in range(rectangle.outer)
            for i in range(0, rectangle.length, width)
            for n in [min(width, rectangle.length - i)]
        ]
    runs = max(1, width // rectangle.length)
    return [
        Rectangle(
            rectangle.at + o * rectangle.stride, min(runs, rectangle.outer - o), rectangle.stride, rectangle.length
        )
        for o in range(0, rectangle.outer, runs)
    ]
