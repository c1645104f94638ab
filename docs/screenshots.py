"""Make the pictures of the page under ``docs/screens``: ``python docs/screenshots.py``, with Chromium and the extra ``dev``.

A server shows the run under ``examples`` and an estimate of it from a tenth of its parameters.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "pythia-nano"
PATIENCE = 120.0
QUIET = """() => new Promise((done) => {
  let timer = setTimeout(done, 500);
  new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(done, 500); })
    .observe(document, { subtree: true, childList: true, attributes: true });
})"""


def trajsvc(*words: str) -> list[str]:
    return [sys.executable, "-m", "trajsvc", *words]


def wait_for(address: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"{address}/live").close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def taken(browser: Any, place: str, name: str, height: int, cell: tuple[float, float] | None = None) -> None:
    """Take ``name``.png of a place of the page once it is still, with the pointer at a ``cell`` of the map, in shares of it."""
    page = browser.new_page(viewport={"width": 1440, "height": height})
    page.goto(place)
    page.wait_for_selector("[data-ready], .tile, h1")
    page.evaluate(QUIET)
    if cell is not None:
        box = page.locator("canvas.map").first.bounding_box()
        page.mouse.move(box["x"] + cell[0] * box["width"], box["y"] + cell[1] * box["height"])
        page.evaluate(QUIET)
    page.screenshot(path=HERE / "screens" / f"{name}.png")
    page.close()


def main() -> None:
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        for more in (["--name", "pythia-nano"], ["--name", "pythia-nano-preview", "--preview", "10%"]):
            subprocess.run(trajsvc("analyze", str(EXAMPLE), "--store", store, "--no-figures", "-q", *more), check=True)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        server = subprocess.Popen(trajsvc("api", "--store", store, "--port", str(port)))
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium)
                taken(browser, f"{address}/#/run/pythia-nano", "run", 900, (0.7, 0.35))
                taken(browser, f"{address}/#/run/pythia-nano-preview", "estimate", 700, (0.7, 0.35))
                taken(browser, f"{address}/#/run/pythia-nano/layers", "layers", 900)
                browser.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
