"""Answers of the Hub made of random bytes and of mutated truths: read as what they are, or refused with a typed error; nothing else.

Each property runs for a few seconds. The long run, which prints counts: ``TRAJSVC_FUZZ_SECONDS=3600 pytest tests/hub/test_hub_fuzz.py -s``.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hostile_hub import row_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trajsvc.errors import DamagedCheckpoint, LimitExceeded
from trajsvc.sources.hub import answers
from trajsvc.sources.hub.limits import HubLimits

SECONDS = float(os.environ.get("TRAJSVC_FUZZ_SECONDS", "2"))
LIMITS = HubLimits(received=2**16, unpacked=2**16, values=2000)
MODELS: dict[str, Callable[[Any], object]] = {
    "tree": lambda v: list(answers.files_of(answers.rows_of(v, "x"), "x")),
    "refs": lambda v: [answers.read(answers.RefRow, r, "x") for r in answers.read(answers.Refs, v, "x").branches],
    "commits": lambda v: [answers.read(answers.CommitRow, r, "x") for r in answers.rows_of(v, "x")],
    "models": lambda v: [answers.read(answers.RepositoryRow, r, "x") for r in answers.rows_of(v, "x")],
}
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
HOSTILE = [
    "../x",
    "/abs",
    "a\0b",
    "\ud800",
    "0" * 41,
    "x" * 5000,
    -1,
    10**30,
    None,
    [],
    {},
    True,
    0.5,
    "é",
    "\\",
    "a/../b",
    "0" * 40,
    "0" * 64,
]


def outcome(kind: str, body: bytes) -> str:
    """How an answer is taken; anything but these errors is a failure of the test."""
    try:
        MODELS[kind](answers.read_json(body, LIMITS, "x"))
    except (DamagedCheckpoint, LimitExceeded) as error:
        return error.kind
    except (ValueError, RecursionError):  # no JSON: the request is made again
        return "no JSON"
    return "taken"


def truth(kind: str, count: int) -> Any:
    rows = [row_of(kind, i) for i in range(count)]
    return {"branches": rows, "tags": rows[:1]} if kind == "refs" else rows


def mutated(value: Any, chance: random.Random) -> Any:
    """A value with a few of its parts replaced, dropped or doubled."""
    if chance.random() < 0.05:
        return chance.choice(HOSTILE)
    if isinstance(value, dict):
        return {k: mutated(v, chance) for k, v in value.items() if chance.random() > 0.03}
    if isinstance(value, list):
        return [mutated(v, chance) for v in value for _ in range(1 + (chance.random() < 0.03))]
    return value


def scrambled(body: bytes, chance: random.Random) -> bytes:
    """Bytes with some of them flipped, cut or repeated."""
    data = bytearray(body)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data) + 1)
        what = chance.randrange(4)
        if what == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            del data[at : at + chance.randrange(1, 20)]
        elif what == 2:
            data[at:at] = data[at : at + chance.randrange(1, 60)] * chance.randrange(1, 20)
        else:
            data[at:at] = chance.choice([b"[", b"{", b'"', b"\\", b"\\ud800", b"1e999", b"NaN", b"\x00", b"\xff"])
    return bytes(data)


@pytest.mark.timing
@pytest.mark.parametrize("kind", MODELS)
def test_mutations_of_an_answer_are_taken_or_refused(kind: str) -> None:
    """For a budget of seconds; the first seeds are the same every time."""
    until, seed, counts = time.monotonic() + SECONDS / len(MODELS), 0, Counter[str]()
    slowest = 0.0
    while time.monotonic() < until:
        chance = random.Random(seed)
        seed += 1
        value = mutated(truth(kind, chance.randrange(1, 6)), chance)
        body = json.dumps(value).encode()
        if chance.random() < 0.5:
            body = scrambled(body, chance)
        begun = time.monotonic()
        counts[outcome(kind, body)] += 1
        slowest = max(slowest, time.monotonic() - begun)
    print(f"{kind}: {seed:,} answers, {dict(counts)}, slowest {1e3 * slowest:.1f} ms")
    assert {"taken", "hub-bad-answer", "no JSON"} <= set(counts)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(MODELS)), VALUES)
def test_any_json_is_taken_or_refused(kind: str, value: object) -> None:
    assert outcome(kind, json.dumps(value).encode()) in ("taken", "hub-bad-answer", "hub-limit")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(kind: str, body: bytes) -> None:
    outcome(kind, body)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["X-Repo-Commit", "X-Linked-Size", "X-Linked-ETag", "ETag", "Other"]), st.text(max_size=80)
    )
)
def test_any_headers_are_taken_or_refused(headers: dict[str, str]) -> None:
    try:
        said = answers.file_headers(headers, "x")
    except DamagedCheckpoint as error:
        assert error.kind == "hub-bad-answer"  # noqa: PT017
    else:
        assert said.commit is None or len(said.commit) == 40


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60) | st.builds("http://{}".format, st.text(max_size=40)))
def test_any_link_stays_with_the_hub_or_is_refused(link: str) -> None:
    asked = "http://127.0.0.1:80/api/models/a/b/tree/x?recursive=true"
    try:
        query = answers.next_query(link, asked, "http://127.0.0.1", "x")
    except DamagedCheckpoint as error:
        assert error.kind == "hub-bad-answer"  # noqa: PT017
    else:
        assert query is not None
