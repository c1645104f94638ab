"""Processes that compute results for a server: the same answers as without them, killed, dead, bounded."""

from __future__ import annotations

import gzip
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from asgi_asking import App
from fastapi.routing import APIRoute
from service_process import REPOSITORY, Server, descendants, environment, make_run, start_server
from test_work_processes import alive, soon

import trajsvc
from api.answer_cache import KeptAnswers
from api.answer_route import AnswerRoute
from api.answer_work import INLINE
from api.app import DESCRIBED
from api.bodies import check_json
from trajsvc.errors import UsageError
from trajsvc.results import answers

RUN = "/v1/runs/small"
ASKED = [
    "/v1/runs", "/v1/runs?where=mds>0&sort=-alpha&columns=mds", "/v1/runs?where=nonsense", "/v1/runs?limit=0", "/v1/measures", RUN,
    f"{RUN}/summary", f"{RUN}/map", f"{RUN}/map?f=csv", f"{RUN}/map?f=npy", f"{RUN}/map?f=svg", f"{RUN}/map?f=png", f"{RUN}/map?f=pdf",
    f"{RUN}/map?group=layer/9", f"{RUN}/map?steps=0,77", f"{RUN}/maps", f"{RUN}/measures", f"{RUN}/gram?f=npz", f"{RUN}/qkv",
    f"{RUN}/losses", f"{RUN}/averages", f"{RUN}/gradients", f"{RUN}/gradients/x", f"{RUN}/spectra", f"{RUN}/spectra/weights",
    "/v1/compare?run=small&run=small", "/v1/compare?run=none", "/v1/cross?a=small&b=small", "/v1/cross/bases", "/v1/families",
    "/v1/families/f/compare", "/v1/experiments", "/v1/runs/none/map", f"{RUN}/groups?match=%FF%00", f"{RUN}/map?group=%00&f=json",
]  # fmt: skip
TOLD = ("content-type", "content-length", "etag", "cache-control", "vary", "link")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a small run, whose results processes of their own compute."""
    folder = tmp_path_factory.mktemp("apart")
    source = make_run(folder / "small", steps=4, tensors=3, size=2**10)
    words = ["analyze", str(source), "--store", str(folder / "store"), "--no-figures"]
    subprocess.run([sys.executable, "-m", "trajsvc", *words], env=environment(), check=True, capture_output=True)
    server = start_server(folder, command="api")
    soon(lambda: server.ask("/v1/runs") and answering_processes(server))
    yield server
    server.process.kill_all()


def test_a_server_that_has_just_begun_answers_itself(apart: Server) -> None:
    here = App(apart.store.parent)
    here.service.apart = True  # and its processes are never started
    assert here.ask("/v1/runs").status == 200
    assert here.ask(f"{RUN}/map").status == 200
    assert not here.service.processes.ready()


def answering_processes(server: Server) -> list[int]:
    return [pid for first in descendants(server.process.pid)[:1] for pid in descendants(first)]


def test_every_answer_is_the_one_that_the_server_would_give(apart: Server) -> None:
    here = App(apart.store.parent)
    for path in ASKED:
        found = here.ask(path)
        status, headers, content = apart.ask(path, raw=True)
        expected, got = _without_id(found.body), _without_id(content)
        assert (path, status, got) == (path, found.status, expected)
        assert {n: headers.get(n) for n in TOLD} == {n: found.headers.get(n) for n in TOLD}, path
        assert headers["x-request-id"]
        if status >= 400:
            assert json.loads(content)["request_id"] == headers["x-request-id"]


@pytest.mark.slow
def test_a_large_answer_is_whole(apart: Server, tmp_path: Path) -> None:
    """More than is sent through a socket: it comes as a file that the process had, in either encoding."""
    source = make_run(tmp_path / "long", steps=800, tensors=1, size=2**9)
    trajsvc.analyze(source, store=apart.store, threads=1)
    here = App(apart.store.parent)
    for path in ("/v1/runs/long/gram?f=npz", "/v1/runs/long/map"):
        found = here.ask(path)
        status, headers, content = apart.ask(path, raw=True)
        assert (status, len(content)) == (200, len(found.body))
        assert len(content) > INLINE
        assert content == found.body
        assert {n: headers.get(n) for n in TOLD} == {n: found.headers.get(n) for n in TOLD}
        _, headers, packed = apart.ask(path, headers={"accept-encoding": "gzip"}, raw=True)
        assert (gzip.decompress(packed) if headers.get("content-encoding") == "gzip" else packed) == found.body
        assert apart.ask(path, headers={"if-none-match": headers["etag"]})[0] == 304


SMALL = {
    "live", "ready", "metrics", "listJobs", "getJob", "getJobEvents", "listTrash", "getZarrFile", "headZarrFile",
}  # fmt: skip
"""what the server's own threads answer: rows of the database, pieces of files"""


def test_every_route_of_a_result_is_answered_by_processes() -> None:
    """A new route is one of them, or is looked at and named here."""
    for routes in DESCRIBED:
        for route in routes.router.routes:
            assert isinstance(route, APIRoute)
            if route.methods == {"GET"} and route.operation_id not in SMALL:
                assert isinstance(route, AnswerRoute), route.operation_id
                assert not inspect.iscoroutinefunction(route.endpoint), route.operation_id


def _without_id(content: bytes) -> object:
    """An answer without what differs from request to request."""
    if not content.startswith(b'{"type":"urn:'):
        return content
    return {k: v for k, v in json.loads(content).items() if k != "request_id"}


def test_a_kept_answer_is_sent_again_while_it_is_right(apart: Server) -> None:
    path = f"{RUN}/map?f=svg"
    status, first, content = apart.ask(path, raw=True)
    assert status == 200
    again = apart.ask(path, raw=True)
    assert (again[0], again[1]["etag"], again[2]) == (200, first["etag"], content)
    assert apart.ask(path, raw=True, headers={"if-none-match": first["etag"]})[0] == 304
    assert apart.ask(path, raw=True, headers={"if-none-match": '"other"'})[2] == content
    zipped = apart.ask(path, raw=True, headers={"accept-encoding": "gzip"})
    assert zipped[1]["content-encoding"] == "gzip"
    status, headers, _ = apart.ask(path, raw=True, headers={"accept-encoding": "gzip", "if-none-match": first["etag"]})
    assert (status, headers["etag"]) == (304, first["etag"])


def test_what_is_kept_has_room() -> None:
    assert KeptAnswers(100)._held.maxsize == 100


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("end", ["slow", "died"])
def test_one_that_is_stuck_or_dies_is_an_answer_and_the_next_is_made(end: str, apart: Server) -> None:
    seconds = "1" if end == "slow" else "600"
    server = start_server(apart.store.parent, command="api", TRAJSVC_ANSWER_SECONDS=seconds)
    with ThreadPoolExecutor(1) as pool:
        try:
            asked = pool.submit(server.ask, f"{RUN}/export?f=csv", raw=True)
            pid = int(soon(lambda: [p for p in answering_processes(server) if _busy(p)])[0])
            os.kill(pid, signal.SIGSTOP if end == "slow" else signal.SIGKILL)
            status, headers, content = asked.result(600)
            assert (status, json.loads(content)["type"].rpartition(":")[2]) == (503, f"answer-{end}")
            assert int(headers["retry-after"]) > 0
            soon(lambda: not alive(pid))
            assert server.ask(f"{RUN}/map?f=npy", raw=True)[0] == 200
        finally:
            server.process.kill_all()


def _busy(pid: int) -> bool:
    """Whether a process has computed for a moment."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]) > 5
    return False


def test_memory_is_bounded() -> None:
    code = (
        "from api.memory_limit import limit_memory as l; l(2**27); bytearray(2**26); print('enough'); bytearray(2**30)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300, cwd=REPOSITORY)
    assert done.stdout == "enough\n"
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_too_large_an_answer_is_refused(apart: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: Any) -> Any:
        raise MemoryError

    here = App(apart.store.parent)
    monkeypatch.setattr(answers, "groups", without_memory)
    found = here.ask(f"{RUN}/groups")
    assert (found.status, found.kind) == (422, "answer-too-large")
    assert "answer_memory" in found.problem["hint"]


def test_keys_given_twice_are_found_in_linear_time() -> None:
    """A quadratic search takes hours here."""
    body = "{" + ",".join(f'"{i:x}":0' for i in range(300_000)) + ',"z":1,"z":1}'
    begun = time.process_time()
    with pytest.raises(UsageError, match="'z' twice"):
        check_json(body.encode())
    assert time.process_time() - begun < 300


def test_methods_that_nobody_knows_take_no_room_in_the_metrics(apart: Server) -> None:
    here = App(apart.store.parent)
    for i in range(20):
        here.ask("/v1/runs", f"MADEUP{i}")
    text = here.ask("/metrics").body.decode()
    assert "MADEUP" not in text
    assert 'method="other"' in text


def test_the_description_is_the_committed_one_and_is_not_made_anew(apart: Server) -> None:
    status, headers, content = apart.ask("/openapi.json", raw=True)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert content == (REPOSITORY / "api" / "openapi.json").read_bytes()


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_tokens_are_asked_for_before_anything_is_computed(tmp_path: Path) -> None:
    server = start_server(tmp_path, command="api", TRAJSVC_TOKEN="a-secret-of-the-test")
    try:
        for path in ("/v1/runs", "/v1/runs/x/map?steps=%00", "/v1/families", "/v1/runs?limit=no"):
            status, headers, problem = server.ask(path, headers={"authorization": "Bearer wrong"})
            assert (status, problem["type"].rpartition(":")[2]) == (401, "unauthorised")
            assert headers["www-authenticate"] == "Bearer"
        assert server.ask("/v1/runs")[0] == 200
    finally:
        server.process.kill_all()
