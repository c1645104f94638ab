"""What the server says of a run is what the run says itself, in every format, with ETags; and xarray opens it from afar."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import xarray
from service_process import Server

import trajsvc
from storage_schema.models.rows import RowsOf
from storage_schema.runs.store import RunStore
from trajsvc.results.run import Run

RESULTS = (
    "",
    "/summary",
    "/checkpoints",
    "/groups",
    "/map",
    "/measures",
    "/layers",
    "/qkv",
    "/phases",
    "/blocks",
    "/gram",
    "/rows",
)


@pytest.fixture(scope="module")
def local(server: Server, stored: str) -> Run:
    return trajsvc.open(server.store, stored)


@pytest.fixture(scope="module")
def remote(server: Server, stored: str) -> Iterator[Run]:
    from trajsvc.results.remote_run import RemoteRun

    run = trajsvc.open(server.address, stored)
    assert isinstance(run, RemoteRun)
    yield run
    run.client.close()


@pytest.mark.parametrize("group", ["network", "layer/1", "layer/2/attention.k", "component/attention.q"])
def test_measures_over_http_are_the_runs_own(server: Server, stored: str, local: Run, group: str) -> None:
    status, _, found = server.ask(f"/v1/runs/{stored}/measures?group={group}&steps=every:2")
    assert status == 200
    assert found == local.measures(group, steps="every:2")


def test_maps_are_the_same_in_every_format(server: Server, stored: str, local: Run) -> None:
    path = f"/v1/runs/{stored}/map?group=layer/0&origin=0"
    want = local.trajectory_map("layer/0", origin=0).values
    _, _, found = server.ask(path)
    assert np.array_equal(np.array(found["map"], dtype=float), want, equal_nan=True)
    _, headers, raw = server.ask(f"{path}&f=npy")
    assert headers["content-type"] == "application/x-npy"
    assert np.array_equal(np.load(io.BytesIO(raw)), want, equal_nan=True)
    _, _, text = server.ask(path, headers={"Accept": "text/csv"})
    rows = [line.split(",") for line in text.decode().splitlines()]
    assert [int(s) for s in rows[0][1:]] == found["steps"]
    assert np.array_equal(np.array([[float(v or "nan") for v in r[1:]] for r in rows[1:]]), want, equal_nan=True)
    _, headers, png = server.ask(f"{path}&f=png")
    assert headers["content-type"] == "image/png"
    width, height = struct.unpack(">II", png[16:24])
    assert width > 300
    assert height > 300
    _, headers, svg = server.ask(f"{path}&f=svg")
    assert headers["content-type"].startswith("image/svg+xml")
    assert b"<svg" in svg


@pytest.mark.parametrize("of", ["update", "angle"])
def test_rows_are_the_same_in_every_format(server: Server, stored: str, local: Run, remote: Run, of: RowsOf) -> None:
    group = "layer/1/attention.k"
    path = f"/v1/runs/{stored}/rows?group={group}&of={of}"
    want = local.rows(group, of)
    assert np.array_equal(remote.rows(group, of), want, equal_nan=True)
    order = np.argsort(-np.nansum(want.values**2, axis=1), kind="stable")[:20]
    _, _, found = server.ask(path)
    assert [row["row"] for row in found["rows"]] == want.index.values[order].tolist()
    assert np.array_equal(np.array([row["values"] for row in found["rows"]]), want.values[order])
    _, _, text = server.ask(f"{path}&f=csv")
    assert text.decode().splitlines()[1].split(",")[1] == str(order[0])
    _, _, raw = server.ask(f"{path}&f=npz")
    arrays = np.load(io.BytesIO(raw))
    assert np.array_equal(arrays["values"], want.values)
    assert arrays["tensors"].tolist() == want.tensor.values.tolist()
    _, _, binned = server.ask(f"{path}&bins=4")
    assert sum(row["count"] for row in binned["rows"]) == binned["total"] == len(want)
    _, _, png = server.ask(f"{path}&f=png")
    assert png[1:4] == b"PNG"


def test_measures_of_rows_of_a_server_are_the_runs_own(local: Run, remote: Run) -> None:
    for name in ("row_top_share", "row_overlap", "row_angle"):
        here, there = local.measure(name, "layer/1", "every:2"), remote.measure(name, "layer/1", "every:2")
        assert np.array_equal(here, there, equal_nan=True)
        assert np.isfinite(local.measure(name, "layer/1")).all()


@pytest.mark.parametrize("part", RESULTS)
def test_results_carry_strong_etags(server: Server, stored: str, part: str) -> None:
    status, headers, _ = server.ask(f"/v1/runs/{stored}{part}")
    assert status == 200
    tag = headers["etag"]
    assert tag.startswith('"')
    status, again, body = server.ask(f"/v1/runs/{stored}{part}", headers={"If-None-Match": tag})
    assert (status, body) == (304, b"")
    assert again["etag"] == tag
    other = server.ask(f"/v1/runs/{stored}{part}?steps=every:2")[1]["etag"] if part in ("/map", "/measures") else ""
    assert other != tag


def test_a_format_that_is_not_there_is_refused_with_what_is(server: Server, stored: str) -> None:
    for path, headers in (
        (f"/v1/runs/{stored}/map?f=pdf", {}),
        (f"/v1/runs/{stored}/qkv", {"Accept": "application/x-npy"}),
    ):
        status, found, problem = server.ask(path, headers=headers)
        assert status == 406
        assert found["content-type"] == "application/problem+json"
        assert "json" in problem["hint"]


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/v1/runs/nothing", 404, "run-not-found"),
        ("/v1/runs/{run}/map?group=layer/99", 404, "group-not-found"),
        ("/v1/runs/{run}/map?origin=3", 404, "step-not-found"),
        ("/v1/runs/{run}/map?steps=often", 422, "bad-steps"),
        ("/v1/runs/{run}/measures?names=beauty", 404, "measure-not-found"),
        ("/v1/runs/{run}/map?origin=first", 422, "bad-request"),
        ("/v1/runs/..%2F..%2Fetc", 404, "no-such-address"),
        ("/v1/runs/.hidden", 404, "run-not-found"),
        ("/v1/families/none/compare", 404, "family-not-found"),
        ("/v1/jobs/0", 404, "job-not-found"),
        ("/nowhere", 404, "no-such-address"),
    ],
)
def test_every_error_is_a_problem_that_says_what_to_do(
    server: Server, stored: str, path: str, status: int, kind: str
) -> None:
    got, headers, problem = server.ask(path.format(run=stored))
    assert got == status
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:trajsvc:problem:{kind}"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["request_id"] == headers["x-request-id"]


def test_a_run_on_a_server_answers_as_the_stored_one(remote: Run, local: Run) -> None:
    for group in ("network", "layer/1", "component/attention.v"):
        xarray.testing.assert_identical(remote.trajectory_map(group, origin=0), local.trajectory_map(group, origin=0))
        xarray.testing.assert_identical(
            remote.update_angle(group, steps="every:2"), local.update_angle(group, steps="every:2")
        )
    xarray.testing.assert_identical(remote.layers(), local.layers())
    xarray.testing.assert_identical(remote.qkv(), local.qkv())
    assert remote.mds() == local.mds()
    assert remote.steps.tolist() == local.steps.tolist()
    assert remote.findings == local.findings
    with pytest.raises(trajsvc.NotFound, match="layer/99"):
        remote.mds("layer/99")


def test_a_run_on_a_server_shows_and_draws_itself_as_the_stored_one(remote: Run, local: Run) -> None:
    from matplotlib.figure import Figure

    assert f"MDS {local.mds():.4g}" in remote._repr_html_()
    drawn = []
    for run in (remote, local):
        places = Figure().subplots(1, 4)
        run.plot.map("layer/1", places[0], origin=0)
        run.plot.curves("update_norm", places[1])
        run.plot.layers("mds", places[2])
        run.plot.qkv("rms", places[3])
        lines = [line.get_ydata().tolist() for axes in places for line in axes.get_lines()]
        drawn.append((places[0].images[0].get_array().tolist(), lines))
    assert drawn[0] == drawn[1]


def test_a_run_that_is_not_on_the_server_is_named(server: Server, stored: str) -> None:
    with pytest.raises(trajsvc.NotFound) as caught:
        trajsvc.open(server.address, "nothing")
    assert min(RunStore(server.store).names()) in str(caught.value)


def test_a_server_that_is_not_there_is_said_plainly() -> None:
    with pytest.raises(trajsvc.TryAgain) as caught:
        trajsvc.open("http://127.0.0.1:9", "run")
    assert caught.value.kind == "server-unreachable"


def test_xarray_opens_the_zarr_over_http(server: Server, stored: str, local: Run) -> None:
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    place = HTTPStore.from_url(f"{server.address}/v1/runs/{stored}/zarr", client_options={"allow_http": True})
    with xarray.open_zarr(ObjectStore(place, read_only=True)) as found:
        assert np.array_equal(found["gram"].values, local.stored.block_grams())
        assert found.attrs["architecture"] == "gpt-neox"


def test_files_of_the_zarr_come_in_ranges_and_nothing_else_comes(server: Server, stored: str, local: Run) -> None:
    key = next(k for k in local.stored.entries if k.startswith("gram/c/"))
    path = f"/v1/runs/{stored}/zarr/{key}"
    size = local.stored.entries[key].size
    _, headers, whole = server.ask(path)
    assert len(whole) == size == int(headers["content-length"])
    status, headers, part = server.ask(path, headers={"Range": "bytes=8-23"})
    assert (status, part) == (206, whole[8:24])
    assert headers["content-range"] == f"bytes 8-23/{size}"
    assert server.ask(path, headers={"Range": "bytes=-16"})[2] == whole[-16:]
    assert server.ask(path, headers={"Range": f"bytes={size}-"})[0] == 416
    assert server.ask(path, headers={"If-None-Match": headers["etag"]})[0] == 304
    status, headers, body = server.ask(path, method="HEAD")
    assert (status, body, int(headers["content-length"])) == (200, b"", size)
    for wrong in ("manifest.json", "../../../jobs.db", "..%2f..%2fjobs.db", "gram/c/999/0/0", ""):
        assert server.ask(f"/v1/runs/{stored}/zarr/{wrong}")[0] == 404


def test_families_are_kept_and_compared(server: Server, stored: str) -> None:
    family = {
        "name": "small",
        "tags": ["experiment:h1"],
        "runs": [{"name": stored, "source": "runs:pythia-nano", "seed": 1}, {"name": "gone", "source": "x"}],
    }
    assert server.ask("/v1/families/small", method="PUT", body=family)[0] == 200
    assert server.ask("/v1/families/other", method="PUT", body=family)[0] == 422
    _, _, known = server.ask("/v1/families")
    assert [(f["family"], f["present"], f["missing"]) for f in known] == [("small", 1, ["gone"])]
    assert known[0]["tags"] == server.ask("/v1/families/small")[2]["tags"] == ["experiment:h1"]
    _, _, found = server.ask("/v1/families/small/compare")
    rows = {r["member"]: r for r in found["rows"]}
    assert rows["gone"]["state"] == "missing"
    assert rows[stored]["mds"] == server.ask(f"/v1/runs/{stored}/measures?names=mds")[2]["measures"]["mds"]


def test_runs_beside_each_other(server: Server, stored: str) -> None:
    _, _, found = server.ask(f"/v1/compare?run={stored}&run={stored}&group=layer/0")
    assert len(found["rows"]) == 2
    assert server.ask(f"/v1/compare?run={stored}&by_layer=true&f=csv")[2].count(b"\n") > 3


def test_health_and_numbers(server: Server, stored: str) -> None:
    assert server.ask("/live")[2]["status"] == "ok"
    status, _, ready = server.ask("/ready")
    assert (status, ready["checks"]) == (200, {"store": "ok", "database": "ok", "disk": "ok"})
    _, headers, text = server.ask("/metrics")
    assert headers["content-type"].startswith("text/plain")
    numbers = text.decode()
    assert 'trajsvc_jobs{state="succeeded"} ' in numbers
    assert 'trajsvc_requests_total{method="GET",route="/v1/runs/{run}/measures",status="200"}' in numbers


def test_the_registry_describes_every_measure(server: Server) -> None:
    from trajsvc.measures.registry import MEASURES

    _, _, found = server.ask("/v1/measures")
    assert {m["name"] for m in found} == set(MEASURES)
    assert all(m["definition"] and m["source"] for m in found)
