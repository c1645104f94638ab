"""A family's file: what it says, what is refused and how that is said, and how it is kept in a store."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from trajsvc.errors import DamagedStore, NotFound, TryAgain, UsageError
from trajsvc.families.file import (
    Family,
    Member,
    default_name,
    family_names,
    load_family,
    open_family,
    parse_size,
    save_family,
)

WHOLE = """
name = "pythia"
title = "Pythia, all sizes"
[defaults]
steps = "every:8"
copy = true
memory = "64MiB"
[[runs]]
source = "hf://EleutherAI/pythia-70m@main"
size = 70_000_000
seed = 0
[runs.hyperparameters]
lr = 1e-3
warm = true
layers = 6
optimizer = "adam"
begun = 2023-04-01
[[runs]]
name = "big"
source = "checkpoints/big/step*"
size = "1.4B"
steps = [0, 10]
preview = "1%"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "family.toml"
    file.write_text(text)
    return file


def test_a_whole_file_says_what_it_says(tmp_path: Path) -> None:
    family = load_family(write(tmp_path, WHOLE))
    assert (family.name, family.title, [m.name for m in family.runs]) == (
        "pythia",
        "Pythia, all sizes",
        ["pythia-70m", "big"],
    )
    first, big = family.runs
    assert first.source == "hf://EleutherAI/pythia-70m@main"
    assert big.source == str(tmp_path / "checkpoints" / "big" / "step*"), "folders are the file's own"
    assert (first.size, first.seed, big.size, big.seed) == (70_000_000, 0, 1_400_000_000, None)
    assert first.hyperparameters == {"lr": 1e-3, "warm": True, "layers": 6, "optimizer": "adam", "begun": "2023-04-01"}
    assert [type(v) for v in first.hyperparameters.values()] == [float, bool, int, str, str]
    assert family.options(first).given() == {"steps": "every:8", "copy": True, "memory": 64 * 2**20}
    own = family.options(big).given()
    assert own == {"steps": "0,10", "copy": True, "memory": 64 * 2**20, "preview": 0.01}, "a member's own come first"
    assert family.hyperparameter_names() == ["lr", "warm", "layers", "optimizer", "begun"]


def test_folders_are_relative_to_the_file_and_not_to_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    write(
        tmp_path / "sub",
        'name = "f"\n[[runs]]\nsource = "../a"\n[[runs]]\nsource = "/abs/b"\n[[runs]]\nsource = "~/c"\n',
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    sources = [m.source for m in load_family(Path("sub") / "family.toml").runs]
    assert sources == [str(tmp_path / "a"), "/abs/b", "/home/somebody/c"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/my run", "my-run"),
        ("/data/ckpts/epoch_*.pt", "data-ckpts"),
        ("/data/runs-[ab]/x", "data"),
        ("hf://EleutherAI/pythia-70m", "pythia-70m"),
        ("hf://EleutherAI/pythia-70m@step1000", "pythia-70m"),
        ("hf://EleutherAI/pythia-70m/", "pythia-70m"),
        ("*", "run"),
    ],
)
def test_a_member_without_a_name_has_its_sources_last_part(source: str, name: str) -> None:
    assert default_name(source) == name
    assert Member(source=source).name == name  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "size"),
    [("70M", 70e6), ("1.4B", 1.4e9), ("1.1b", 1.1e9), ("160_000", 160e3), ("2e6", 2e6), ("0.5k", 500), ("1.5", 1.5)],
)
def test_sizes_as_people_write_them(text: str, size: float) -> None:
    assert parse_size(text) == size
    assert isinstance(parse_size(text), int) == (size == int(size))


@pytest.mark.parametrize("text", ["9" * 2000, "9" * 2000 + "M", "1e308B", "1e999"])
def test_a_size_beyond_all_numbers_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"more than a number can be|not a size") as caught:
        load_family(write(tmp_path, f'name = "f"\n[[runs]]\nsource = "a"\nsize = "{text}"\n'))
    assert caught.value.kind == "bad-family"


RUN = '[[runs]]\nsource = "a"\n'
BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "no TOML": ("name = pythia", ("line 1", "not TOML")),
    "no runs": ('name = "f"', ("runs is missing", "[[runs]]")),
    "empty runs": ('name = "f"\nruns = []', ("runs is empty",)),
    "runs no table": ('name = "f"\nruns = 3', ("runs", "[[runs]]")),
    "no name": (RUN, ("name is missing",)),
    "no source": ('name = "f"\n[[runs]]\nseed = 1', ("runs[1] source is missing",)),
    "empty source": ('name = "f"\n[[runs]]\nsource = ""', ("runs[1] source is empty",)),
    "unknown key": (f'name = "f"\ncolour = 1\n{RUN}', ("colour", "Keys here: name, title, tags, defaults, spectra, gradients, runs")),
    "unknown key of a member": (f'name = "f"\n{RUN}sede = 1', ("runs[1] (a) sede", "Did you mean 'seed'?")),
    "unknown option": (f'name = "f"\n[defaults]\nstep = "a"\n{RUN}', ("defaults step", "Did you mean 'steps'?")),
    "a path for a name": (f'name = "../f"\n{RUN}', ("name", "not a run name", "would do")),
    "a path for a member": (f'name = "f"\n{RUN}name = "a/b"', ("runs[1]", "'a/b'", "'a-b' would do")),
    "twice": (f'name = "f"\n{RUN}[[runs]]\nsource = "b/a"', ("'a'", "(1, 2)", "name")),
    "size": (f'name = "f"\n{RUN}size = "huge"', ("runs[1] (a) size", "'huge'", "70M")),
    "negative size": (f'name = "f"\n{RUN}size = -1', ("runs[1] (a) size", "greater than 0")),
    "infinite size": (f'name = "f"\n{RUN}size = inf', ("runs[1] (a) size",)),
    "seed": (f'name = "f"\n{RUN}seed = "one"', ("runs[1] (a) seed", "'one'")),
    "a truth value for a seed": (f'name = "f"\n{RUN}seed = true', ("runs[1] (a) seed",)),
    "a list for a hyperparameter": (f'name = "f"\n{RUN}[runs.hyperparameters]\nlr = [1]', ("hyperparameters lr", "one number")),
    "nan": (f'name = "f"\n{RUN}[runs.hyperparameters]\nlr = nan', ("hyperparameters lr", "finite")),
    "preview": (f'name = "f"\n[defaults]\npreview = "some"\n{RUN}', ("defaults preview", "1%")),
    "memory": (f'name = "f"\n[defaults]\nmemory = "some"\n{RUN}', ("defaults memory", "512MiB")),
    "precision": (f'name = "f"\n{RUN}precision = "half"', ("runs[1] (a) precision", "float32")),
    "several": (f'name = "f"\n{RUN}precision = "half"\nsize = -1\nseed = ""', ("and 2 more faults",)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_its_file_its_key_and_what_to_do(tmp_path: Path, case: str) -> None:
    text, words = BAD[case]
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_family(file)
    assert caught.value.kind == "bad-family"
    assert caught.value.hint
    assert str(file) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.toml cannot be read"):
        load_family(tmp_path / "no.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_family(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(UsageError, match="not UTF-8"):
        load_family(tmp_path / "bytes.toml")


def test_a_family_is_kept_in_the_store_and_found_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert family_names(store) == []
    family = load_family(write(tmp_path, WHOLE))
    path = save_family(store, family)
    assert path == store / "families" / "pythia.json"
    assert open_family(store, "pythia") == family
    assert open_family(store, "pythia").options(family.runs[1]).given() == family.options(family.runs[1]).given()
    small = Family(name="small", runs=[Member(source="/a")])  # type: ignore[call-arg]
    save_family(store, small)
    assert family_names(store) == ["pythia", "small"]
    assert open_family(store, "small") == small
    before = path.stat().st_mtime_ns
    save_family(store, family)
    assert path.stat().st_mtime_ns == before, "the same family is not written again"
    save_family(store, small.model_copy(update={"title": "new"}))
    assert open_family(store, "small").title == "new"
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_a_family_that_is_not_there_is_missed_with_the_names_that_are(tmp_path: Path) -> None:
    save_family(tmp_path, Family(name="pythia", runs=[Member(source="/a")]))  # type: ignore[call-arg]
    with pytest.raises(NotFound, match="pythia") as caught:
        open_family(tmp_path, "pythias")
    assert caught.value.kind == "family-not-found"
    with pytest.raises(NotFound, match="It has no families"):
        open_family(tmp_path / "nowhere", "x")
    with pytest.raises(UsageError):
        open_family(tmp_path, "../pythia")
    with pytest.raises(NotFound, match="It has a") as missed:
        open_family(tmp_path, "pythia").member("b")
    assert missed.value.kind == "member-not-found"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1}', '{"version": 2, "family": {}}', '{"version": 1, "family": {"name": 3}}']
)
def test_a_damaged_family_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "f.json").write_text(text)
    with pytest.raises(DamagedStore) as caught:
        open_family(tmp_path, "f")
    assert caught.value.kind == "family-damaged"
    assert "trajsvc batch" in caught.value.hint


def test_a_full_disk_says_so_and_keeps_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(name="f", runs=[Member(source="/a")])  # type: ignore[call-arg]
    save_family(tmp_path, family)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trajsvc.families.file.replace_file", full)
    with pytest.raises(TryAgain) as caught:
        save_family(tmp_path, family.model_copy(update={"title": "new"}))
    assert caught.value.kind == "disk-full"
    assert open_family(tmp_path, "f") == family


def test_models_are_frozen() -> None:
    family = Family(name="f", runs=[Member(source="/a")])  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        family.name = "g"  # type: ignore[misc]


def test_families_need_no_torch() -> None:
    code = "import sys, trajsvc.families.file\nprint([m for m in ('torch', 'matplotlib', 'xarray', 'zarr') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
