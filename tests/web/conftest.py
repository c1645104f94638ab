"""A real server with real runs for the page's tests, and a browser that notices every error on the page."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from page_runs import make_deep_run, make_gradients, make_logged_run, make_moving_run, make_patchy_run, make_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "service"))

from service_process import EXAMPLES, Server, make_run, start_hub, start_server

import trajsvc

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
RUNS = ("pythia-nano", "plain", "deep", "logged", "logged-faster", "patchy")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.hookimpl(tryfirst=True)  # before those that are not wanted are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that needs a browser as slow: a server with runs, the browser and its pages are a third of a suite's time."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


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
    make_result(place / "store", "plain")
    hub, address = start_hub(place / "hub", place / "hub.log")
    known = ("--probe", "nano=causal-lm", "--data", f"text={EXAMPLES / 'genesis.txt'}")
    server = start_server(place, "--workers", "1", "--root", f"runs={data}", *known, HF_ENDPOINT=address)
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


class Pages:
    """Pages that tests use one after the other, by what they look like: a page that is opened again costs half of a new one.

    Between two tests a page keeps nothing but the browser's cache: no place, no storage, no routes, no mouse over it.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._free: dict[tuple[int, int, str], list[Any]] = {}
        self._told: dict[Any, Callable[[str, str], None]] = {}
        self._shapes: dict[Any, tuple[int, int, str]] = {}

    def take(self, width: int, height: int, scheme: str, told: Callable[[str, str], None]) -> Any:
        """A page that says ``told(what, text)`` of whatever is worth noticing until it is given back."""
        free = self._free.setdefault((width, height, scheme), [])
        page = free.pop() if free else self._make(width, height, scheme)
        self._told[page] = told
        return page

    def _make(self, width: int, height: int, scheme: str) -> Any:
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        context.set_default_timeout(120_000)
        page = context.new_page()
        tell = partial(self._tell, page)
        page.on("console", lambda m: tell("console", m.text) if _serious(m) else None)
        page.on("pageerror", lambda e: tell("error", str(e)[:300]))
        page.on("dialog", lambda d: (tell("dialog", d.message), d.dismiss()))
        page.on("request", lambda r: tell("request", r.url))
        self._shapes[page] = (width, height, scheme)
        return page

    def _tell(self, page: Any, what: str, text: str) -> None:
        if told := self._told.get(page):
            told(what, text)

    def give_back(self, page: Any) -> None:
        page.mouse.move(0, 0)
        page.unroute_all(behavior="ignoreErrors")
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        page.goto("about:blank")
        del self._told[page]
        for other in page.context.pages:
            if other is not page:
                other.close()
        self._free[self._shapes[page]].append(page)

    def discard(self, page: Any) -> None:
        """Close a page of which nobody knows in which state a failed test left it."""
        del self._told[page]
        page.context.close()


@pytest.fixture(scope="session")
def pages(browser: Any) -> Pages:
    return Pages(browser)


@pytest.fixture
def open_page(pages: Pages, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens pages; at the end none may have written an error to the console or asked for another host.

    A test adds to ``expected`` what errors of its page may say; they come when they come, some after the test looked.
    """
    taken: list[Any] = []
    said: list[str] = []
    expected: list[str] = []

    def make(address: str, *, width: int = 1400, height: int = 1000, dark: bool = False) -> Any:
        host = address.split("/")[2]

        def told(what: str, text: str) -> None:
            if what != "request":
                said.append(f"{what}: {text}")
            elif not _own(text, host):
                said.append(f"elsewhere: {text}")

        page = pages.take(width, height, "dark" if dark else "light", told)
        taken.append(page)
        page.goto(address)
        return page

    make.said = said  # type: ignore[attr-defined]
    make.expected = expected  # type: ignore[attr-defined]
    failed = request.session.testsfailed
    yield make
    for page in taken:
        if request.session.testsfailed > failed:
            pages.discard(page)
        else:
            pages.give_back(page)
    assert [s for s in said if not any(words in s for words in expected)] == []


def _serious(message: Any) -> bool:
    # A test that reads pixels back is told that it could be faster.
    return message.type in ("error", "warning") and "willReadFrequently" not in message.text


def _own(url: str, host: str) -> bool:
    return url.startswith(("data:", "blob:", "file:")) or url.split("/")[2] == host
