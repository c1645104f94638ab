"""The files of the page: how they are served, and that nothing in them needs a build, a network, or a looser policy."""

from __future__ import annotations

import graphlib
import hashlib
import re
from pathlib import Path

import pytest
from service_process import Server

WEB = Path(__file__).resolve().parents[2] / "api" / "web"
OURS = sorted(p for p in WEB.rglob("*.js") if "vendor" not in p.parts)
ROOMS = ["vendor", "base", "math", "data", "plots", "widgets", "views", ""]
"""the rooms of the page in their order, the lowest first; the last is the file that starts it, ``main.js``"""


def imports_of(path: Path) -> list[Path]:
    """The files that a module imports, at once or when they are needed."""
    text = path.read_text()
    static = re.findall(r"""^(?:import|export) (?:[^"']*? from )?["']([^"']+)["']""", text, re.MULTILINE)
    names = static + re.findall(r"""import\(["']([^"']+)["']\)""", text)
    assert all(name.startswith(".") for name in names), names
    return [(path.parent / name).resolve() for name in names]


def room_of(path: Path) -> str:
    """The folder of the page that a file lies in, "" for the page's own."""
    parts = path.relative_to(WEB).parts
    return parts[0] if len(parts) > 1 else ""


class TestServing:
    def test_the_page_is_at_the_root(self, site: Server) -> None:
        status, headers, body = site.ask("/", raw=True)
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["cache-control"] == "no-cache"
        policy = "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"
        assert headers["content-security-policy"] == policy
        assert body == (WEB / "index.html").read_bytes()

    @pytest.mark.parametrize("path", [p.relative_to(WEB).as_posix() for p in sorted(WEB.rglob("*")) if p.is_file()])
    def test_every_file_is_served_as_what_it_is(self, site: Server, path: str) -> None:
        status, headers, body = site.ask(f"/web/{path}", raw=True)
        assert status == 200
        assert body == (WEB / path).read_bytes()
        kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
        assert headers["content-type"].startswith(kinds.get(Path(path).suffix, "text/plain"))

    def test_what_is_known_is_not_sent_again(self, site: Server) -> None:
        _, headers, _ = site.ask("/web/main.js", raw=True)
        status, again, body = site.ask("/web/main.js", headers={"if-none-match": headers["etag"]}, raw=True)
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])

    @pytest.mark.parametrize(
        "path", ["none.js", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "views", "", "a%00b", "views/"]
    )
    def test_there_is_nothing_else(self, site: Server, path: str) -> None:
        status, headers, body = site.ask(f"/web/{path}")
        assert status == 404
        assert headers["content-type"] == "application/problem+json"
        assert body["type"] == "urn:trajsvc:problem:file-not-found"

    def test_the_page_is_not_part_of_the_api(self, site: Server) -> None:
        _, _, openapi = site.ask("/openapi.json")
        assert not [p for p in openapi["paths"] if p == "/" or p.startswith("/web")]


class TestSources:
    def test_the_page_has_no_inline_script_or_style(self) -> None:
        text = (WEB / "index.html").read_text()
        assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
        assert "<style" not in text
        assert re.findall(r"\s(?:style|on\w+)=", text) == []

    @pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
    def test_text_never_becomes_markup_or_code(self, path: Path) -> None:
        text = path.read_text()
        unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(\"style\""
        assert re.findall(unsafe, text) == []

    @pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
    def test_nothing_is_asked_of_another_host(self, path: Path) -> None:
        addresses = set(re.findall(r"https?://[^\s\"'`]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}

    @pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
    def test_imports_name_files_that_are_there(self, path: Path) -> None:
        assert [found for found in imports_of(path) if not found.is_file()] == []

    @pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
    def test_a_module_imports_its_own_room_and_lower_ones(self, path: Path) -> None:
        lower = ROOMS[: ROOMS.index(room_of(path)) + 1]
        assert [found.name for found in imports_of(path) if room_of(found) not in lower] == []

    def test_no_modules_import_each_other_in_a_circle(self) -> None:
        order = graphlib.TopologicalSorter({path: imports_of(path) for path in OURS})
        assert set(order.static_order()) >= set(OURS)

    def test_vendored_files_are_what_the_list_says(self) -> None:
        listed = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (WEB / "vendor" / "README.md").read_text()))
        files = {p.relative_to(WEB / "vendor").as_posix(): p for p in (WEB / "vendor").rglob("*") if p.is_file()}
        files.pop("README.md")
        assert listed == {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in files.items()}
        assert "LICENSE" in {Path(name).name for name in listed}
