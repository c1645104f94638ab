"""``-o`` of every command at places of every kind: the earlier file is intact, and nothing is left beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from in_process import trajsvc
from made_gradients import make_gradients, store_gradients
from made_runs import commit, nano
from test_not_regular import bounded, make_run
from test_outputs import largest_file

FILES: Final = {
    "measures": (["measures", "run"], ".json"),
    "map": (["map", "run"], ".png"),
    "map arrays": (["map", "run"], ".npz"),
    "compare": (["compare", "run", "other"], ".csv"),
    "rows": (["rows", "run"], ".npz"),
    "cross": (["cross", "run", "other"], ".npz"),
    "spectra": (["spectra", "layers", "run"], ".csv"),
    "gradients": (["gradients", "measures", "nano", "--set", "example"], ".csv"),
    "average": (["average", "run"], ".csv"),
    "report": (["report", "run"], ".html"),
    "audit": (["audit", "run"], ".json"),
}
FOLDERS: Final = {"export": ["export", "run"], "average": ["average", "run", "--last", "2"]}
EARLIER: Final = b"what was there before"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all that these commands show."""
    folder = tmp_path_factory.mktemp("places")
    for name in ("run", "other"):
        make_run(folder / name)
        assert trajsvc("analyze", name, "--store", "s", "--no-figures", "-q", cwd=folder).returncode == 0
    made = nano()
    commit(folder / "s", made)
    store_gradients(folder / "s", make_gradients(made), "example")
    for words in (["spectra", "compute", "run"], ["cross", "run", "other"]):
        assert trajsvc(*words, "--store", "s", "-q", cwd=folder).returncode == 0
    return folder


def write(place: Path, words: list[str], target: Path) -> tuple[int, str]:
    with bounded():
        done = trajsvc(*words, "-q", *([] if words[0] == "audit" else ["--store", "s"]), "-o", str(target), cwd=place)
    assert "Traceback" not in done.stderr
    assert ".partial" not in done.stderr
    return done.returncode, done.stderr


def a_folder(target: Path) -> None:
    target.mkdir()


def in_no_folder(target: Path) -> None:
    """The folder that it would lie in does not exist."""


def a_loop(target: Path) -> None:
    target.symlink_to(target.name)


def a_link_into_nothing(target: Path) -> None:
    target.symlink_to("none/at/all")


def a_pipe(target: Path) -> None:
    os.mkfifo(target)


def a_full_device(target: Path) -> None:
    target.symlink_to("/dev/full")


REFUSED: Final = (a_folder, in_no_folder, a_loop, a_link_into_nothing, a_pipe, a_full_device)


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("make", REFUSED)
def test_a_place_that_cannot_be_written_is_named_and_stays(
    command: str, make: Callable[[Path], None], place: Path, tmp_path: Path
) -> None:
    words, suffix = FILES[command]
    target = tmp_path / ("no/x" if make is in_no_folder else "x")
    target = target.with_name(target.name + suffix)
    make(target)
    before = [(p, p.lstat().st_ino) for p in tmp_path.iterdir()]
    code, said = write(place, words, target)
    assert code == 1, said
    assert said.startswith(f"error: cannot write {target}: "), said
    assert [(p, p.lstat().st_ino) for p in tmp_path.iterdir()] == before


@pytest.mark.parametrize("command", FILES)
def test_a_link_stays_and_what_it_leads_to_is_replaced(command: str, place: Path, tmp_path: Path) -> None:
    """A result replaced the link, and the file that it led to was as before."""
    words, suffix = FILES[command]
    there, target, chain = tmp_path / "there" / "kept", tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
    there.parent.mkdir()
    there.write_bytes(EARLIER)
    there.chmod(0o640)
    target.symlink_to("there/kept")
    chain.symlink_to(target.name)
    for link in (target, chain):
        there.write_bytes(EARLIER)
        assert write(place, words, link) == (0, "")
        assert there.read_bytes() not in (b"", EARLIER)
    assert (target.readlink(), chain.readlink()) == (Path("there/kept"), Path(target.name))
    assert stat.S_IMODE(there.stat().st_mode) == 0o640
    there.unlink()
    assert write(place, words, target) == (0, "")
    assert target.is_symlink()
    assert there.stat().st_size
    assert [p.name for p in there.parent.iterdir()] == ["kept"]


@pytest.mark.parametrize("command", FILES)
def test_a_full_disk_leaves_the_earlier_file_behind_a_link(command: str, place: Path, tmp_path: Path) -> None:
    words, suffix = FILES[command]
    target = tmp_path / f"x{suffix}"
    (tmp_path / "kept").write_bytes(EARLIER)
    target.symlink_to("kept")
    with largest_file(10):
        code, said = write(place, words, target)
    assert code == 75, said
    assert said.startswith(f"error: cannot write {target}: "), said
    assert (tmp_path / "kept").read_bytes() == EARLIER
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["kept", target.name])


@pytest.mark.parametrize("command", FILES)
def test_an_unknown_suffix_is_refused_before_anything_is_computed(command: str, place: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.unknown"
    target.write_bytes(EARLIER)
    code, said = write(place, FILES[command][0], target)
    assert code == 2, said
    assert target.read_bytes() == EARLIER


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_is_not_replaced(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_bytes(EARLIER)
    target.chmod(0o444)
    code, said = write(place, ["measures", "run"], target)
    assert (code, target.read_bytes()) == (1, EARLIER), said


def test_a_link_to_an_empty_folder_is_filled(place: Path, tmp_path: Path) -> None:
    there, target = tmp_path / "there", tmp_path / "x"
    target.symlink_to("there")
    for _ in range(2):
        there.mkdir()
        assert write(place, FOLDERS["export"], target) == (0, "")
        assert target.is_symlink()
        assert any(there.iterdir())
        for path in there.iterdir():
            path.unlink()
        there.rmdir()
    assert write(place, FOLDERS["export"], target) == (0, "")  # one that is to come
    assert any(there.iterdir())


@pytest.mark.parametrize("command", FOLDERS)
@pytest.mark.parametrize("make", [a_loop, a_link_into_nothing, a_pipe, a_full_device])
def test_a_place_that_is_no_folder_is_named_and_stays(
    command: str, make: Callable[[Path], None], place: Path, tmp_path: Path
) -> None:
    target = tmp_path / "x"
    make(target)
    before = target.lstat().st_ino
    code, said = write(place, FOLDERS[command], target)
    made = command == "export" and make is a_link_into_nothing
    assert code in ((0,) if made else (1, 4)), said
    assert made or str(target) in said
    assert [(p.name, p.lstat().st_ino) for p in tmp_path.iterdir() if not made] == ([] if made else [("x", before)])
