"""Short names for writing LLVM functions: addresses and counts are 64-bit integers, loops and conditions take bodies.

``Emitter`` builds one module. Every function takes and returns integers; values lie in memory, at addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir

Value = Any
"""An LLVM value; llvmlite has no types of its own for the checker."""

INTEGER: Final = ir.IntType(64)
SINGLE: Final = ir.FloatType()
DOUBLE: Final = ir.DoubleType()


def vector(element: Value, lanes: int) -> Value:
    return ir.VectorType(element, lanes)


class Emitter:
    """One module under construction, and the function that is being written."""

    def __init__(self) -> None:
        self.module = ir.Module()
        self.ir: Any = None

    def function(self, name: str, arguments: int, body: Callable[..., Value | None], *, inner: bool = False) -> Value:
        """Define a function of ``arguments`` integers; it returns what ``body``, called with them, returns, or 0.

        ``inner``: not exported.
        """
        kind = ir.FunctionType(INTEGER, [INTEGER] * arguments)
        found = ir.Function(self.module, kind, name)
        found.attributes.add("noinline")
        if inner:
            found.linkage = "internal"
        outer, self.ir = self.ir, ir.IRBuilder(found.append_basic_block("entry"))
        result = body(*found.args)
        self.ir.ret(self.number(0) if result is None else result)
        self.ir = outer
        return found

    def number(self, value: int) -> Value:
        return ir.Constant(INTEGER, value)

    def value(self, given: Value | int) -> Value:
        return self.number(given) if isinstance(given, int) else given

    def add(self, a: Value | int, b: Value | int) -> Value:
        return self.ir.add(self.value(a), self.value(b))

    def sub(self, a: Value | int, b: Value | int) -> Value:
        return self.ir.sub(self.value(a), self.value(b))

    def mul(self, a: Value | int, b: Value | int) -> Value:
        return self.ir.mul(self.value(a), self.value(b))

    def masked(self, a: Value, mask: int) -> Value:
        return self.ir.and_(a, self.number(mask))

    def least(self, a: Value | int, b: Value | int) -> Value:
        a, b = self.value(a), self.value(b)
        return self.ir.select(self.ir.icmp_signed("<", a, b), a, b)

    def at(self, address: Value, index: Value | int, size: Value | int) -> Value:
        """Return the address of element ``index`` of elements of ``size`` bytes."""
        return self.add(address, self.mul(index, size))

    def load(self, address: Value, kind: Value, align: int = 8) -> Value:
        found = self.ir.load(self.ir.inttoptr(address, kind.as_pointer()))
        found.align = align
        return found

    def store(self, value: Value, address: Value, align: int = 8) -> None:
        self.ir.store(value, self.ir.inttoptr(address, value.type.as_pointer())).align = align

    def integer(self, address: Value, index: Value | int = 0) -> Value:
        """Load the integer at ``index`` of an array of integers."""
        return self.load(self.at(address, index, 8), INTEGER)

    def intrinsic(self, name: str, kind: Value, arguments: Sequence[Value]) -> Value:
        """Call an LLVM intrinsic whose arguments and result are of one type."""
        found = self.module.globals.get(name)
        if found is None:
            found = ir.Function(self.module, ir.FunctionType(kind, [kind] * len(arguments)), name)
        return self.ir.call(found, arguments)

    def call_at(self, address: Value, arguments: Sequence[Value]) -> Value:
        """Call a function of integers by its address."""
        kind = ir.FunctionType(INTEGER, [INTEGER] * len(arguments)).as_pointer()
        return self.ir.call(self.ir.inttoptr(address, kind), arguments)

    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        step: Value | int,
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
        carried: Sequence[Value] = (),
    ) -> list[Value]:
        """Write ``for k in range(start, stop, step)`` with values carried from turn to turn; return the last of them."""
        entry = self.ir.block
        test, turn, after = (self.ir.append_basic_block(n) for n in ("test", "turn", "after"))
        self.ir.branch(test)
        self.ir.position_at_end(test)
        k = self.ir.phi(INTEGER)
        held = [self.ir.phi(value.type) for value in carried]
        self.ir.cbranch(self.ir.icmp_signed("<", k, self.value(stop)), turn, after)
        self.ir.position_at_end(turn)
        found = body(k, held) or ()
        changed = [self.add(k, step), *found]
        for phi, first, later in zip([k, *held], [self.value(start), *carried], changed, strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, self.ir.block)
        self.ir.branch(test)
        self.ir.position_at_end(after)
        return held

    def when(self, condition: Value, then: Callable[[], object], otherwise: Callable[[], object] | None = None) -> None:
        """Write ``if condition: then() else: otherwise()``, without a value."""
        if otherwise is None:
            with self.ir.if_then(condition):
                then()
            return
        with self.ir.if_else(condition) as (yes, no):
            with yes:
                then()
            with no:
                otherwise()

    def leave_when(self, condition: Value, result: Value) -> None:
        """Return ``result`` from the function if ``condition`` holds."""
        gone, on = self.ir.append_basic_block("leave"), self.ir.append_basic_block("on")
        self.ir.cbranch(condition, gone, on)
        self.ir.position_at_end(gone)
        self.ir.ret(result)
        self.ir.position_at_end(on)
