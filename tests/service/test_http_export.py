"""Everything of a run as an archive over HTTP: the tables that the store itself gives, without the server's folders."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pandas
import pytest
from service_process import Server

import trajsvc


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_an_archive_has_the_tables_of_the_run(server: Server, stored: str, form: str, tmp_path: Path) -> None:
    status, headers, body = server.ask(f"/v1/runs/{stored}/export?f={form}&groups=network&groups=layer/*", raw=True)
    assert status == 200
    assert headers["content-type"] == "application/zip"
    assert f"{stored}-{form}.zip" in headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    local = trajsvc.open(server.store, stored)
    expected = local.export(tmp_path / "local", form, groups=["network", "layer/*"])
    found = json.loads((tmp_path / stored / "manifest.json").read_text("utf-8"))
    assert [table["name"] for table in found["tables"]] == [table["name"] for table in expected["tables"]]
    assert found["steps"] == local.steps.tolist()
    assert str(server.store) not in json.dumps(found)
    if form == "csv":
        for name in ("measures", "curves", "maps", "layers"):
            there, here = (pandas.read_csv(tmp_path / place / f"{name}.csv") for place in (stored, "local"))
            pandas.testing.assert_frame_equal(there, here)
        assert "/" + str(server.store).strip("/") not in (tmp_path / stored / "checkpoints.csv").read_text("utf-8")
    again, _, _ = server.ask(
        f"/v1/runs/{stored}/export?f={form}&groups=network&groups=layer/*",
        headers={"if-none-match": headers["etag"]},
        raw=True,
    )
    assert again == 304


def test_what_is_wrong_is_a_problem(server: Server, stored: str) -> None:
    for address, code, kind in (
        (f"{stored}/export?f=xlsx", 406, "not-acceptable"),
        (f"{stored}/export?groups=layer/99", 404, "group-not-found"),
        ("nothing/export", 404, "run-not-found"),
    ):
        status, _, problem = server.ask(f"/v1/runs/{address}")
        assert (status, problem["type"].rsplit("/", 1)[-1].rsplit(":", 1)[-1]) == (code, kind), problem


@pytest.mark.slow
def test_a_run_on_a_server_is_exported_here(server: Server, stored: str, tmp_path: Path) -> None:
    remote = trajsvc.open(server.address, stored)
    remote.export(tmp_path / "remote", groups=["network", "layer/1"])
    trajsvc.open(server.store, stored).export(tmp_path / "local", groups=["network", "layer/1"])
    for name in ("measures", "curves", "maps", "layers", "qkv"):
        assert (tmp_path / "remote" / f"{name}.csv").read_text() == (tmp_path / "local" / f"{name}.csv").read_text()
