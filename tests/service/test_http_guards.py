"""What a server refuses: other names and origins, large bodies, paths out of a data root, askers without a token; what it never tells."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import in_process
import pytest
from service_process import Server, environment, free_port, make_run, start_server

SECRET = "tsv_canary_0123456789abcdef"
HF = "hf_canary0123456789ABCDEFGHIJ"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    make_run(folder / "data" / "run", steps=3)
    (folder / "data" / "link").symlink_to(folder / "data" / "run")
    (folder / "data" / "out").symlink_to("/etc")
    os.mkfifo(folder / "data" / "pipe")
    server = start_server(
        folder,
        "--workers",
        "1",
        "--root",
        f"runs={folder / 'data'}",
        TRAJSVC_TOKEN=SECRET,
        HF_TOKEN=HF,
        HF_ENDPOINT="http://127.0.0.1:9",
        TRAJSVC_HUB_SECONDS="2",
    )
    yield server
    server.process.stop()


def token(server: Server, scope: str) -> str:
    made = in_process.trajsvc("tokens", "create", scope, "--scope", scope, "--store", str(server.store))
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_without_a_token_nothing_is_told_but_that_it_lives(guarded: Server) -> None:
    nobody = Server(guarded.address, guarded.store, guarded.process)
    for path in ("/v1/runs", "/v1/jobs", "/v1/measures", "/metrics", "/v1/families"):
        status, headers, problem = nobody.ask(path)
        assert (status, problem["type"]) == (401, "urn:trajsvc:problem:unauthorised")
        assert headers["www-authenticate"] == "Bearer"
    assert nobody.ask("/v1/runs", headers={"Authorization": "Bearer wrong"})[0] == 401
    assert nobody.ask("/v1/runs", headers={"Authorization": "Basic abc"})[0] == 401
    assert nobody.ask("/live")[0] == 200


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_scopes_are_kept(guarded: Server) -> None:
    reads = {"Authorization": f"Bearer {token(guarded, 'read')}"}
    submits = {"Authorization": f"Bearer {token(guarded, 'submit')}"}
    assert guarded.ask("/v1/runs", headers=reads)[0] == 200
    body = {"source": "runs:run"}
    status, _, problem = guarded.ask("/v1/runs", method="POST", body=body, headers=reads)
    assert (status, problem["type"]) == (403, "urn:trajsvc:problem:forbidden")
    mine = guarded.ask("/v1/runs", method="POST", body=body)[2]
    assert guarded.ask(f"/v1/jobs/{mine['id']}", method="DELETE", headers=submits)[0] == 403, "another's job"
    guarded.wait(mine["id"])


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("/etc", "bad-source"),
        ("runs:../..", "bad-path"),
        ("runs:/etc", "bad-path"),
        ("runs:run/../run", "bad-path"),
        ("runs:link", "unsafe-path"),
        ("runs:out/passwd", "unsafe-path"),
        ("runs:pipe", "unsafe-path"),
        ("runs:*", "bad-path"),
        ("runs:a\0b", "bad-path"),
        ("runs:missing", "source-not-found"),
        ("others:run", "root-not-found"),
        ("http://evil.example/model", "bad-source"),
        ("file:///etc/passwd", "bad-source"),
        ("s3://bucket/x", "bad-source"),
        ("hf://../../etc", "bad-hub-address"),
        ("hf://127.0.0.1:9/x/y/z@../..", None),
    ],
)
def test_a_source_is_a_repository_or_lies_in_a_data_root(guarded: Server, source: str, kind: str | None) -> None:
    status, _, problem = guarded.ask("/v1/runs", method="POST", body={"source": source})
    assert status in (404, 422), problem
    if kind is not None:
        assert problem["type"] == f"urn:trajsvc:problem:{kind}"


def test_no_secret_is_told_anywhere(guarded: Server) -> None:
    guarded.ask("/v1/runs", method="POST", body={"source": f"hf://org/{HF}"})
    guarded.ask(f"/v1/runs/x?token={SECRET}", headers={"Authorization": f"Bearer {SECRET}x"})
    seen = [guarded.process.log, *(p for p in guarded.store.rglob("*") if p.is_file())]
    for path in seen:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert HF.encode() not in content, path


def raw(server: Server, text: bytes) -> bytes:
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=600) as wire:
        wire.sendall(text)
        wire.settimeout(20)
        found = b""
        while part := wire.recv(65536):
            found += part
            if b"\r\n\r\n" in found:
                break
        return found


def test_another_host_name_is_refused(guarded: Server) -> None:
    assert b" 421 " in raw(guarded, b"GET /live HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert b" 200 " in raw(guarded, b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


def test_a_write_from_another_origin_is_refused(guarded: Server) -> None:
    body = {"source": "runs:run"}
    status, _, problem = guarded.ask("/v1/runs", method="POST", body=body, headers={"Origin": "http://evil.example"})
    assert (status, problem["type"]) == (403, "urn:trajsvc:problem:bad-origin")
    status, headers, _ = guarded.ask("/v1/runs", method="POST", body=body, headers={"Origin": guarded.address})
    assert status in (200, 202)
    assert "access-control-allow-origin" not in headers


def test_a_large_body_is_refused_with_and_without_a_length(guarded: Server) -> None:
    large = b'{"source": "' + b"x" * 70_000 + b'"}'
    status, _, problem = guarded.ask("/v1/runs", method="POST", body=large)
    assert (status, problem["type"]) == (413, "urn:trajsvc:problem:body-too-large")
    host = guarded.address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=600)
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/runs", iter([large[:40_000], large[40_000:]]), headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_bodies_that_are_not_what_is_asked_for(guarded: Server) -> None:
    for body in (b"{", b"[]", b'{"source": 3}', b'{"source": "runs:run", "colour": "red"}', b"\xff\xfe"):
        status, headers, problem = guarded.ask("/v1/runs", method="POST", body=body)
        assert status == 422
        assert headers["content-type"] == "application/problem+json"
        assert problem["type"] == "urn:trajsvc:problem:bad-request"


def test_answers_carry_what_a_browser_needs(guarded: Server) -> None:
    for path in ("/live", "/nowhere", "/v1/runs"):
        headers = guarded.ask(path)[1]
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.slow
def test_a_reachable_server_without_tokens_does_not_start(tmp_path: Path) -> None:
    for words, text in ((["--no-auth"], "open to everybody"), ([], "none is valid")):
        done = subprocess.run(
            [sys.executable, "-m", "trajsvc", "api", "--host", "0.0.0.0", "--port", str(free_port()), *words],
            env=environment(TRAJSVC_STORE=str(tmp_path / "s")), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 2
        assert text in done.stderr


@pytest.mark.slow
def test_a_port_in_use_is_said(guarded: Server, tmp_path: Path) -> None:
    port = guarded.address.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "trajsvc", "api", "--port", port], env=environment(TRAJSVC_STORE=str(tmp_path / "s")),
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Try --port" in done.stderr


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_a_job_keeps_to_the_servers_limits(tmp_path: Path) -> None:
    make_run(tmp_path / "data" / "run", steps=6)
    server = start_server(
        tmp_path, "--workers", "1", "--root", f"runs={tmp_path / 'data'}", TRAJSVC_JOB_CHECKPOINTS="4", TRAJSVC_JOB_MEMORY="128MiB",
        TRAJSVC_MEMORY="64MiB", TRAJSVC_QUOTA_PER_MINUTE="3",
    )  # fmt: skip
    try:
        job = server.wait(server.submit("runs:run")["id"])
        assert (job["state"], job["cause"]["kind"]) == ("failed", "job-checkpoints")
        assert server.wait(server.submit("runs:run", steps="first:4")["id"])["state"] == "succeeded"
        status, _, problem = server.ask("/v1/runs", method="POST", body={"source": "runs:run", "memory": 2**30})
        assert (status, problem["type"]) == (422, "urn:trajsvc:problem:memory-quota")
        server.submit("runs:run", steps="first:3")
        status, headers, problem = server.ask(
            "/v1/runs", method="POST", body={"source": "runs:run", "steps": "first:2"}
        )
        assert (status, problem["type"]) == (429, "urn:trajsvc:problem:quota-rate")
        assert 1 <= int(headers["retry-after"]) <= 60
    finally:
        server.process.stop()
