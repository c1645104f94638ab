"""A committed file that is altered, cut, or gone is always an error that names it: never other numbers, never fill values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stored_runs import make_contents, same

from storage_schema.errors import RunMissing, StoreChanged, StoreDamaged
from storage_schema.format import arrays
from storage_schema.format.manifest import FileEntry
from storage_schema.runs.snapshot import Snapshot
from storage_schema.runs.store import RunStore, StoredRun


@pytest.fixture
def run(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> StoredRun:
    """A run with a theta of two files a row."""
    monkeypatch.setattr(arrays, "THETA_CHUNK", 20)
    with store.writer("run") as writer:
        return commit_with_theta(writer, mark=1)


def commit_with_theta(writer: object, mark: int) -> StoredRun:
    from storage_schema.runs.writer import RunWriter

    assert isinstance(writer, RunWriter)
    writer.theta_begin(33, "float32", range(4), key=str(mark))
    for row in range(4):
        writer.write_theta(row, 0, theta(mark)[row].data)
    return writer.commit(make_contents(4, 3, mark=mark))


def theta(mark: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.arange(132, dtype=np.float32).reshape(4, 33) + mark


def read_everything(path: Path) -> None:
    """What the program can ask of a run."""
    run = StoredRun(path)
    assert same(run.contents(), make_contents(4, 3, mark=1))
    out = np.empty((4, 33), np.float32)
    for row in range(4):
        run.read_theta(row, 0, 33, memoryview(out[row]).cast("B"))
    assert np.array_equal(out, theta(1))
    assert np.array_equal(np.asarray(run.group["theta"][:]), out)


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "cut":
        del data[-1]
    elif how == "longer":
        data.append(0)
    elif how == "empty":
        data.clear()
    else:
        place = {"first bit": 0, "middle bit": len(data) * 4, "last bit": len(data) * 8 - 1}[how]
        data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


HOW = ("first bit", "middle bit", "last bit", "cut", "longer", "empty", "gone")


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_damage_to_any_file_is_found(run: StoredRun, how: str) -> None:
    """Every file of the run in turn: reading everything raises, naming the file; putting it right makes it readable."""
    read_everything(run.path)
    keys = ["manifest.json", *run.entries]
    assert {key.split("/")[0] for key in keys} == {
        "manifest.json", "zarr.json", "gram", "rounding", "nonfinite", "changes", "rows", "theta", "checkpoint", "block",
    }  # fmt: skip
    for key in keys:
        path = run.path / key
        kept = path.read_bytes()
        damage(path, how)
        if (key, how) == ("manifest.json", "gone"):
            with pytest.raises(RunMissing):
                StoredRun(run.path)
        else:
            with pytest.raises(StoreDamaged) as caught:
                read_everything(run.path)
            assert caught.value.path == str(path)
            assert caught.value.hint
            if key != "manifest.json":
                assert run.verify() == (key,)
        path.write_bytes(kept)
        read_everything(run.path)
        assert run.verify() == ()


def test_every_bit_of_a_manifest_counts(run: StoredRun) -> None:
    """All of its first line and every 13th bit of the rest: no flip is believed."""
    path = run.path / "manifest.json"
    kept = path.read_bytes()
    first = 8 * (kept.index(b"\n") + 1)
    for bit in [*range(first), *range(first, 8 * len(kept), 13)]:
        data = bytearray(kept)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(StoreDamaged):
            StoredRun(run.path)


def test_a_lost_chunk_is_an_error_through_zarr_too(run: StoredRun) -> None:
    (run.path / "theta/c/2/1").unlink()
    again = StoredRun(run.path)
    assert np.array_equal(np.asarray(again.group["theta"][0]), theta(1)[0])
    with pytest.raises(StoreDamaged, match=r"theta/c/2/1 is missing"):
        again.group["theta"][:]
    assert again.verify() == ("theta/c/2/1",)


def test_a_chunk_that_was_never_committed_is_an_error(run: StoredRun) -> None:
    """An array whose metadata promises more than the manifest lists does not read as fill values."""
    from storage_schema.runs.zarr_view import VerifiedStore

    snapshot = Snapshot(run.path)
    assert isinstance(snapshot.manifest.files, dict)
    del snapshot.manifest.files["rounding/c/0/0"]
    import zarr

    group = zarr.open_group(VerifiedStore(snapshot), mode="r", use_consolidated=True)
    with pytest.raises(StoreDamaged, match="never committed"):
        group["rounding"][:]


def test_damage_after_the_first_reading_is_found(run: StoredRun) -> None:
    """A file proved once is proved again when it changes under an open run."""
    out = memoryview(bytearray(4))
    run.read_theta(1, 3, 4, out)
    assert bytes(out) == theta(1)[1, 3:4].tobytes()
    damage(run.path / "theta/c/1/0", "first bit")
    with pytest.raises(StoreDamaged, match="theta/c/1/0 is not what was committed"):
        run.read_theta(1, 3, 4, out)


def test_a_replaced_theta_is_said_to_be_replaced(store: RunStore, run: StoredRun) -> None:
    """An open run answers from its own generation, and says so where its theta is gone."""
    with store.writer("run") as writer:
        commit_with_theta(writer, mark=2)
    assert same(run.contents(), make_contents(4, 3, mark=1))
    with pytest.raises(StoreChanged, match="committed anew"):
        run.read_theta(0, 0, 33, memoryview(bytearray(132)))
    assert store.open("run").attributes["mark"] == 2


def test_a_removed_run_is_said_to_be_removed(store: RunStore, run: StoredRun) -> None:
    store.remove("run")
    with pytest.raises(StoreChanged, match="removed"):
        run.read_theta(0, 0, 33, memoryview(bytearray(132)))


def test_a_large_gram_is_read_from_the_generation_that_was_opened(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are not kept in memory are held open: five commits later they are still the old ones."""
    monkeypatch.setattr("storage_schema.runs.snapshot.SMALL", 64)
    with store.writer("run") as writer:
        writer.commit(make_contents(mark=1))
        old = store.open("run")
        for mark in range(2, 7):
            writer.commit(make_contents(mark=mark))
    assert same(old.contents(), make_contents(mark=1))
    assert same(store.open("run").contents(), make_contents(mark=6))


def test_a_commit_between_the_manifest_and_the_files_is_noticed(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer commits after a reader took the manifest and before it held the gram, the only file that differs: the reader
    begins again, and what it holds is of one generation."""
    from dataclasses import replace

    monkeypatch.setattr("storage_schema.runs.snapshot.SMALL", 4096)
    old = make_contents(12, 6)
    new = replace(old, gram=old.gram + 1)
    with store.writer("run") as writer:
        writer.commit(old)
        hold, left = Snapshot._pin, [1, 1]

        def commit_first(self: Snapshot) -> None:
            if left:
                left.pop()
                monkeypatch.setattr(Snapshot, "_pin", hold)
                writer.commit(new)
                monkeypatch.setattr(Snapshot, "_pin", commit_first)
            hold(self)

        monkeypatch.setattr(Snapshot, "_pin", commit_first)
        run = store.open("run")
    assert left == []
    assert run.generation == 3
    assert np.array_equal(run.block_grams(), new.gram)


def test_without_the_manifest_check_a_flipped_bit_would_pass(run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that the tests above bite: with the comparison taken out, a wrong number is read in silence."""

    def believe(self: Snapshot, key: str, found: FileEntry) -> None:
        return None

    monkeypatch.setattr(Snapshot, "_compare", believe)
    gram = run.path / "gram/c/0/0/0"
    damage(gram, "first bit")
    wrong = StoredRun(run.path).gram([0])
    assert wrong.shape == (4, 4)
    assert not np.array_equal(wrong, make_contents(4, 3, mark=1).gram[0])
    monkeypatch.undo()
    with pytest.raises(StoreDamaged):
        StoredRun(run.path)
