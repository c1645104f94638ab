"""Data roots: what lies below them is named, nothing beside them is reached."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from trajsvc.errors import NotFound, Refused, TrajsvcError, UsageError
from trajsvc.jobs.data_roots import Roots


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a run, a file, links, a FIFO and a socket; beside it something that nobody may read."""
    root = tmp_path / "root"
    (root / "run" / "step0").mkdir(parents=True)
    (root / "run" / "step0" / "model.safetensors").write_bytes(b"x")
    (root / "file.bin").write_bytes(b"x")
    (root / "a b ü").mkdir()
    (root / "..hidden").mkdir()
    outside = tmp_path / "outside"
    (outside / "run").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "inner").symlink_to(root / "run")
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "run" / "up").symlink_to("..")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture
def roots(folder: Path) -> Roots:
    return Roots({"runs": folder})


@pytest.mark.parametrize("path", ["run", "run/step0", "run/step0/model.safetensors", "file.bin", "a b ü", "..hidden"])
def test_folders_and_files_below_a_root_are_found(roots: Roots, folder: Path, path: str) -> None:
    assert roots.resolve(f"runs:{path}") == folder.resolve() / path


@pytest.mark.parametrize("path", ["", "."])
def test_the_root_itself_may_be_named(roots: Roots, folder: Path, path: str) -> None:
    assert roots.resolve(f"runs:{path}") == folder.resolve()


def test_a_root_may_be_reached_by_a_link_of_its_owner(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "chosen").symlink_to(folder)
    assert Roots({"runs": tmp_path / "chosen"}).resolve("runs:run") == folder.resolve() / "run"


@pytest.mark.parametrize(
    "path",
    [
        "..", "../outside", "run/..", "run/../../outside", "./run", "run/.", "run//step0", "/etc", "/", "run/", "//",
        "run\0", "run/\0/x", "*", "ru?", "run/[s]tep0", "x" * 5000, "../" * 2000,
    ],
)  # fmt: skip
def test_a_path_with_a_way_out_a_pattern_or_a_nul_is_a_usage_error(roots: Roots, path: str) -> None:
    with pytest.raises(UsageError) as caught:
        roots.resolve(f"runs:{path}")
    assert caught.value.kind in ("bad-path", "bad-source")


@pytest.mark.parametrize("path", ["link", "link/run", "inner", "inner/step0", "dangling", "run/up", "run/up/run"])
def test_a_link_is_refused_wherever_it_leads(roots: Roots, path: str) -> None:
    with pytest.raises(Refused, match="is a link") as caught:
        roots.resolve(f"runs:{path}")
    assert caught.value.kind == "unsafe-path"


def test_a_fifo_or_a_socket_is_refused_and_not_waited_for(
    roots: Roots, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for path in ("fifo", "socket"):
            with pytest.raises(Refused, match="neither a folder nor a file") as caught:
                roots.resolve(f"runs:{path}")
            assert caught.value.kind == "unsafe-path"
    for path in ("fifo/x", "socket/x"):
        with pytest.raises((Refused, NotFound)):
            roots.resolve(f"runs:{path}")


@pytest.mark.parametrize("path", ["nowhere", "run/step1", "file.bin/x", "run/step0/model.safetensors/x/y"])
def test_what_is_not_there_is_not_found(roots: Roots, path: str) -> None:
    with pytest.raises(NotFound) as caught:
        roots.resolve(f"runs:{path}")
    assert caught.value.kind == "source-not-found"
    assert path in caught.value.message


@pytest.mark.parametrize("path", ["x" * 300, "run/" + "y" * 256, "/".join(["d"] * 1500), "\ud800"])
def test_a_name_that_no_file_can_have_is_an_error_of_ours(roots: Roots, path: str) -> None:
    with pytest.raises(TrajsvcError):
        roots.resolve(f"runs:{path}")


def test_a_root_that_is_not_there_is_named_with_those_that_are(roots: Roots) -> None:
    with pytest.raises(NotFound, match="'other'") as caught:
        roots.resolve("other:run")
    assert caught.value.kind == "root-not-found"
    assert "runs" in caught.value.hint


@pytest.mark.parametrize("source", ["", "run", "/etc/passwd", "file:///etc/passwd", "http://host/x", ":run", "a/b:c"])
def test_what_names_no_root_is_a_usage_error(roots: Roots, source: str) -> None:
    with pytest.raises(UsageError) as caught:
        roots.resolve(source)
    assert caught.value.kind == "bad-source"


def test_without_roots_no_folder_is_read() -> None:
    none = Roots({})
    assert not none
    with pytest.raises(Refused) as caught:
        none.resolve("runs:run")
    assert caught.value.kind == "no-data-roots"


def test_roots_are_checked_when_they_are_given(folder: Path, tmp_path: Path) -> None:
    assert Roots({"a-1_b": folder})
    for name in ("", "A", "a/b", "a:b", "-a", "x" * 33, "ü", ".."):
        with pytest.raises(UsageError) as wrong:
            Roots({name: folder})
        assert wrong.value.kind == "bad-root"
    for missing in (tmp_path / "nowhere", folder / "file.bin"):
        with pytest.raises(NotFound) as caught:
            Roots({"runs": missing})
        assert caught.value.kind == "root-missing"


def test_a_folder_exchanged_for_a_link_while_it_is_walked_is_not_followed(
    roots: Roots, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def stat(path: object, **how: object) -> os.stat_result:
        found = real(path, **how)  # type: ignore[call-overload]
        if path == "run":
            (folder / "run").rename(folder / "moved")
            (folder / "run").symlink_to(tmp_path / "outside")
        return found  # type: ignore[no-any-return]

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises((Refused, NotFound)):
        roots.resolve("runs:run/run")
