"""The sums of squares of a matrix's rows as an LLVM function: of updates, of displacements, and of the weights, in float64.

Checkpoints are taken ``TOGETHER``, so that a value is widened about once for its update and the next, with the sums in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llvmlite import ir

from trajsvc.gram.kernels.emitter import DOUBLE, Emitter, Value, vector

TOGETHER: Final = 4
"""Checkpoints whose sums are taken together."""
LANES: Final = 4
"""Values of a row that are taken at once."""
QUANTITIES: Final = 3
"""Squared norms of a row at a checkpoint: of its update, of its displacement from the first checkpoint, of its weights."""


def row_norms(
    e: Emitter,
    widened: Callable[..., Value],
    size: int,
    places: Value,
    total: Value,
    first: Value,
    phase: Value,
    width: Value,
    count: Value,
    out: Value,
) -> None:
    """Add the sums of squares of ``count`` successive values of a block to those of the matrix's rows that they lie in.

    The values of the ``total`` checkpoints, ``size`` bytes each, lie at ``places``; the sums are those of the checkpoints from
    ``first`` on. ``phase`` values of the first row, ``width`` wide, come before. ``out`` (rows, QUANTITIES, total − first) begins with
    the sums of that row.
    """
    new = e.sub(total, first)

    def row(r: Value, _: list[Value]) -> None:
        at = e.sub(e.mul(r, width), phase)
        begin = e.ir.select(e.ir.icmp_signed("<", at, e.number(0)), e.number(0), at)
        end = e.least(count, e.add(at, width))
        sums = e.at(out, e.mul(r, QUANTITIES), e.mul(new, 8))
        whole = e.add(first, e.mul(e.ir.sdiv(new, e.number(TOGETHER)), TOGETHER))
        some = _Checkpoints(e, widened, size, places, first, new, begin, end, sums)
        e.loop(first, whole, TOGETHER, lambda t, _: some.add(t, TOGETHER))
        e.loop(whole, total, 1, lambda t, _: some.add(t, 1))

    rows = e.ir.sdiv(e.add(e.add(phase, count), e.sub(width, 1)), width)
    e.loop(0, rows, 1, row)


class _Checkpoints:
    """Values [begin, end) of all checkpoints, which lie in one row, and the row's ``sums``."""

    def __init__(
        self,
        e: Emitter,
        widened: Callable[..., Value],
        size: int,
        places: Value,
        first: Value,
        new: Value,
        begin: Value,
        end: Value,
        sums: Value,
    ) -> None:
        self.e, self.widened, self.size, self.places = e, widened, size, places
        self.first, self.new, self.begin, self.end, self.sums = first, new, begin, end, sums

    def add(self, t: Value, together: int) -> None:
        """Add the squares of ``together`` checkpoints from ``t`` on to the sums; the first checkpoint has no update."""
        e = self.e
        before = e.ir.select(e.ir.icmp_signed("==", t, e.number(0)), t, e.sub(t, 1))
        numbers = [e.number(0), before, *(e.add(t, g) for g in range(together))]
        rows = [e.integer(self.places, number) for number in numbers]
        whole = e.add(self.begin, e.masked(e.sub(self.end, self.begin), -LANES))
        held = self._squares(rows, self.begin, whole, LANES)
        held = [_total(e, values, LANES) for values in held]
        held = self._squares(rows, whole, self.end, 1, held)
        for number, value in enumerate(held):
            g, quantity = divmod(number, QUANTITIES)
            place = e.at(self.sums, e.add(e.mul(self.new, quantity), e.sub(e.add(t, g), self.first)), 8)
            e.store(e.ir.fadd(e.load(place, DOUBLE), value), place)

    def _squares(
        self, rows: list[Value], begin: Value, end: Value, lanes: int, held: list[Value] | None = None
    ) -> list[Value]:
        """Sum squares over values [begin, end), ``lanes`` at once; of one lane, scalars that go on from ``held``."""
        e = self.e
        kind = vector(DOUBLE, lanes) if lanes > 1 else DOUBLE
        name = f"llvm.fmuladd.v{lanes}f64" if lanes > 1 else "llvm.fmuladd.f64"
        zero = ir.Constant(kind, [0.0] * lanes if lanes > 1 else 0.0)

        def load(row: Value, k: Value) -> Value:
            values = self.widened(e.at(row, k, self.size), lanes=lanes, element=DOUBLE)
            return values if lanes > 1 else e.ir.extract_element(values, ir.Constant(ir.IntType(32), 0))

        def turn(k: Value, held: list[Value]) -> list[Value]:
            start, before, *here = (load(row, k) for row in rows)
            parts = []
            for values in here:
                parts += [e.ir.fsub(values, before), e.ir.fsub(values, start), values]
                before = values
            return [e.intrinsic(name, kind, [x, x, total]) for x, total in zip(parts, held, strict=True)]

        return e.loop(begin, end, lanes, turn, held or [zero] * (QUANTITIES * (len(rows) - 2)))


def _total(e: Emitter, values: Value, lanes: int) -> Value:
    """Add the elements of a vector, its halves first."""
    while lanes > 1:
        lanes //= 2
        undefined = ir.Constant(values.type, ir.Undefined)
        index = vector(ir.IntType(32), lanes)
        low, high = (
            e.ir.shuffle_vector(values, undefined, ir.Constant(index, list(range(lo, lo + lanes)))) for lo in (0, lanes)
        )
        values = e.ir.fadd(low, high)
    return e.ir.extract_element(values, ir.Constant(ir.IntType(32), 0))
