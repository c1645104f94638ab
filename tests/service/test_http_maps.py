"""The maps of many groups in one answer, and answers compressed as the client can read them."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from service_process import Server

import trajsvc

KINDS = {"tm": "", "rtm": "&kind=rtm&origin=STEP", "updates": "&kind=updates"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", ["layers", "parts", "attention"])
def test_every_triangle_is_the_map_of_its_group(server: Server, stored: str, of: str, kind: str) -> None:
    run = trajsvc.open(server.store, stored)
    step = int(run.steps[2])
    words = KINDS[kind].replace("STEP", str(step))
    status, _, raw = server.ask(f"/v1/runs/{stored}/maps?of={of}&steps=every:2{words}&f=npz")
    assert status == 200
    found = np.load(io.BytesIO(raw))
    assert found["maps"].dtype == np.float32
    for group, triangle in zip(found["groups"].tolist(), found["maps"], strict=True):
        query = f"group={group}&steps=every:2"
        if kind == "updates":
            want = np.array(run.measures(group, ["update_map"], steps="every:2")["measures"]["update_map"], dtype=float)
        else:
            query += f"&origin={step}" if kind == "rtm" else ""
            answer = server.ask(f"/v1/runs/{stored}/map?{query}")[2]
            want = np.array(answer["map"], dtype=float)
            assert found["steps"].tolist() == answer["steps"]
        np.testing.assert_allclose(triangle, want[np.triu_indices(len(want))].astype(np.float32), rtol=0, atol=1e-7)
    as_json = server.ask(f"/v1/runs/{stored}/maps?of={of}&steps=every:2{words}")[2]
    assert as_json["groups"] == found["groups"].tolist()
    assert np.array_equal(np.array(as_json["maps"], dtype=np.float32), found["maps"], equal_nan=True)


def test_answers_are_compressed_as_the_client_can_read_them(server: Server, stored: str) -> None:
    from numcodecs.zstd import decompress

    path = f"/v1/runs/{stored}/maps?f=npz"
    _, plain, body = server.ask(path)
    assert "content-encoding" not in plain
    decoders = {"gzip": gzip.decompress, "zstd": lambda b: bytes(decompress(b))}
    tags = {plain["etag"]}
    for name, decode in decoders.items():
        _, headers, small = server.ask(path, headers={"Accept-Encoding": f"br, {name};q=0.5"}, raw=True)
        assert headers["content-encoding"] == name
        assert "accept-encoding" in headers["vary"]
        assert decode(small) == body
        assert len(small) < len(body)
        tags.add(headers["etag"])
        assert server.ask(path, headers={"Accept-Encoding": name, "If-None-Match": headers["etag"]})[0] == 304
    assert len(tags) == 3, "other bytes have another tag"
    _, refused, _ = server.ask(path, headers={"Accept-Encoding": "gzip;q=0, identity"}, raw=True)
    assert "content-encoding" not in refused
    _, both, _ = server.ask(path, headers={"Accept-Encoding": "gzip, deflate, br, zstd"}, raw=True)
    assert both["content-encoding"] == "zstd"


def test_more_maps_than_one_answer_holds_are_refused(
    server: Server, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trajsvc.errors import UsageError
    from trajsvc.results import many_maps

    monkeypatch.setattr(many_maps, "MOST", 20)
    with pytest.raises(UsageError, match="too many for one answer") as raised:
        many_maps.many_maps(trajsvc.open(server.store, stored))
    assert raised.value.kind == "too-many-maps"
