"""Names of strangers as files of a folder: none leads out of it, and no link is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_schema.errors import StoreUnwritable, TrajsvcError
from storage_schema.files.inside import LONGEST, file_name, folder_inside, path_inside, read_inside, write_inside

HOSTILE = [
    "/etc/passwd",
    "../../x",
    "..",
    ".",
    "",
    "a/b",
    "a\0b",
    "a\\b",
    "\ud800",
    "x" * 5000,
    "%2E",
    "\n",
    "org/run",
    "é",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_one_file_of_the_folder(name: str, tmp_path: Path) -> None:
    write_inside(tmp_path / "in", "kept", name, data=b"x")
    assert read_inside(tmp_path / "in", "kept", name, most=10) == b"x"
    assert [p.parent for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "in" / "kept"]
    assert path_inside(tmp_path / "in", "kept", name).read_bytes() == b"x"


@given(st.text(), st.text())
def test_names_are_kept_apart_and_are_file_names(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)
    assert "/" not in file_name(one)
    assert not file_name(one).startswith(".")
    assert 0 < len(file_name(one)) <= LONGEST
    assert file_name(one).isascii()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_links_are_not_followed(depth: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c").write_bytes(b"secret")
    (outside / "b").mkdir()
    names = ("a", "b", "c")
    place = tmp_path / "in"
    link = place.joinpath(*names[:depth])
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "c" if depth == 3 else outside)
    assert read_inside(place, *names, most=100) is None
    with pytest.raises(StoreUnwritable):
        path_inside(place, *names)
    if depth < 3:
        with pytest.raises(StoreUnwritable):
            write_inside(place, *names, data=b"new")
        with pytest.raises(StoreUnwritable):
            folder_inside(place, *names)
    else:
        write_inside(place, *names, data=b"new")
        assert not link.is_symlink(), "the link is replaced, and not what it leads to"
    assert (outside / "c").read_bytes() == b"secret"
    assert sorted(p.name for p in outside.rglob("*")) == ["b", "c"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "in").symlink_to(tmp_path / "disk")
    write_inside(tmp_path / "in", "a", "b", data=b"x")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"x"


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 100)
    for name in ("folder", "pipe", "large", "none"):
        assert read_inside(tmp_path, name, most=99) is None


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_inside(tmp_path, "a", "b", data=b"x")
    (tmp_path / "a" / "c").mkdir()
    with pytest.raises(TrajsvcError, match="is a directory"):
        write_inside(tmp_path, "a", "c", data=b"y")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b", "c"]
