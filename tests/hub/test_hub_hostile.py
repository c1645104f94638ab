"""A Hub that lies: whatever it says in any field, nothing is written outside the store; no answer of it is without end.

Every field of every model in ``trajsvc.sources.hub.answers`` is walked through ``VALUES``; a field that the table ``FIELDS`` lacks fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile_hub import MODES, STEPS, HostileHub, commit_of
from slow_params import slow_but

import trajsvc
from storage_schema.runs.store import RunStore
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import Cache
from trajsvc.sources.hub import answers
from trajsvc.sources.hub.address import parse_address
from trajsvc.sources.hub.source import HubOptions, HubSource
from trajsvc.sources.transport.cancel import Interrupted

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
LONG = "x" * 100_000


def values(outside: Path) -> dict[str, object]:
    """What a field may be made of by somebody who means harm."""
    return {
        "absolute": str(outside / "evil"),
        "absolute file": str(outside / "victim"),
        "upwards": "../../../../outside/evil",
        "upwards within": "a/../../../../outside/evil",
        "a dot": ".",
        "two dots": "..",
        "empty": "",
        "a blank": " ",
        "NUL": "a\0b",
        "backslash": "..\\..\\evil",
        "drive": "C:\\evil",
        "line end": "0" * 40 + "\n",
        "line end of 64": "0" * 64 + "\n",
        "escape": "\x1b]0;evil\x07",
        "half a character": "\ud800",
        "39 digits": "0" * 39,
        "63 digits": "0" * 63,
        "other digits": "٠" * 40,
        "capitals": "G" * 40,
        "long": LONG,
        "many parts": "a/" * 50_000,
        "percent": "%2e%2e%2f%2e%2e%2fevil",
        "address": "http://169.254.169.254/latest",
        "file address": "file:///etc/passwd",
        "null": None,
        "true": True,
        "negative": -1,
        "fraction": 0.5,
        "huge": 10**400,
        "beyond": 2**63,
        "list": ["../evil"],
        "table": {"../evil": "../evil"},
        "nothing": {},
    }


VALUES = tuple(values(Path("/")))


@dataclass(frozen=True)
class Field:
    """How a field is reached: what the Hub calls it, and what is asked. ``text``: anything readable may stand in it."""

    said: str
    asks: str = "branches"
    text: bool = False
    harmless: tuple[str, ...] = ()
    """values that mean nothing bad there"""


_HEADER = ("empty", "a blank", "nothing")
FIELDS: dict[tuple[type[answers.HubModel], str], Field] = {
    (answers.RefRow, "name"): Field("branches.name", text=True),
    (answers.RefRow, "commit"): Field("branches.targetCommit"),
    (answers.Refs, "branches"): Field("refs", harmless=()),
    (answers.Refs, "tags"): Field("tags.targetCommit"),
    (answers.LargeFile, "oid"): Field("lfs.oid"),
    (answers.FileRow, "type"): Field("type", text=True),
    (answers.FileRow, "path"): Field("path", text=True),
    (answers.FileRow, "size"): Field("size"),
    (answers.FileRow, "oid"): Field("oid"),
    (answers.FileRow, "lfs"): Field("lfs", harmless=("null",)),
    (answers.OtherRow, "type"): Field("type", text=True),
    (answers.CommitRow, "id"): Field("id", asks="commits"),
    (answers.CommitRow, "title"): Field("title", asks="commits", text=True),
    (answers.CommitRow, "date"): Field("date", asks="commits"),
    (answers.RepositoryRow, "id"): Field("models.id", asks="repositories", text=True),
    (answers.FileHeaders, "commit"): Field("X-Repo-Commit", harmless=_HEADER),
    (answers.FileHeaders, "size"): Field("X-Linked-Size", harmless=_HEADER),
    (answers.FileHeaders, "linked_etag"): Field("X-Linked-ETag", harmless=_HEADER),
    (answers.FileHeaders, "etag"): Field("ETag", text=True),
    (answers.Link, "url"): Field("Link", text=True),
}
"""Every field of every model; add a row with a field."""
MORE = {"Location": Field("Location"), "Content-Range": Field("Content-Range")}
"""What the transport reads of an answer about a file."""


def models(of: type[answers.HubModel] = answers.HubModel) -> Iterator[type[answers.HubModel]]:
    for model in of.__subclasses__():
        yield model
        yield from models(model)


def test_every_field_of_every_answer_is_walked() -> None:
    there = {(model, name) for model in models() for name in model.model_fields}
    assert there == set(FIELDS), "add what is new to FIELDS, so that it is walked through hostile values"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store in it, far enough down that ``..`` stays within the test's own, and a file that is to stay as it is."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_bytes(b"as it was" * 1000)
    work = tmp_path / "a" / "b" / "c"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    return tmp_path


def outside_of(place: Path) -> dict[str, bytes]:
    """Every file that is not in the store."""
    store = place / "a" / "b" / "c" / "store"
    return {str(p): p.read_bytes() for p in place.rglob("*") if p.is_file() and not p.is_relative_to(store)}


def read_all(hub: HostileHub, asks: str) -> None:
    """List a run and read its headers, as a plan does; what comes is kept in the store's cache."""
    address = {"repositories": "hf://org/run-*"}.get(asks, "hf://org/run")
    options = HubOptions(
        endpoint=hub.endpoint, token=False, attempts=1, commits="main" if asks == "commits" else None,
        cache=Cache(Path("store") / "cache", 2**20),
    )  # fmt: skip
    source = HubSource(parse_address(address), options)
    try:
        for checkpoint in source.checkpoints():
            source.tensors(checkpoint)
    finally:
        source.close()


def failure_of(attempt: Callable[[], object]) -> TrajsvcError | None:
    try:
        attempt()
    except TrajsvcError as error:
        return error
    return None


@pytest.mark.parametrize("asks", ["branches", "commits", "repositories"])
def test_the_truth_is_read(asks: str, place: Path) -> None:
    with HostileHub() as hub:
        read_all(hub, asks)
    assert (place / "a" / "b" / "c" / "store" / "cache").is_dir()


NAMED = {f"{model.__name__}.{name}": field for (model, name), field in FIELDS.items()} | MORE
PATHS = ("RefRow.name", "RefRow.commit", "LargeFile.oid", "FileRow.path", "FileHeaders.linked_etag", "Location")
"""fields that could become a file's name, or another address"""


@pytest.mark.parametrize("name_of_field", slow_but(NAMED, PATHS))
def test_nothing_is_written_outside_whatever_a_field_is(name_of_field: str, place: Path) -> None:
    field = NAMED[name_of_field]
    before = outside_of(place)
    for name, value in values(place / "outside").items():
        header = field.said[0].isupper()
        if header and (
            not isinstance(value, str | int | float) or not str(value).isprintable() or not str(value).isascii()
        ):
            continue  # no header can carry it
        with HostileHub(lies={field.said: value}) as hub:
            error = failure_of(lambda hub=hub: read_all(hub, field.asks))  # type: ignore[misc]
        shutil.rmtree("store", ignore_errors=True)  # what was read would not be asked for again
        kind = error.kind if error else ""
        assert error is None or (error.hint and LONG not in str(error) and "\x1b" not in error.message)
        assert outside_of(place) == before, name
        if header:
            assert kind or field.text or name in field.harmless, f"{field.said} = {name} was taken"
        elif not field.text and name not in field.harmless:
            assert kind == "hub-bad-answer", f"{field.said} = {name}: {kind or 'taken'}"


REFUSED = ("absolute", "upwards", "upwards within", "two dots", "empty", "NUL", "backslash", "half a character", "long",
           "null", "true", "negative", "huge", "list", "table")  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("said", ["branches.name", "tags.name", "path", "models.id"])
def test_names_that_lead_elsewhere_are_refused(said: str, name: str, place: Path) -> None:
    with (
        HostileHub(lies={said: values(place / "outside")[name]}) as hub,
        pytest.raises(TrajsvcError) as caught,
    ):
        read_all(hub, "repositories" if said == "models.id" else "branches")
    assert caught.value.kind == "hub-bad-answer"


@pytest.mark.parametrize("said", ["lfs.oid", "oid", "branches.targetCommit", "X-Linked-ETag", "path"])
@pytest.mark.parametrize("name", ["absolute", "absolute file", "upwards"])
def test_a_copy_of_a_lying_hub_writes_and_moves_nothing(
    said: str, name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = outside_of(place)
    value = values(place / "outside")[name]
    with HostileHub(lies={said: value, **({"X-Linked-ETag": f'"{value}"'} if said == "lfs.oid" else {})}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        with pytest.raises(TrajsvcError) as caught:
            trajsvc.analyze("hf://org/run", store=Path("store"), copy=True)
    assert caught.value.kind == "hub-bad-answer"
    assert outside_of(place) == before
    assert RunStore(Path("store")).names() == ()


def test_the_truth_is_copied(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HostileHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        run = trajsvc.analyze("hf://org/run", store=Path("store"), copy=True)
    assert list(run.steps) == list(STEPS)


@pytest.mark.parametrize("where", ["trees", "headers", "files"])
def test_links_in_the_cache_are_not_followed(where: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache := Path("store") / "cache").mkdir(parents=True)
    (cache / where).symlink_to(place / "outside")
    before = outside_of(place)
    with HostileHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        with pytest.raises(TrajsvcError) as caught:
            trajsvc.analyze("hf://org/run", store=Path("store"), copy=True)
    assert caught.value.kind == "store-unwritable"
    assert outside_of(place) == before


def test_a_cached_listing_is_not_trusted(place: Path) -> None:
    """What lies in the cache is looked at as an answer is: what does not do is asked for again."""
    with HostileHub() as hub:
        read_all(hub, "branches")
        for bad in (b"", b"[", b"[1]", b"[" * 10_000, b'[{"type": "file", "path": "../x", "size": 1, "oid": "/etc"}]'):
            for kept in (Path("store") / "cache" / "trees").rglob("*.json"):
                kept.write_bytes(bad)
            for kept in (p for p in (Path("store") / "cache" / "headers").rglob("*") if p.is_file()):
                kept.write_bytes(bad or b"\xff\n\nx")
            hub.heard.clear()
            read_all(hub, "branches")
            assert sum("/tree/" in path for path in hub.heard) == len(STEPS)


# ---------------------------------------------------------------- answers without end
Answer = tuple[float, float, str, str]
Ask = Callable[[str, str, str], Answer]
SECONDS, MEMORY = 100.0, 64.0
"""seconds and MiB: on a quiet machine no answer takes ten seconds"""
LITTLE, MUCH = "2", "60"
"""seconds that are allowed for an answer which ends only by them, or after many pages; and for one that meets another bound"""
PAGED = {m for m in MODES if "page" in m}
DROPS = ("trickle", "head-in-drops", "heads-before-the-head", "trailers-in-drops")
SLOW = {"silence", "pages-without-end", "many-pages-of-rows", *DROPS}
KINDS = {"silence": "hub-slow", **dict.fromkeys(DROPS, "hub-slow"), **dict.fromkeys(
    ("page-is-its-own-next", "pages-in-a-circle", "next-page-elsewhere", "redirects-without-end"), "hub-bad-answer")}  # fmt: skip
SETTING = {"two-million-rows": "hub_received", "many-pages-of-rows": "hub_", "pages-without-end": "hub_pages", "gzip-bomb": "hub_unpacked",
           "bytes-without-end": "hub_received", "one-long-text": "hub_received", "many-small-values": "hub_values", "deep": "hub_depth",
           "deep-below-a-row": "hub_depth", "long-header": "hub_header", "header-without-end": "hub_header", "silence": "hub_seconds",
           **dict.fromkeys(DROPS, "hub_seconds")}  # fmt: skip


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Asks a Hub in a process of its own, one for each bound of seconds: (seconds, MiB, kind, message)."""
    with asking(LITTLE) as little, asking(MUCH) as much:
        yield lambda endpoint, where, mode: (little if mode in SLOW else much)(endpoint, where)


@contextmanager
def asking(allowed: str) -> Iterator[Callable[[str, str], Answer]]:
    environment = {**os.environ, "TRAJSVC_HUB_SECONDS": allowed, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, str(HERE / "hostile_asking.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"

    def told(endpoint: str, where: str) -> Answer:
        print(endpoint, where, file=child.stdin, flush=True)
        return tuple(json.loads(child.stdout.readline()))  # type: ignore[return-value,union-attr]

    yield told
    child.stdin.close()
    child.wait(600)
    child.stdout.close()


def cases() -> Iterator[Any]:
    for where in ("refs", "tree", "commits", "models"):
        for mode in MODES:
            if mode == "long-names" or (where == "refs" and mode in PAGED):
                continue  # branches come in one answer
            slow = mode in SLOW and where != "commits"
            marks = [*[pytest.mark.timing] * (mode in SLOW), *[pytest.mark.slow] * slow]
            yield pytest.param(mode, where, id=f"{where}-{mode}", marks=marks)


@pytest.mark.parametrize(("mode", "where"), list(cases()))
def test_every_answer_ends(mode: str, where: str, ask: Ask) -> None:
    """Within seconds and little memory, with an error that names the bound and its setting."""
    with HostileHub(mode=mode, where=where) as hub:
        seconds, memory, kind, message = ask(hub.endpoint, where, mode)
    assert kind in (KINDS.get(mode, "hub-limit"), "hub-slow" if mode in SLOW else None), message
    assert seconds < SECONDS, message
    assert memory <= MEMORY
    if mode in SETTING and kind != "hub-slow":
        assert SETTING[mode] in message
        assert SETTING[mode].upper() in message, "and how it is set"
    if kind == "hub-slow":
        assert "hub_seconds" in message


def test_redirects_and_pages_elsewhere_are_asked_of_nobody() -> None:
    with HostileHub() as stranger, HostileHub(lies={"Link": f'<{stranger.endpoint}/x?cursor=1>; rel="next"'}) as hub:
        with pytest.raises(TrajsvcError, match="another host"):
            read_all(hub, "branches")
        assert stranger.heard == []


def test_commits_are_those_of_the_hub() -> None:
    assert len({commit_of(s) for s in STEPS}) == len(STEPS)


@pytest.mark.slow
@pytest.mark.timing
def test_patterns_are_matched_until_the_caller_is_to_stop() -> None:
    """Ten thousand names of 246 characters, and a pattern that takes milliseconds for each."""
    pattern = "(?P<step>(" + "(a|)" * 90 + ")(?:a{0,50}){0,20})!"
    with HostileHub(mode="long-names", where="refs") as hub:
        until = time.monotonic() + 3
        options = HubOptions(
            endpoint=hub.endpoint, token=False, revisions=(pattern,), stop=lambda: time.monotonic() > until
        )
        with pytest.raises(Interrupted):
            HubSource(parse_address("hf://org/run"), options).checkpoints()
        assert time.monotonic() < until + 300
