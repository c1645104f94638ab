"""One table of error kinds: what the code raises stands in it, and what stands in it agrees with the classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trajsvc.client
import trajsvc.errors
from storage_schema import errors
from storage_schema.error_kinds import KINDS
from trajsvc.jobs.records import QuotaExceeded

ROOT = Path(__file__).parents[2]
ROOMS = ("storage_schema", "trajsvc", "workers", "api")
CLASSES = {
    cls.__name__: cls
    for module in (errors, trajsvc.errors, trajsvc.client)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, errors.TrajsvcError) and not issubclass(cls, errors.StoreError)
}
CLASSES["QuotaExceeded"] = QuotaExceeded
OF_HTTP = {400, 401, 403, 405, 406, 408, 409, 412, 413, 414, 416, 421, 429}
"""statuses that a kind may have instead of its class's"""


def raised() -> Iterator[tuple[str, str, str]]:
    """(class, kind, file) for every error that the code makes with a literal kind."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not (isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name)):
                    continue
                first = node.args[0]
                if node.func.id in CLASSES and isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield node.func.id, first.value, str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def found() -> set[tuple[str, str, str]]:
    return set(raised())


def test_the_scan_sees_the_code(found: set[tuple[str, str, str]]) -> None:
    assert len({kind for _, kind, _ in found}) > 100


def test_every_kind_that_is_raised_is_in_the_table(found: set[tuple[str, str, str]]) -> None:
    missing = {(kind, file) for _, kind, file in found if kind not in KINDS}
    assert not missing, "add them to error_kinds"
    other = {
        (name, kind)
        for name, kind, _ in found
        if KINDS[kind].status not in OF_HTTP and KINDS[kind] != CLASSES[name].otherwise
    }
    assert not other, "their outcome in the table is not that of their class"


def test_a_kind_that_is_not_known_has_the_outcome_of_its_class() -> None:
    assert errors.NotFound("of-a-later-version", "gone").outcome == errors.NotFound.otherwise
