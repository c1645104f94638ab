"""Fixtures of the Hub's tests: servers that stop at the end, and an environment in which no test meets the real Hub's settings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hub_asking import BODY
from hub_repos import Repo
from hub_server import HubServer, Revision
from huggingface_hub import constants
from listing_asking import Answer

_UNSET = (
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT",
    "HF_HUB_CACHE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
_NOWHERE = "http://127.0.0.1:9"
"""nothing listens there: a test that forgets its endpoint fails instead of asking the real Hub"""


@pytest.fixture(autouse=True)
def no_hub_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No token, endpoint, proxy or cache of the machine; the client's constants too, which it made of them at import."""
    for name in _UNSET:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "hf-home"
    monkeypatch.setenv("HF_HOME", str(home))
    for name, value in {
        "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"), "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"), "HF_XET_CACHE": str(home / "xet"),
        "HF_HUB_OFFLINE": False, "ENDPOINT": _NOWHERE,
        "HUGGINGFACE_CO_URL_TEMPLATE": _NOWHERE + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def hub() -> Iterator[Callable[..., HubServer]]:
    """``hub(repos, **options)`` starts a ``HubServer``; all of a test's servers stop when it ends."""
    started: list[HubServer] = []

    def start(*args: Any, **options: Any) -> HubServer:
        started.append(HubServer(*args, **options).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def hubs(hub: Callable[..., HubServer], monkeypatch: pytest.MonkeyPatch) -> Callable[..., HubServer]:
    """``hubs(*repos)`` starts a ``HubServer`` and makes it the endpoint of this process and of those that it starts."""

    def start(*repos: Repo, **options: Any) -> HubServer:
        server = hub(repos, **options)
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        return server

    return start


@pytest.fixture
def run(hub: Callable[..., HubServer]) -> HubServer:
    """A repository with one large file (at its own address) and a small one."""
    return hub(
        {"org/run": Revision({"model.safetensors": BODY, "config.json": b'{"model_type": "gpt_neox"}'})}, cdn="off"
    )


@pytest.fixture
def apart(hub: Callable[..., HubServer]) -> HubServer:
    """The same with the large file at another host, as on the Hub."""
    return hub({"org/run": Revision({"model.safetensors": BODY})})


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[str], Answer | None]], str]]:
    """Starts a server whose answers a function of the path gives (None: it hangs); gives its endpoint."""
    servers: list[ThreadingHTTPServer] = []
    over = threading.Event()

    def start(answer: Callable[[str], Answer | None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.path, self.headers.get("Authorization")))
                told = answer(self.path)
                if told is None:
                    over.wait(120)
                    return
                status, headers, body = told
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return None

        seen: list[tuple[str, str | None]] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.seen = seen  # type: ignore[attr-defined]
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    start.servers = servers  # type: ignore[attr-defined]
    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()
