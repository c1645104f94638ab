"""A real server with real runs for the page's tests, and a browser that notices every error on the page."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_runs import make_deep_run, make_gradients, make_logged_run, make_moving_run, make_patchy_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "service"))

from service_process import EXAMPLES, Server, make_run, start_hub, start_server

import trajsvc

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
RUNS = ("pythia-nano", "plain", "deep", "logged", "logged-faster", "patchy")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``trajsvc serve`` with six analysed runs, a family of two of them, and data for more."""
    place = tmp_path_factory.mktemp("page")
    data = place / "data"
    shutil.copytree(EXAMPLES / "pythia-nano", data / "pythia-nano")
    shutil.copytree(EXAMPLES / "pythia-nano", data / "to-submit")
    make_run(data / "plain", steps=12)
    make_deep_run(data / "deep")
    make_logged_run(data / "logged")
    make_patchy_run(data / "patchy")
    make_logged_run(data / "logged-faster", tokens=3, seed=2)
    (data / "damaged" / "step0").mkdir(parents=True)
    (data / "damaged" / "step0" / "model.safetensors").write_bytes(b"no header at all")
    make_moving_run(place / "hub" / "far")
    for name in RUNS:
        trajsvc.analyze(data / name, store=place / "store", threads=1)
    make_gradients(place / "store")
    hub, address = start_hub(place / "hub", place / "hub.log")
    server = start_server(place, "--root", f"runs={data}", HF_ENDPOINT=address)
    server.hub = address  # type: ignore[attr-defined]
    try:
        members = [{"source": f"runs:{n}", "name": n} for n in ("pythia-nano", "plain", "not-there")]
        body = {"name": "pair", "title": "Two that are there, one that is not", "runs": members}
        status, _, answer = server.ask("/v1/families/pair", method="PUT", body=body)
        assert status == 200, answer
        yield server
    finally:
        server.process.stop()
        hub.kill()
        hub.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    if CHROMIUM is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; at the end none may have written an error to the console or asked for another host.

    A test adds to ``expected`` what errors of its page may say; they come when they come, some after the test looked.
    """
    contexts = []
    said: list[str] = []
    expected: list[str] = []

    def make(address: str, *, width: int = 1400, height: int = 1000, dark: bool = False) -> Any:
        scheme = "dark" if dark else "light"
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: said.append(f"console: {m.text}") if _serious(m) else None)
        page.on("pageerror", lambda e: said.append(f"error: {str(e)[:300]}"))
        page.on("dialog", lambda d: (said.append(f"dialog: {d.message}"), d.dismiss()))
        host = address.split("/")[2]
        page.on("request", lambda r: said.append(f"elsewhere: {r.url}") if not _own(r.url, host) else None)
        page.goto(address)
        return page

    make.said = said  # type: ignore[attr-defined]
    make.expected = expected  # type: ignore[attr-defined]
    yield make
    for context in contexts:
        context.close()
    assert [s for s in said if not any(words in s for words in expected)] == []


def _serious(message: Any) -> bool:
    # A test that reads pixels back is told that it could be faster.
    return message.type in ("error", "warning") and "willReadFrequently" not in message.text


def _own(url: str, host: str) -> bool:
    return url.startswith(("data:", "blob:", "file:")) or url.split("/")[2] == host
