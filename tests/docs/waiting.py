"""Which tests wait: what a test, its helpers and its own fixtures do by time, found by reading the tests' sources.

Names are followed through functions, classes, modules of the tests and fixtures of a test's own scope; a method is followed wherever a
class that can be seen has one of that name. Fixtures that tests share are not: a server that runs already and answers one request
at a time says nothing of time. What the program does inside one call cannot be read here: tests of that are marked by hand.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

TESTS = Path(__file__).parents[1]
TIMING, DEAR = "mark.timing", "mark.dear"
DEEDS = {
    "sleep": "sleeps", "Thread": "starts a thread", "Timer": "starts a thread", "ThreadPoolExecutor": "starts threads",
    "ProcessPoolExecutor": "starts processes", "Process": "starts a process", "Popen": "starts a process", "fork": "starts a process",
    "kill": "sends a signal", "killpg": "sends a signal", "send_signal": "sends a signal", "terminate": "sends a signal",
    "raise_signal": "sends a signal", "setitimer": "sends a signal",
}  # fmt: skip
"""What a call of this name does."""
OF_A_MODULE = {"sleep": {"time", "asyncio"}, "kill": {"os"}, "fork": {"os"}}
"""Names that mean this as functions of these modules alone: a test's own clock has a ``sleep`` too."""
SERVERS = {"HubServer", "ScriptedServer", "HostileHub"}
"""Servers of the tests that answer from when they are made, in threads that no test waits for."""
PAGE = {"open_page", "pages", "browser"}
"""Fixtures by which a test steers a browser, and waits for what it shows."""
SLOWLY = {"latency_ms", "stall_s", "trickle"}
"""Faults of the tests' Hub that take time."""
ENTERED = {"__init__", "__post_init__", "__new__", "__enter__", "__exit__", "__call__", "__aenter__"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass
class Module:
    """A file of the tests, and what its names are."""

    path: Path
    tree: ast.Module
    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """name here → module, and the name there (None: the module itself)"""

    def __post_init__(self) -> None:
        for node in self.tree.body:
            if isinstance(node, Function | ast.ClassDef):
                self.definitions[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name):
                    self.definitions[target.id] = node
        for node in _parts(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in node.names:
                    self.imports[name.asname or name.name] = (node.module, name.name)
            elif isinstance(node, ast.Import):
                for name in node.names:
                    self.imports[name.asname or name.name] = (name.name, None)

    @cached_property
    def automatic(self) -> set[str]:
        """The fixtures here that every test has."""
        functions = (d for d in self.definitions.values() if isinstance(d, Function))
        return {d.name for d in functions if "autouse=True" in _decorators(d)}


@dataclass(frozen=True)
class Test:
    """A test function, or a method of a class of tests."""

    name: str
    marked: bool
    dear: bool
    whole: bool
    """whether the mark is that of its file"""
    deeds: frozenset[str]

    __test__ = False


class Suite:
    """All files below ``root``, read once."""

    def __init__(self, root: Path = TESTS) -> None:
        self.root = root
        self.modules = {path: Module(path, ast.parse(path.read_text("utf-8"))) for path in sorted(root.rglob("*.py"))}
        self._found: dict[int, frozenset[str]] = {}
        self._known: dict[Path, dict[str, list[tuple[Module, Function]]]] = {}

    @cached_property
    def _by_name(self) -> dict[str, Module]:
        return {path.stem: module for path, module in self.modules.items() if path.stem not in ("conftest", "__init__")}

    def all(self) -> Iterator[Test]:
        for path, module in self.modules.items():
            if path.stem.startswith("test_") or path.parent.name == "contracts":
                yield from self.of(module)

    def of(self, module: Module) -> Iterator[Test]:
        """The tests of a file."""
        of_file = ast.unparse(module.definitions["pytestmark"]) if "pytestmark" in module.definitions else ""
        whole = TIMING in of_file
        where = module.path.relative_to(self.root).as_posix()

        def one(name: str, node: Function, within: ast.ClassDef | None = None) -> Test:
            marks = " ".join((of_file, _decorators(node), _decorators(within) if within else ""))
            return Test(f"{where}::{name}", TIMING in marks, DEAR in marks, whole, self._test(module, node, within))

        for node in module.tree.body:
            if isinstance(node, Function) and node.name.startswith("test"):
                yield one(node.name, node)
            elif isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, Function) and method.name.startswith("test"):
                        yield one(f"{node.name}::{method.name}", method, node)

    def _test(self, module: Module, node: Function, within: ast.ClassDef | None = None) -> frozenset[str]:
        found = set(self._reached(module, node))
        if within is not None:  # a class of tests has fixtures of its own, and helpers
            found |= {
                deed
                for name in self._attributes(node)
                for m in _methods(within, name)
                for deed in self._reached(module, m)
            }
        for name in self._fixtures(module, node):
            if name in PAGE:
                found.add("steers a browser")
            elif (fixture := self._fixture(module, name)) is not None:
                found |= fixture
        return frozenset(found)

    def _fixtures(self, module: Module, node: Function) -> set[str]:
        names = {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
        for other in self._visible(module):
            names |= other.automatic
        return names

    def _visible(self, module: Module) -> list[Module]:
        """The file itself and the ``conftest.py`` of its folder and those above."""
        folders = [module.path.parent, *module.path.parent.parents]
        above = folders[: folders.index(self.root) + 1]
        return [module, *(self.modules[f / "conftest.py"] for f in above if f / "conftest.py" in self.modules)]

    def _fixture(self, module: Module, name: str) -> frozenset[str] | None:
        """What a fixture of one test does, those that it takes too; None for one that is not there or that tests share."""
        for other in self._visible(module):
            held = self._resolve(other, name)
            if held is None or "fixture" not in _decorators(held[1]):
                continue
            home, node = held
            if not isinstance(node, Function) or "scope=" in _decorators(node):
                return None
            found = set(self._reached(home, node))
            for taken in (a.arg for a in (*node.args.args, *node.args.kwonlyargs)):
                if taken in PAGE:
                    found.add("steers a browser")
                elif taken != name and (below := self._fixture(module, taken)) is not None:
                    found |= below
            return frozenset(found)
        return None

    def _resolve(self, module: Module, name: str) -> tuple[Module, Definition] | None:
        if name in module.definitions:
            return module, module.definitions[name]
        source, there = module.imports.get(name, ("", None))
        other = self._by_name.get(source.rpartition(".")[2])
        return self._resolve(other, there) if other is not None and there is not None and other is not module else None

    def _reached(self, module: Module, node: Definition) -> frozenset[str]:
        """What a definition does, and whatever it names does."""
        if id(node) in self._found:
            return self._found[id(node)]
        self._found[id(node)] = frozenset()  # of a circle: what the rest of it does
        found = self._of_class(module, node) if isinstance(node, ast.ClassDef) else self._of_body(module, node)
        self._found[id(node)] = frozenset(found)
        return self._found[id(node)]

    def _of_class(self, module: Module, node: ast.ClassDef) -> set[str]:
        if node.name in SERVERS:
            return set()
        entered = [m for m in node.body if not isinstance(m, Function) or m.name in ENTERED]
        found = {deed for part in entered for deed in self._of_body(module, part)}
        return found | {deed for base in node.bases for deed in self._of_body(module, base)}

    def _of_body(self, module: Module, node: ast.AST) -> set[str]:
        found: set[str] = set()
        for part in _parts(node):
            if isinstance(part, ast.Call):
                found |= _deed(part)
            if isinstance(part, ast.Name):
                held = self._resolve(module, part.id)
                if held is not None and held[1] is not node and "fixture" not in _decorators(held[1]):
                    found |= self._reached(*held)
            if isinstance(part, ast.Attribute):
                found |= (
                    {"waits for a slow answer"} if part.attr in SLOWLY and isinstance(part.ctx, ast.Store) else set()
                )
                found |= self._of_attribute(module, part)
            if isinstance(part, ast.keyword) and part.arg in SLOWLY:
                found.add("waits for a slow answer")
        return found

    def _of_attribute(self, module: Module, part: ast.Attribute) -> set[str]:
        if isinstance(part.value, ast.Name) and part.value.id in module.imports:
            source, there = module.imports[part.value.id]
            other = self._by_name.get(source.rpartition(".")[2])
            if other is not None and there is None and part.attr in other.definitions:
                return set(self._reached(other, other.definitions[part.attr]))
        return {
            deed
            for home, method in self._methods_seen(module).get(part.attr, [])
            for deed in self._reached(home, method)
        }

    def _methods_seen(self, module: Module) -> dict[str, list[tuple[Module, Function]]]:
        """The methods of the helpers' classes in a file and in those that it imports, by name."""
        if module.path not in self._known:
            known = self._known[module.path] = {}
            for home in {module.path: module, **{m.path: m for m in self._imported(module)}}.values():
                for held in home.definitions.values():
                    if isinstance(held, ast.ClassDef) and held.name not in SERVERS and not held.name.startswith("Test"):
                        for method in held.body:
                            if isinstance(method, Function):
                                known.setdefault(method.name, []).append((home, method))
        return self._known[module.path]

    def _imported(self, module: Module) -> Iterator[Module]:
        for source, _ in module.imports.values():
            if (other := self._by_name.get(source.rpartition(".")[2])) is not None:
                yield other

    @staticmethod
    def _attributes(node: ast.AST) -> set[str]:
        return {part.attr for part in _parts(node) if isinstance(part, ast.Attribute)}


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """All of a node but annotations and decorators."""
    todo = [node]
    while todo:
        part = todo.pop()
        yield part
        for name in part._fields:
            value = getattr(part, name, None)
            if isinstance(value, list) and name != "decorator_list":
                todo += [v for v in value if isinstance(v, ast.AST) and not isinstance(v, ast.Constant)]
            elif (
                isinstance(value, ast.AST)
                and name not in ("annotation", "returns", "ctx")
                and not isinstance(value, ast.Constant)
            ):
                todo.append(value)


def _deed(call: ast.Call) -> set[str]:
    if isinstance(call.func, ast.Name):
        return {DEEDS[call.func.id]} if call.func.id in DEEDS.keys() - OF_A_MODULE.keys() else set()
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in DEEDS:
        return set()
    modules = OF_A_MODULE.get(call.func.attr)
    return {DEEDS[call.func.attr]} if modules is None or ast.unparse(call.func.value) in modules else set()


def _methods(node: ast.ClassDef, name: str) -> list[Function]:
    return [m for m in node.body if isinstance(m, Function) and m.name == name]


@cache
def _decorators(node: ast.AST) -> str:
    return " ".join(ast.unparse(d) for d in getattr(node, "decorator_list", []))
