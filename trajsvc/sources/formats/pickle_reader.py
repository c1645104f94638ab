"""Read pickles without running them: return what a pickle would build, as plain values and inert records.

A pickle is a program for a stack machine. This machine knows its opcodes and imports, calls and instantiates nothing: a
global is a ``Global`` (two strings), a call is a ``Built`` (what would be called, with what). So no pickle can do
anything here but take time and memory, and both are bounded. The opcodes are decoded by the standard library's
``pickletools``.

A pickle that names something which would reach the system (``os.system``, ``subprocess``, ``builtins.eval``) is refused
nevertheless, and nothing else in it is used.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from trajsvc.errors import DamagedCheckpoint, TrajsvcError
from trajsvc.sources.formats.limits import MAX_HEADER, MAX_VIEWS, too_much
from trajsvc.sources.formats.pickle_denylist import refuse_unsafe

MAX_OPCODES: Final = 2_000_000
"""A tensor takes about thirty."""
MAX_STACK: Final = 250_000
"""Objects that wait to be put into another: picklers write lists and dictionaries in pieces of a thousand."""
_MEMORY_BASE: Final = 16 * 2**20
_MEMORY_PER_BYTE: Final = 16
"""A pickle of a state dict needs about ten bytes of memory for each of its own."""
_MEMORY_MOST: Final = 64 * 2**20
"""As it is counted here, which is more than what Python takes."""
_OBJECT: Final = 80
_KEY_LIMIT: Final = 2**60
"""Larger integers could be chosen to collide in a dictionary."""
_KEY_DEPTH: Final = 4
_NO_ITEMS: Final[Mapping[Any, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Built:
    """The result that a call would have: the callable, its arguments, and the state set on it afterwards."""

    __slots__ = ("arguments", "function", "items", "parts", "state")

    def __init__(self, function: object, arguments: object) -> None:
        self.function = function
        self.arguments = arguments
        self.items: Mapping[Any, Any] = _NO_ITEMS
        """set by key"""
        self.parts: Sequence[Any] = ()
        """appended or added"""
        self.state: object = None

    # Most calls get neither: containers made for each would be half of the garbage collector's work.

    def own_items(self) -> dict[Any, Any]:
        """Return ``items`` as a dictionary that may be changed."""
        if not isinstance(self.items, dict):
            self.items = {}
        return self.items

    def own_parts(self) -> list[Any]:
        """Return ``parts`` as a list that may be changed."""
        if not isinstance(self.parts, list):
            self.parts = []
        return self.parts

    def __repr__(self) -> str:
        # What it holds may nest arbitrarily deep.
        return f"Built({self.function if isinstance(self.function, Global) else '…'})"


class Persistent:
    """A reference to something outside the pickle (a storage), by the writer's name for it."""

    __slots__ = ("key",)

    def __init__(self, key: object) -> None:
        self.key = key


def read_pickle(data: bytes, path: str) -> Any:
    """Return the value that the pickle ``data`` describes. ``path`` is named in errors.

    Raises UnsafeFile (``unsafe-pickle``), DamagedCheckpoint (``malformed-pickle``), LimitExceeded.
    """
    if len(data) > MAX_HEADER:
        raise too_much(path, f"a pickle of {len(data):,} bytes", f"{MAX_HEADER:,}")
    return _Machine(data, path).run()


class _Stop(Exception):
    pass


class _Machine:
    def __init__(self, data: bytes, path: str) -> None:
        self.data, self.path = data, path
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.views: dict[str, int] = {}
        """tensors of every storage"""
        self.spent = 0
        self.allowed = min(_MEMORY_MOST, _MEMORY_BASE + _MEMORY_PER_BYTE * len(data))

    def run(self) -> Any:
        try:
            for count, (opcode, argument, _) in enumerate(self._opcodes(), 1):
                if count > MAX_OPCODES:
                    raise too_much(self.path, "a pickle of too many instructions", f"{MAX_OPCODES:,}")
                _DISPATCH[opcode.name](self, argument)
                if len(self.stack) > MAX_STACK or len(self.marks) > MAX_STACK:
                    raise too_much(self.path, "a pickle of too many objects at once", f"{MAX_STACK:,}")
        except _Stop:
            return self.stack[-1]
        except TrajsvcError:
            raise
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise self.bad(f"an instruction without its operands ({type(error).__name__})") from error
        raise self.bad("no end")

    def _opcodes(self) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
        try:
            yield from pickletools.genops(self.data)
        except (ValueError, OverflowError, MemoryError) as error:
            raise self.bad(str(error)[:100]) from error

    def bad(self, what: str) -> DamagedCheckpoint:
        return DamagedCheckpoint(
            "malformed-pickle",
            f"the pickle in {self.path} cannot be read: {what}",
            hint="Fetch or copy the file again.",
            file=self.path,
        )

    def push(self, value: object) -> None:
        self.stack.append(value)

    def make(self, value: object) -> None:
        """Push a new object and count what it costs."""
        self.spend(_OBJECT)
        self.stack.append(value)

    def spend(self, cost: int) -> None:
        self.spent += cost
        if self.spent > self.allowed:
            raise too_much(self.path, "a pickle that would need too much memory", f"{self.allowed:,} bytes")

    def marked(self) -> list[Any]:
        """Pop the last mark and all that lies above it; return the latter."""
        start = self.marks.pop()
        if start > len(self.stack):
            raise self.bad("a mark above the stack")
        found = self.stack[start:]
        del self.stack[start:]
        self.spend(8 * len(found))
        return found

    def literal(self, value: Any) -> None:
        self.spend(len(value) + 48 if isinstance(value, str | bytes | bytearray) else 32)
        self.stack.append(value)

    def remember(self, index: int) -> None:
        self.spend(2 * _OBJECT)  # a dictionary that grows lies there twice
        self.memo[index] = self.stack[-1]

    def reference(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.bad("a global whose name is not text")
        refuse_unsafe(module, name, self.path)
        self.make(Global(module, name))

    def call(self, function: object, arguments: object) -> None:
        if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], Persistent):
            self.view(arguments[0].key)
        self.make(Built(function, arguments))

    def view(self, key: object) -> None:
        """Count a tensor of the storage ``key``; its record says which."""
        record = key[2] if isinstance(key, tuple) and len(key) > 2 else None
        if isinstance(record, str):
            self.views[record] = count = self.views.get(record, 0) + 1
            if count > MAX_VIEWS:
                raise too_much(self.path, f"more than {MAX_VIEWS:,} tensors in one storage", f"{MAX_VIEWS:,}")

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.call(function, arguments)

    def new_with_keywords(self) -> None:
        keywords, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.call(function, (*arguments, keywords))

    def instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self.marked())
        self.reference(module, name)
        self.call(self.stack.pop(), arguments)

    def obj(self) -> None:
        function, *arguments = self.marked()
        self.call(function, tuple(arguments))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Built):
            target.state = state

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        items = target.own_items() if isinstance(target, Built) else target
        if not isinstance(items, dict) or len(pairs) % 2:
            raise self.bad("items set on what is not a mapping")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            items[self.key(key)] = value
        self.spend(_OBJECT * (len(pairs) // 2))

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        parts = target.own_parts() if isinstance(target, Built) else target
        if not isinstance(parts, list):
            raise self.bad("values appended to what is not a list")
        parts.extend(values)
        self.spend(8 * len(values))

    def key(self, key: Any, depth: int = 0) -> Any:
        """Check that a key can be hashed without deep recursion or collisions made on purpose, and return it."""
        if isinstance(key, tuple):
            if depth >= _KEY_DEPTH or len(key) > 64:
                raise self.bad("a key that is nested too deeply")
            return tuple(self.key(k, depth + 1) for k in key)
        if isinstance(key, int) and abs(key) >= _KEY_LIMIT:
            raise self.bad("a key that is too large a number")
        if isinstance(key, list | dict | bytearray | set):
            raise self.bad("a key that may change")
        return key

    def stop(self) -> None:
        if not self.stack:
            raise self.bad("nothing was built")
        raise _Stop

    def take_pair(self) -> list[Any]:
        value, key = self.stack.pop(), self.stack.pop()
        return [key, value]

    def tuple_of(self, count: int) -> None:
        if count > len(self.stack):
            raise self.bad("a tuple of more than there is")
        found = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.make(found)

    def pairs_to_dict(self) -> None:
        pairs = self.marked()
        self.make({})
        self.set_items(pairs)

    def refuse(self, what: str) -> None:
        raise self.bad(what)

    def pop(self) -> None:
        # The mark is itself an entry of the stack in the language's definition.
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.reference(module, name)

    def add_set(self) -> None:
        values = self.marked()
        self.append(values)


def _persistent(machine: _Machine, key: object) -> None:
    machine.make(Persistent(key))


_LITERALS: Final = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "FLOAT", "BINFLOAT",
)  # fmt: skip
_PUTS: Final = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS: Final = ("GET", "BINGET", "LONG_BINGET")

_DISPATCH: Final[dict[str, Callable[[_Machine, Any], object]]] = {
    **dict.fromkeys(_LITERALS, _Machine.literal),
    **dict.fromkeys(_PUTS, _Machine.remember),
    **dict.fromkeys(_GETS, lambda m, a: m.push(m.memo[a])),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, a: None),
    "MEMOIZE": lambda m, a: m.remember(len(m.memo)),
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    "MARK": lambda m, a: m.marks.append(len(m.stack)),
    "POP": lambda m, a: m.pop(),
    "POP_MARK": lambda m, a: m.marked(),
    "DUP": lambda m, a: m.push(m.stack[-1]),
    "EMPTY_LIST": lambda m, a: m.make([]),
    "EMPTY_DICT": lambda m, a: m.make({}),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "EMPTY_SET": lambda m, a: m.call(Global("builtins", "set"), ()),
    "LIST": lambda m, a: m.make(m.marked()),
    "TUPLE": lambda m, a: m.make(tuple(m.marked())),
    "FROZENSET": lambda m, a: m.call(Global("builtins", "frozenset"), m.marked()),
    "TUPLE1": lambda m, a: m.tuple_of(1),
    "TUPLE2": lambda m, a: m.tuple_of(2),
    "TUPLE3": lambda m, a: m.tuple_of(3),
    "DICT": lambda m, a: m.pairs_to_dict(),
    "SETITEM": lambda m, a: m.set_items(m.take_pair()),
    "SETITEMS": lambda m, a: m.set_items(m.marked()),
    "APPEND": lambda m, a: m.append([m.stack.pop()]),
    "APPENDS": lambda m, a: m.append(m.marked()),
    "ADDITEMS": lambda m, a: m.add_set(),
    "GLOBAL": lambda m, a: m.reference(*a.split(" ", 1)),
    "STACK_GLOBAL": lambda m, a: m.stack_global(),
    "REDUCE": lambda m, a: m.reduce(),
    "NEWOBJ": lambda m, a: m.reduce(),
    "NEWOBJ_EX": lambda m, a: m.new_with_keywords(),
    "INST": lambda m, a: m.instance(a),
    "OBJ": lambda m, a: m.obj(),
    "BUILD": lambda m, a: m.build(),
    "PERSID": _persistent,
    "BINPERSID": lambda m, a: _persistent(m, m.stack.pop()),
    "STOP": lambda m, a: m.stop(),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda m, a: m.refuse("a global by number")),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), lambda m, a: m.refuse("a buffer outside the pickle")),
}
