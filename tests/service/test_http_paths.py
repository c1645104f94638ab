"""Where the server's folders lie is told by no error: a path over HTTP is ``ROOT:relative``."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from asgi_asking import LOCAL, App
from fastapi import Request
from service_process import make_run

import trajsvc
from api.places import Places
from storage_schema import errors
from storage_schema.error_kinds import KINDS
from trajsvc.errors import TrajsvcError
from trajsvc.families.file import Family, save_family
from trajsvc.jobs.failures import cause_of
from trajsvc.jobs.sources import open_job_source
from trajsvc.jobs.spec import JobSpec
from trajsvc.jobs.states import Kind
from trajsvc.settings import ServiceSettings
from trajsvc.sources.base import CheckpointSource
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.named import Naming

CANARY = "canary-7f3a91"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(CANARY)


@pytest.fixture(scope="module")
def app(folder: Path) -> App:
    (folder / "data").mkdir()
    made = App(folder, runs=folder / "data")
    made.app.add_api_route("/v1/raise/{kind}", _raise)
    return made


def _raise(request: Request, kind: str) -> None:
    """Raise an error of this kind that says a path wherever an error can say one."""
    service = request.app.state.service
    for place in (service.settings.store, service.settings.roots["runs"]):
        path = str(place.absolute() / "below" / "file")
        if request.query_params.get("how") == "plain":
            raise TrajsvcError(kind, f"{path} cannot be read", hint=f"Look at {path}.", file=path)
        if request.query_params.get("how") == "file":
            raise TrajsvcError(kind, "it cannot be read", hint="Look.", file=path)
        if request.query_params.get("how") == "system":
            raise OSError(int(kind), os.strerror(int(kind)), path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_kind_of_error_tells_where_a_folder_lies(app: App, kind: str) -> None:
    for how in ("plain", "file"):
        found = app.ask(f"/v1/raise/{kind}?how={how}")
        assert CANARY not in found.body.decode(), found.body
        assert found.kind == kind
        assert found.problem["file"] == "store:below/file"
        assert found.problem["hint"]


@pytest.mark.parametrize("number", [1, 2, 5, 13, 20, 21, 24, 28, 30, 40])
def test_no_error_of_the_system_tells_it_and_none_is_unforeseen(app: App, number: int) -> None:
    found = app.ask(f"/v1/raise/{number}?how=system")
    assert CANARY not in found.body.decode(), found.body
    assert found.kind != "internal"


def truncated(step: Path) -> None:
    path = step / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def link_out(step: Path) -> None:
    (step / "model.safetensors").unlink()
    (step / "model.safetensors").symlink_to("/etc/passwd")


def link_out_to_a_neighbour(step: Path) -> None:
    secret = step.parents[2] / "secret.safetensors"
    secret.write_bytes((step / "model.safetensors").read_bytes())
    (step / "model.safetensors").unlink()
    (step / "model.safetensors").symlink_to(secret)


def link_loop(step: Path) -> None:
    (step / "model.safetensors").unlink()
    (step / "model.safetensors").symlink_to("model.safetensors")


def broken_link(step: Path) -> None:
    (step / "model.safetensors").unlink()
    (step / "model.safetensors").symlink_to("gone.safetensors")


def pipe(step: Path) -> None:
    (step / "model.safetensors").unlink()
    os.mkfifo(step / "model.safetensors")


def content(data: bytes, name: str = "model.safetensors") -> Callable[[Path], None]:
    def write(step: Path) -> None:
        (step / "model.safetensors").unlink()
        (step / name).write_bytes(data)

    return write


def index(shard: str) -> Callable[[Path], None]:
    data = json.dumps({"weight_map": {"layers.0.weight": shard}}).encode()
    return content(data, "model.safetensors.index.json")


def same_step(step: Path) -> None:
    shutil.copytree(step, step.with_name("step010"))


def nothing(step: Path) -> None:
    shutil.rmtree(step.parent)
    step.parent.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncated, "link-out": link_out, "link-out-near": link_out_to_a_neighbour, "link-loop": link_loop,
    "broken-link": broken_link, "pipe": pipe, "empty": content(b""), "seven": content(b"1234567"),
    "html": content(b"<!DOCTYPE html><html>"), "lfs": content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "json": content(b"\x02\0\0\0\0\0\0\0[]"), "huge-header": content(b"\xff" * 64),
    "raw-pickle": content(b"\x80\x02.", "pytorch_model.bin"),
    "no-zip": content(b"PK\x03\x04 no zip", "pytorch_model.bin"), "random": content(bytes(range(256)) * 9, "pytorch_model.bin"),
    "missing-shard": index("gone.safetensors"), "shard-outside": index("../x.safetensors"), "shard-absolute": index("/etc/passwd"),
    "bad-index": content(b"[", "model.safetensors.index.json"), "lone-shard": content(b"x", "model-00001-of-00002.safetensors"),
    "gguf": content(b"GGUF", "model.gguf"), "onnx": content(b"x", "model.onnx"), "same-step": same_step, "nothing": nothing,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_an_error_about_a_source_names_its_files_by_root_and_path(app: App, folder: Path, name: str) -> None:
    place = make_run(folder / "data" / name, steps=3, tensors=1, size=256)
    DAMAGES[name](place / "step10")
    found = app.post("/v1/plan", {"source": f"runs:{name}"})
    text = found.body.decode()
    assert found.status != 500, text
    assert CANARY not in text
    assert "/etc/passwd" not in text or name == "shard-absolute"
    assert f"runs:{name}" in text
    # What a job keeps of the same error is the same.
    spec = JobSpec(kind=Kind.TRAJECTORY, run="r", source=f"runs:{name}", memory=2**26)
    error = caught(lambda: read_all(open_job_source(spec, app.service.roots, app.service.settings.store)))
    if error is not None:
        assert CANARY not in json.dumps(cause_of(error))
        assert CANARY not in str(error)


def read_all(source: CheckpointSource) -> None:
    for checkpoint in source.checkpoints():
        source.tensors(checkpoint)


def caught(call: Callable[[], object]) -> TrajsvcError | None:
    try:
        call()
    except TrajsvcError as error:
        return error
    return None


@pytest.mark.parametrize(
    "source",
    [
        "runs:good",
        "runs:good/step10",
        "runs:good/step10/model.safetensors",
        "runs:",
        "runs:.",
        "runs:alone.safetensors",
    ],
)
def test_a_named_source_reads_what_the_path_reads(app: App, folder: Path, source: str) -> None:
    if not (folder / "data" / "good").exists():
        place = make_run(folder / "data" / "good", steps=3, tensors=2, size=512)
        shutil.copy(place / "step0" / "model.safetensors", folder / "data" / "alone.safetensors")
    spec = JobSpec(kind=Kind.TRAJECTORY, run="r", source=source, memory=2**26)
    plain = LocalSource(app.service.roots.resolve(source))
    refusal = caught(lambda: open_job_source(spec, app.service.roots, app.service.settings.store))
    if refusal is not None:
        assert (other := caught(plain.checkpoints)) is not None
        assert other.kind == refusal.kind
        return
    named = open_job_source(spec, app.service.roots, app.service.settings.store)
    ours = named.checkpoints()
    theirs = plain.checkpoints()
    assert named.uri == source
    assert named.name == plain.name
    assert [(c.step, c.label) for c in ours] == [(c.step, c.label) for c in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert all(f.path.startswith("runs:") for f in one.files)
        assert named.unchanged(one)
        assert {n: (e.shape, e.dtype, e.offset) for n, e in named.tensors(one).tensors.items()} == {
            n: (e.shape, e.dtype, e.offset) for n, e in plain.tensors(other).tensors.items()
        }
        out = bytearray(16)
        named.read(one.files[0].path, 8, memoryview(out))
        assert bytes(out) == Path(other.files[0].path).read_bytes()[8:24]


def test_a_name_of_another_place_is_none() -> None:
    naming = Naming("runs:", "/data/x")
    assert naming.path("runs:a/b") == "/data/x/a/b"
    assert naming.name("/data/x/a") == "runs:a"
    assert naming.name("/data/xy/a") == "another place"
    with pytest.raises(ValueError, match="no name"):
        naming.path("/etc/passwd")
    with pytest.raises(ValueError, match="leads out"):
        naming.path("runs:../xy/a")


def test_runs_and_families_that_are_not_there_say_no_folder(app: App) -> None:
    for path in (
        "/v1/runs/none",
        "/v1/runs/none/map",
        "/v1/families/none",
        "/v1/families/none/compare",
        "/v1/runs/none/zarr/x",
    ):
        found = app.ask(path)
        assert found.status == 404
        assert CANARY not in found.body.decode()
        assert "withheld" not in found.body.decode()


def test_a_damaged_family_is_named_by_its_place_in_the_store(app: App) -> None:
    store = app.service.settings.store
    path = save_family(store, Family.model_validate({"name": "hurt", "runs": [{"name": "a", "source": "a"}]}))
    path.write_text("{")
    found = app.ask("/v1/families/hurt")
    assert (found.kind, found.problem["file"]) == ("family-damaged", "store:families/hurt.json")
    assert CANARY not in found.body.decode()


def test_a_store_that_was_deleted_under_the_server_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    made = App(tmp_path)
    assert made.ask("/v1/runs").status == 200
    shutil.rmtree(tmp_path / "store")
    for path in ("/v1/runs", "/v1/runs/x", "/v1/families"):
        found = made.ask(path)
        assert found.kind == "store-not-found"
        assert str(tmp_path) not in found.body.decode()
    assert made.ask("/live").status == 200
    assert made.ask("/ready").status == 503


def test_stored_facts_are_shown_without_paths(tmp_path: Path) -> None:
    places = Places(ServiceSettings(store=tmp_path / "s", roots={"r": tmp_path / "d"}))
    facts = {
        "file": str(tmp_path / "d/x"),
        "message": f"{tmp_path / 'd/x'} is short",
        "list": [str(tmp_path / "s/y")],
        "n": 1,
    }
    shown = places.plain(facts)
    assert shown["file"] == "r:x"
    assert str(tmp_path) not in json.dumps(shown)
    assert places.plain({"file": "/elsewhere/x"}) == {"file": "another place"}
    assert places.plain({"source": "runs:x", "message": "POST /v1/runs"}) == {
        "source": "runs:x",
        "message": "POST /v1/runs",
    }


def test_errors_of_a_store_say_their_path_apart_from_their_words() -> None:
    for each in errors.StoreError.__subclasses__():
        made = each("/a/store/file", "words", "hint")
        assert (made.message, made.file) == ("words", "/a/store/file")


def test_a_run_of_the_command_line_does_not_tell_where_it_came_from(tmp_path: Path) -> None:
    inside = make_run(tmp_path / CANARY / "data" / "a", steps=3, tensors=1, size=256)
    outside = make_run(tmp_path / CANARY / "elsewhere" / "b", steps=3, tensors=1, size=256)
    made = App(tmp_path / CANARY, runs=tmp_path / CANARY / "data")
    for name, source in (("a", inside), ("b", outside)):
        trajsvc.analyze(source, store=made.service.settings.store, name=name, threads=1)
    assert {r["run"]: r["source"] for r in json.loads(made.ask("/v1/runs").body)["items"]} == {
        "a": "runs:a",
        "b": "another place",
    }
    for name in ("a", "b"):
        for part in ("", "/summary", "/checkpoints", "/checkpoints?f=csv", "/groups", "/gram", "/blocks"):
            found = made.ask(f"/v1/runs/{name}{part}")
            assert found.status == 200, found.body
            assert CANARY not in found.body.decode(), part
        keys = made.service.runs.open(name).stored.entries
        assert {"zarr.json", "checkpoint/files/c/0"} < keys.keys()
        for key in keys:
            found = made.ask(f"/v1/runs/{name}/zarr/{key}")
            assert found.status == 200, found.body
            assert CANARY.encode() not in found.body, key
            assert found.headers["content-length"] == str(len(found.body))
            part = made.ask(f"/v1/runs/{name}/zarr/{key}", headers=[*LOCAL, (b"range", b"bytes=2-5")])
            assert (part.status, part.body) == (206, found.body[2:6])
    told = json.loads(made.ask("/v1/runs/a/zarr/zarr.json").body)["attributes"]
    assert told["source"] == "runs:a"
    assert b'"path": "runs:a/' in made.ask("/v1/runs/a/zarr/checkpoint/files/c/0").body


def test_an_export_that_has_no_room_does_not_tell_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_run(tmp_path / "data", steps=3, tensors=1, size=256)
    made = App(tmp_path)
    trajsvc.analyze(source, store=made.service.settings.store, name="a", threads=1)
    for number, folder in ((errno.ENOSPC, CANARY), (errno.ENOENT, f"{CANARY}/gone")):

        def refuse(*_: object, **__: object) -> str:
            raise OSError(number, os.strerror(number), str(tmp_path / folder))  # noqa: B023

        for place in ("tempfile.mkdtemp", "pathlib.Path.mkdir"):
            with monkeypatch.context() as there:
                there.setattr(place, refuse)
                found = made.ask("/v1/runs/a/export?f=csv")
            assert (found.status, found.kind) == (503, "disk-full")
            assert CANARY not in found.body.decode()
            assert "temporary folder" in found.problem["hint"]
