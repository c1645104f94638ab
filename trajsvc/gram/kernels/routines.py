"""The fused kernel as LLVM functions: widen, difference, multiply, add up, in the cache and in a fixed order.

``products`` goes through a range of columns in *windows*. Of a window, ``width`` columns at a time: ``pack`` widens the stored values,
takes the differences of neighbouring rows and writes them into *panels*, in which the values of 8 rows (16 in float32) lie side by side,
column after column; ``tile`` multiplies panels, ``RUN`` columns at a time, with sums in registers. ``dots`` does for one row what ``tile``
does for all, straight from the stored values: appending a checkpoint needs no panels. A window's products are added to the
totals with the error of every addition kept (two-sum), so that the order of windows leaves no trace in the last bit.

Every inner product is summed column after column with fused multiply-adds, in an order that depends neither on the shape of the tiles
nor on the width of the machine's vectors; there are no fast-math flags, and NaN and infinities come through to the products, where a
window that has any is given back to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from llvmlite import ir

from trajsvc.gram.kernels.emitter import DOUBLE, INTEGER, SINGLE, Emitter, Value, vector
from trajsvc.gram.kernels.names import EXPORTED, FLOAT16, FLOAT32, FLOAT64, KINDS, PARAMETERS, RUN, SIZES, lanes_of
from trajsvc.gram.kernels.row_routine import row_norms

LANES = 32
"""Values that are compared at once."""
PIECE = 2**12
"""Values of a row that are compared before those of the next."""


class Routines:
    """Writes the functions for panels of float64 (``wide``) or float32. A tile has sums for ``tall`` panels × ``across`` rows."""

    def __init__(self, wide: bool, tall: int, across: int) -> None:
        self.e = Emitter()
        self.wide, self.lanes, self.tall, self.across = wide, lanes_of(wide), tall, across
        self.size = 8 if wide else 4
        self.element = DOUBLE if wide else SINGLE
        self.vector = vector(self.element, self.lanes)
        self.bytes = self.lanes * self.size
        for kind in KINDS:
            for name, body in (
                ("pack", self._pack), ("subtract", self._subtract), ("dots", self._dots), ("widen", self._widen),
            ):  # fmt: skip
                self._export(f"{name}_{kind}", partial(body, kind))
        self._tiles = {p: self.e.function(f"tile_{p}", 6, partial(self._tile, p), inner=True) for p in {tall, 1}}
        self._multiplied = self.e.function("multiply", 6, self._multiply, inner=True)
        self._all_finite = self.e.function("finite", 5, self._finite, inner=True)
        self._added = self.e.function("fold", 7, self._fold, inner=True)
        self._export("products", self._products)
        self._export("widen_rows", self._widen_rows)
        for size in (2, 4, 8):
            self._export(f"changed_{size}", partial(self._changed, size))
        for kind in KINDS:
            self._export(f"rows_{kind}", partial(row_norms, self.e, partial(self._widened, kind=kind), SIZES[kind]))

    @property
    def module(self) -> ir.Module:
        return self.e.module

    def _export(self, name: str, body: Callable[..., Value | None]) -> None:
        self.e.function(name, EXPORTED[name], body)

    # Values as they are stored.

    def _widened(self, address: Value, kind: int, lanes: int, element: Value) -> Value:
        """Load ``lanes`` stored values as ``element``, a float type that holds them, or as float64 if they are stored
        so.
        """
        e = self.e
        if kind == FLOAT64:
            return e.load(address, vector(DOUBLE, lanes))
        if kind == FLOAT16:
            bits = e.load(address, vector(ir.IntType(16), lanes), 2)
            return e.ir.fpext(e.ir.bitcast(bits, vector(ir.HalfType(), lanes)), vector(element, lanes))
        if kind == FLOAT32:
            value = e.load(address, vector(SINGLE, lanes), 4)
        else:
            words = vector(ir.IntType(32), lanes)
            bits = e.ir.zext(e.load(address, vector(ir.IntType(16), lanes), 2), words)
            value = e.ir.bitcast(e.ir.shl(bits, ir.Constant(words, [16] * lanes)), vector(SINGLE, lanes))
        return value if element is SINGLE else e.ir.fpext(value, vector(element, lanes))

    def _widen(self, kind: int, place: Value, count: Value, out: Value) -> None:
        """Write ``count`` stored values as float64."""
        e, lanes = self.e, 8

        def some(k: Value, lanes: int) -> None:
            e.store(self._widened(e.at(place, k, SIZES[kind]), kind, lanes, DOUBLE), e.at(out, k, 8))

        whole = e.masked(count, -lanes)
        e.loop(0, whole, lanes, lambda k, _: some(k, lanes))
        e.loop(whole, count, 1, lambda k, _: some(k, 1))

    def _widen_rows(
        self, places: Value, functions: Value, total: Value, count: Value, out: Value, apart: Value
    ) -> None:
        """Widen ``count`` values of each of ``total`` rows, with the function given for the row; rows are ``apart``
        values apart.
        """
        e = self.e

        def one(t: Value, _: list[Value]) -> None:
            e.call_at(e.integer(functions, t), [e.integer(places, t), count, e.at(out, e.mul(t, apart), 8)])

        e.loop(0, total, 1, one)

    # Bits that change.

    def _changed(self, size: int, places: Value, total: Value, first: Value, count: Value, out: Value) -> None:
        """Count, for each of ``total`` rows from ``first`` (at least 1) on, the values of ``size`` bytes whose bits differ from those
        of the row before, and those among them that also differ there from the row before that: two integers a row, added to.

        The ``count`` values of a row are taken a piece at a time, so that a row is still in the cache when the next is compared with it.
        """
        e, bits = self.e, 8 * size

        def counted(begin: Value, end: Value, lanes: int, rows: list[Value], held: list[Value]) -> list[Value]:
            def turn(k: Value, held: list[Value]) -> list[Value]:
                values = [e.load(e.at(row, k, size), vector(ir.IntType(bits), lanes), size) for row in rows]
                changed = [e.ir.icmp_unsigned("!=", before, here) for before, here in pairwise(values)]
                masks = [changed[1], e.ir.and_(changed[0], changed[1])]
                word = ir.IntType(lanes)
                found = [e.intrinsic(f"llvm.ctpop.i{lanes}", word, [e.ir.bitcast(mask, word)]) for mask in masks]
                return [e.add(total, e.ir.zext(n, INTEGER)) for total, n in zip(held, found, strict=True)]

            return e.loop(begin, end, lanes, turn, held)

        def piece(begin: Value, _: list[Value]) -> None:
            end = e.least(count, e.add(begin, PIECE))
            whole = e.add(begin, e.masked(e.sub(end, begin), -LANES))

            def one(t: Value, _: list[Value]) -> None:
                before = e.sub(t, 1)
                earlier = e.ir.select(e.ir.icmp_signed("==", t, e.number(1)), before, e.sub(t, 2))
                rows = [e.integer(places, r) for r in (earlier, before, t)]
                found = counted(begin, whole, LANES, rows, [e.number(0), e.number(0)])
                found = counted(whole, end, 1, rows, found)
                for n, value in enumerate(found):
                    place = e.at(out, e.add(e.mul(t, 2), n), 8)
                    e.store(e.add(e.integer(place), value), place)

            e.loop(first, total, 1, one)

        e.loop(0, count, PIECE, piece)

    def _differences(self, kind: int, rows: list[Value], column: Value) -> list[Value]:
        """Subtract from every row the row before it: one vector of columns, in the type of the panels."""
        e = self.e
        values = [self._widened(e.at(row, column, SIZES[kind]), kind, self.lanes, self.element) for row in rows]
        found = [e.ir.fsub(here, before) for before, here in pairwise(values)]
        narrow = kind == FLOAT64 and not self.wide
        return [e.ir.fptrunc(d, self.vector) for d in found] if narrow else found

    # Rows into panels.

    def _pack(self, kind: int, places: Value, columns: Value, out: Value) -> None:
        """Write a panel from the rows whose addresses lie at ``places``, and the row before them."""
        e = self.e
        rows = [e.integer(places, r) for r in range(self.lanes + 1)]

        def turn(column: Value, _: list[Value]) -> None:
            for c, values in enumerate(self._transposed(self._differences(kind, rows, column))):
                e.store(values, e.at(out, e.add(column, c), self.bytes), self.bytes)

        e.loop(0, columns, self.lanes, turn)

    def _transposed(self, rows: list[Value]) -> list[Value]:
        """Transpose a square of values by exchanging ever larger corners."""
        n, corner = self.lanes, 1
        while corner < n:
            found: list[Value] = [None] * n
            for i in (i for i in range(n) if not i & corner):
                left = [c if not c & corner else n + c - corner for c in range(n)]
                right = [c + corner if not c & corner else n + c for c in range(n)]
                for row, picked in ((i, left), (i + corner, right)):
                    mask = ir.Constant(vector(ir.IntType(32), n), picked)
                    found[row] = self.e.ir.shuffle_vector(rows[i], rows[i + corner], mask)
            rows, corner = found, 2 * corner
        return rows

    # Products.

    def _multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}"
        return self.e.intrinsic(name, self.vector, [a, b, c])

    def _zeros(self, count: int) -> list[Value]:
        return [ir.Constant(self.vector, [0.0] * self.lanes)] * count

    def _add_to(self, address: Value, values: Value) -> None:
        """Add a vector to the float64 at an address."""
        e, doubles = self.e, vector(DOUBLE, self.lanes)
        values = values if self.wide else e.ir.fpext(values, doubles)
        e.store(e.ir.fadd(e.load(address, doubles), values), address)

    def _tile(
        self, panels: int, first: Value, apart: Value, other: Value, columns: Value, out: Value, padded: Value
    ) -> None:
        """Multiply the rows of ``panels`` panels, ``apart`` bytes apart, with ``across`` rows of the panel at
        ``other``: a line each.
        """
        e = self.e
        starts = [e.at(first, p, apart) for p in range(panels)]
        undefined, every = ir.Constant(self.vector, ir.Undefined), vector(ir.IntType(32), self.lanes)

        def splat(address: Value) -> Value:
            one = e.ir.insert_element(
                undefined, e.load(address, self.element, self.size), ir.Constant(ir.IntType(32), 0)
            )
            return e.ir.shuffle_vector(one, undefined, ir.Constant(every, [0] * self.lanes))

        def turn(column: Value, sums: list[Value]) -> list[Value]:
            values = [e.load(e.at(start, column, self.bytes), self.vector, self.bytes) for start in starts]
            found = []
            for n in range(self.across):
                factor = splat(e.add(e.at(other, column, self.bytes), n * self.size))
                found += [self._multiply_add(v, factor, sums[n * panels + p]) for p, v in enumerate(values)]
            return found

        sums = e.loop(0, columns, 1, turn, self._zeros(panels * self.across))
        for n in range(self.across):
            line = e.at(out, e.mul(padded, n), 8)
            for p in range(panels):
                self._add_to(e.add(line, p * self.lanes * 8), sums[n * panels + p])

    def _multiply(self, panels: Value, width: Value, count: Value, first: Value, gram: Value, padded: Value) -> None:
        """Multiply the rows from row ``first`` (a panel's first) on with the rows up to them; line j of ``gram`` holds
        those of row j.
        """
        e, lanes = self.e, self.lanes
        panel = e.mul(width, self.bytes)

        def tiles(row: Value, begin: Value, columns: Value, panels_: int, lo: Value | int, hi: Value) -> None:
            def one(other: Value, _: list[Value]) -> None:
                line = e.at(e.at(panels, e.ir.lshr(other, e.number(lanes.bit_length() - 1)), panel), begin, self.bytes)
                line = e.at(line, e.masked(other, lanes - 1), self.size)
                start = e.at(e.at(panels, e.ir.lshr(row, e.number(lanes.bit_length() - 1)), panel), begin, self.bytes)
                target = e.at(gram, e.add(e.mul(other, padded), row), 8)
                e.ir.call(self._tiles[panels_], [start, panel, line, columns, target, padded])

            e.loop(lo, hi, self.across, one)

        def run(begin: Value, _: list[Value]) -> None:
            columns = e.least(RUN, e.sub(count, begin))
            high = self.tall * lanes
            end = e.add(first, e.mul(e.ir.sdiv(e.sub(padded, first), e.number(high)), high))

            def tall(row: Value, _: list[Value]) -> None:
                last = e.add(row, high - lanes)
                if self.tall > 1:
                    tiles(row, begin, columns, self.tall, 0, last)
                    tiles(last, begin, columns, 1, last, e.add(last, lanes))
                else:
                    tiles(last, begin, columns, 1, 0, e.add(last, lanes))

            e.loop(first, end, high, tall)
            e.loop(end, padded, lanes, lambda row, _: tiles(row, begin, columns, 1, 0, e.add(row, lanes)))

        e.loop(0, count, RUN, run)

    # Few rows with all, without panels.

    def _subtract(self, kind: int, row: Value, before: Value, columns: Value, out: Value) -> None:
        """Write the difference of two rows, in the type of the panels."""
        e = self.e

        def turn(column: Value, _: list[Value]) -> None:
            [values] = self._differences(kind, [before, row], column)
            e.store(values, e.at(out, column, self.size), self.size)

        e.loop(0, columns, self.lanes, turn)

    def _dots(self, kind: int, places: Value, columns: Value, other: Value, out: Value) -> None:
        """Add the products of the vector at ``other`` with the differences of the rows whose addresses lie at ``places``."""
        e = self.e
        rows = [e.integer(places, r) for r in range(self.lanes + 1)]

        def turn(column: Value, sums: list[Value]) -> list[Value]:
            values = e.load(e.at(other, column, self.size), self.vector, self.size)
            found = self._differences(kind, rows, column)
            return [self._multiply_add(row, values, total) for row, total in zip(found, sums, strict=True)]

        def run(begin: Value, _: list[Value]) -> None:
            end = e.least(columns, e.add(begin, RUN * self.lanes))
            parts = self._transposed(e.loop(begin, end, self.lanes, turn, self._zeros(self.lanes)))
            total = parts[0]
            for part in parts[1:]:
                total = e.ir.fadd(total, part)
            self._add_to(out, total)

        e.loop(0, columns, RUN * self.lanes, run)

    # A window's products, and the totals.

    def _pairs(
        self,
        gram: Value,
        padded: Value,
        total: Value,
        new: Value,
        direct: Value,
        body: Callable[[Value, Value, Value], Value],
    ) -> Value:
        """Go through the wanted pairs (i, j), j ≤ i: ``body(product, index of the pair, carried)`` → carried, a
        float64.
        """
        e = self.e
        nothing = ir.Constant(DOUBLE, 0.0)

        def line(i: Value, outer: list[Value]) -> list[Value]:
            def one(j: Value, held: list[Value]) -> list[Value]:
                a, b = e.ir.select(direct, i, j), e.ir.select(direct, j, i)
                product = e.load(e.at(gram, e.add(e.mul(a, padded), b), 8), DOUBLE)
                return [e.add(held[0], 1), body(product, held[0], held[1])]

            return e.loop(0, e.add(i, 1), 1, one, outer)

        return e.loop(e.sub(total, new), total, 1, line, [e.number(0), nothing])[1]

    def _finite(self, gram: Value, padded: Value, total: Value, new: Value, direct: Value) -> Value:
        """Return 1 if all wanted products are finite, else 0."""
        e = self.e
        direct, nothing = e.ir.icmp_signed("!=", direct, e.number(0)), ir.Constant(DOUBLE, 0.0)
        sum_ = self._pairs(
            gram, padded, total, new, direct,
            lambda product, _, held: e.ir.fadd(held, e.ir.fmul(product, nothing)),
        )  # fmt: skip
        return e.ir.zext(e.ir.fcmp_ordered("==", sum_, nothing), INTEGER)

    def _fold(
        self, gram: Value, padded: Value, total: Value, new: Value, direct: Value, sums: Value, pairs: Value
    ) -> None:
        """Add the wanted products to the totals: to a sum and to what all its additions lost."""
        e = self.e

        def one(product: Value, pair: Value, held: Value) -> Value:
            place = e.at(sums, pair, 8)
            rest = e.at(place, pairs, 8)
            before = e.load(place, DOUBLE)
            after = e.ir.fadd(before, product)
            gained = e.ir.fsub(after, before)
            lost = e.ir.fadd(e.ir.fsub(before, e.ir.fsub(after, gained)), e.ir.fsub(product, gained))
            e.store(after, place)
            e.store(e.ir.fadd(e.load(rest, DOUBLE), lost), rest)
            return held

        self._pairs(gram, padded, total, new, e.ir.icmp_signed("!=", direct, e.number(0)), one)

    def _products(self, parameters: Value) -> Value:
        """Compute all products of a range of columns; return how many columns are in the totals.

        These are all, or those before a window that is not finite.
        """
        e, lanes = self.e, self.lanes
        p = {name: e.integer(parameters, i) for i, name in enumerate(PARAMETERS)}
        direct = e.ir.icmp_signed("!=", p["updates"], e.number(0))
        flag = e.ir.zext(direct, INTEGER)
        old = e.sub(p["total"], p["new"])

        def row_at(t: Value, column: Value) -> Value:
            return e.at(e.integer(p["rows"], t), column, p["size"])

        def part(at: Value, begin: Value, length: Value) -> None:
            columns, column = e.least(p["width"], e.sub(length, at)), e.add(begin, at)

            def update(r: Value, _: list[Value]) -> None:
                t = e.add(old, r)
                out = e.at(p["updates"], e.mul(r, p["width"]), self.size)
                e.call_at(p["subtract"], [row_at(t, column), row_at(e.sub(t, 1), column), columns, out])

            def panel(first: Value, _: list[Value]) -> None:
                for r in range(lanes + 1):
                    t = e.least(e.sub(e.add(first, r), 1), e.sub(p["total"], 1))
                    there = e.ir.icmp_signed(">=", t, e.number(0))
                    known = row_at(e.ir.select(there, t, e.number(0)), column)
                    e.store(e.ir.select(there, known, p["zeros"]), e.add(p["places"], 8 * r))

                def against(r: Value, _: list[Value]) -> None:
                    other = e.at(p["updates"], e.mul(r, p["width"]), self.size)
                    out = e.at(p["gram"], e.add(e.mul(e.add(old, r), p["padded"]), first), 8)
                    e.call_at(p["dots"], [p["places"], columns, other, out])

                target = e.at(p["panels"], e.mul(first, p["width"]), self.size)
                packed = [p["places"], columns, target]
                e.when(direct, lambda: e.loop(0, p["new"], 1, against), lambda: e.call_at(p["pack"], packed))

            e.when(direct, lambda: e.loop(0, p["new"], 1, update))
            e.loop(0, p["padded"], lanes, panel)
            start = e.masked(old, -lanes)
            arguments = [p["panels"], p["width"], columns, start, p["gram"], p["padded"]]
            e.when(e.ir.not_(direct), lambda: e.ir.call(self._multiplied, arguments))

        def window(number: Value, _: list[Value]) -> None:
            end = e.least(p["columns"], e.add(p["first"], e.mul(number, p["window"])))
            begin = e.add(p["first"], e.mul(e.sub(number, 1), p["window"]))
            begin = e.ir.select(e.ir.icmp_signed("==", number, e.number(0)), e.number(0), begin)
            length = e.sub(end, begin)
            nothing = ir.Constant(vector(DOUBLE, lanes), [0.0] * lanes)
            e.loop(0, e.mul(p["padded"], p["padded"]), lanes, lambda k, _: e.store(nothing, e.at(p["gram"], k, 8)))
            e.loop(0, length, p["width"], lambda at, _: part(at, begin, length))
            found = [p["gram"], p["padded"], p["total"], p["new"], flag]
            fine = e.ir.or_(e.ir.call(self._all_finite, found), p["forced"])
            e.leave_when(e.ir.icmp_signed("==", fine, e.number(0)), begin)
            e.ir.call(self._added, [*found, p["sums"], p["pairs"]])

        rest = e.add(e.sub(p["columns"], p["first"]), e.sub(p["window"], 1))
        e.loop(0, e.add(e.ir.sdiv(rest, p["window"]), 1), 1, window)
        return p["columns"]
