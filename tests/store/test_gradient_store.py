"""Sets of gradients beside a run: what is put is read, by plain zarr too; staleness, refusals, damage, locks, and a run's own commits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_points import crash_points
from gradient_sets import BLOCKS, SPEC, made
from stored_runs import make_contents

from storage_schema.errors import NotFound, Refused, StoreBusy, StoreDamaged, StoreVersion
from storage_schema.runs.gradient_writer import GradientWriter
from storage_schema.runs.reader import StoredRun
from storage_schema.runs.store import RunStore


@pytest.fixture
def run(store: RunStore) -> StoredRun:
    """Steps 0, 1000, 2000, 3000."""
    with store.writer("run") as writer:
        return writer.commit(make_contents())


def writer(store: RunStore) -> GradientWriter:
    return GradientWriter(store.root, store.open("run"))


def put(store: RunStore, *steps: int, name: str = "example", **changes: Any) -> None:
    with writer(store) as w:
        w.begin(name, SPEC)
        for step in steps:
            w.put(name, step, replace(made(step), **changes))


def test_what_is_put_is_read_in_the_order_of_the_steps(store: RunStore, run: StoredRun) -> None:
    put(store, 2000, 0)
    put(store, 1000)
    found = store.open("run").gradients.open("example")
    assert list(found.rows) == [0, 1000, 2000]
    assert found.spec == SPEC
    assert found.blocks.name == tuple(b.name for b in BLOCKS)
    assert found.blocks.size.tolist() == [10, 11, 12]
    for step in found.rows:
        record = found.record(step)
        assert np.array_equal(record.gram, made(step).gram)
        assert record.facts == {"seed": step}
        assert np.array_equal(found.record(step, [2, 0]).gram, made(step).gram[[2, 0]])


def test_equal_vectors_labels_and_scalars_come_back(store: RunStore, run: StoredRun) -> None:
    scalars = {"whole": np.array([[1.0, 2.0]]), "by_block": np.arange(3.0), "empty": np.zeros((3, 0))}
    same = np.arange(15).reshape(3, 5) % 4
    put(store, 1000, same=same, labels=tuple("abcde"), scalars=scalars, error=2.0**-22)
    found = store.open("run").gradients.open("example")
    record = found.record(1000, [1])
    assert found.head.labels == tuple("abcde")
    assert record.same is not None
    assert np.array_equal(record.same, same[[1]])
    assert record.error == 2.0**-22
    assert record.scalars["whole"].tolist() == [[1.0, 2.0]]
    assert record.scalars["by_block"].tolist() == [0.0, 1.0, 2.0]
    assert record.scalars["empty"].size == 0
    group = found.group(1000, "two", [0, 2])
    assert np.array_equal(group.gram, made(1000).gram[[0, 2]].sum(axis=0))
    assert (group.scalars["by_block"], group.whole["by_block"]) == (2.0, 3.0)
    assert group.scalars["whole"].tolist() == [1.0, 2.0]
    assert group.same is not None
    together = [tuple(column) for column in same[[0, 2]].T]
    assert [together.index(column) for column in together] == [group.same.tolist().index(s) for s in group.same]


def test_zarr_and_xarray_open_a_set_as_it_lies(store: RunStore, run: StoredRun) -> None:
    import xarray
    import zarr

    put(store, 0, 3000, labels=tuple("abcde"), scalars={"norms": np.ones((3, 5))})
    folder = run.path / "gradients" / "example"
    with xarray.open_zarr(folder) as opened:
        assert opened.gram.dims == ("step", "block", "vector", "vector_2")
        assert np.array_equal(opened.gram.sel(step=3000).values, made(3000).gram)
        assert opened.block.values.tolist() == [b.name for b in BLOCKS]
        assert opened.vector.values.tolist() == list("abcde")
        assert opened.scalar_norms.dims == ("step", "block", "norms_1")
    plain = zarr.open_group(run.path / "gradients", mode="r", use_consolidated=False)
    assert np.array_equal(plain["example/gram"][1], made(3000).gram)


def test_a_gram_of_many_blocks_is_cut_into_files(
    store: RunStore, run: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_schema.format.gradients.SHARD_BYTES", 2 * 8 * 25)
    put(store, 0)
    found = store.open("run").gradients.open("example")
    assert len([key for key in found.head.rows[0].files if key.startswith("gram/")]) == 2  # type: ignore[union-attr]
    assert np.array_equal(found.record(0, [2]).gram, made(0).gram[[2]])


def test_gradients_survive_what_is_committed_to_the_run(store: RunStore, run: StoredRun) -> None:
    put(store, 0, 1000)
    with store.writer("run") as w:
        w.commit(make_contents(steps=5))
    with store.writer("run"):
        pass  # recovers
    found = store.open("run").gradients.open("example")
    assert list(found.rows) == [0, 1000]
    assert found.damaged() == []
    assert store.open("run").verify() == ()


def test_a_record_of_other_parameters_is_stale_and_computed_anew(store: RunStore, run: StoredRun) -> None:
    put(store, 0, 1000, 2000)
    with writer(store) as w:
        w.begin("anchored", SPEC)
        w.put("anchored", 2000, made(2000), uses=(1000,))
    contents = make_contents()
    marks = ("0" * 16, "f" * 16, *contents.checkpoints.fingerprint[2:])
    with store.writer("run") as w:
        w.commit(replace(contents, checkpoints=replace(contents.checkpoints, fingerprint=marks)))
    sets = store.open("run").gradients
    assert (list(sets.open("example").rows), sets.open("example").stale) == ([0, 2000], [1000])
    assert sets.open("anchored").stale == [2000]
    with pytest.raises(NotFound, match="other parameters"):
        sets.open("example").record(1000)
    with writer(store) as w:
        w.begin("example", SPEC)
        assert [w.has("example", step) for step in (0, 1000, 2000)] == [True, False, True]
        w.put("example", 1000, made(17))
    again = store.open("run").gradients.open("example")
    assert (list(again.rows), again.stale) == ([0, 1000, 2000], [])
    assert np.array_equal(again.record(1000).gram, made(17).gram)


def test_a_set_of_a_run_that_was_replaced_gives_way_to_one_of_other_blocks(store: RunStore, run: StoredRun) -> None:
    put(store, 0, 1000)
    contents = make_contents(blocks=2)
    with store.writer("run") as w:
        w.commit(replace(contents, checkpoints=replace(contents.checkpoints, fingerprint=tuple("abcd"))))
    other = replace(made(3), gram=made(3).gram[:2], blocks=BLOCKS[:2])
    with writer(store) as w:
        w.begin("example", SPEC)
        w.put("example", 0, other)
    found = store.open("run").gradients.open("example")
    assert list(found.rows) == [0]
    assert np.array_equal(found.record(0).gram, other.gram)


def test_another_spec_is_refused_until_it_is_to_replace(store: RunStore, run: StoredRun) -> None:
    put(store, 0, 1000)
    other = SPEC | {"examples": 6}
    with writer(store) as w:
        with pytest.raises(Refused, match="examples 5, not 6") as refused:
            w.begin("example", other)
        assert refused.value.kind == "gradients-exist"
        assert "--replace" in refused.value.hint
        assert "--as NAME" in refused.value.hint
        assert w.has("example", 1000)
        w.begin("second", other)
        w.put("second", 0, made(1))
        w.begin("example", SPEC, replace=True)  # the same: nothing is lost
        assert w.has("example", 1000)
        w.begin("example", other, replace=True)
        assert not w.has("example", 1000)
        w.put("example", 0, made(9, n=6))
    sets = store.open("run").gradients
    assert sets.names() == ("example", "second")
    assert list(sets.open("example").rows) == [0]


@pytest.mark.parametrize("key", ["gram/c/0/0/0/0", "size/c/0", "same/c/0/0/0"])
@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
def test_a_damaged_file_is_an_error_and_is_computed_anew(
    store: RunStore, run: StoredRun, key: str, damage: str
) -> None:
    put(store, 0, 1000, same=np.zeros((3, 5), np.int64))
    path = run.path / "gradients" / "example" / key
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    found = store.open("run").gradients.open("example")
    assert found.damaged() == [key]
    with pytest.raises(StoreDamaged, match=key):
        _ = (found.blocks, found.record(0))
    assert np.array_equal(found.record(1000).gram, made(1000).gram)
    with writer(store) as w:
        w.begin("example", SPEC)
        assert not w.has("example", 0)


def test_an_altered_record_of_the_set_is_an_error(store: RunStore, run: StoredRun) -> None:
    put(store, 0)
    path = run.path / "gradients" / "example" / "zarr.json"
    whole = path.read_text()
    path.write_text(whole.replace('"step": 0', '"step": 1000'))
    with pytest.raises(StoreDamaged, match="record"):
        store.open("run").gradients.open("example")
    with writer(store) as w, pytest.raises(StoreDamaged):
        w.begin("example", SPEC)
    with writer(store) as w:
        w.begin("example", SPEC, replace=True)
        w.put("example", 0, made(0))
    assert np.array_equal(store.open("run").gradients.open("example").record(0).gram, made(0).gram)


def test_a_set_of_a_later_format_is_named(store: RunStore, run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr("storage_schema.format.gradients.FORMAT_VERSION", 2)
        put(store, 0)
    with pytest.raises(StoreVersion, match="trajsvc-gradients 2"):
        store.open("run").gradients.open("example")


def test_one_writer_at_a_time_and_the_run_goes_with_its_gradients(store: RunStore, run: StoredRun) -> None:
    with writer(store):
        with pytest.raises(StoreBusy):
            writer(store).__enter__()
        with pytest.raises(StoreBusy):
            store.remove("run")
        with store.writer("run") as w:  # the run itself may be written meanwhile
            w.commit(make_contents(steps=5))
    put(store, 0)
    store.remove("run")
    assert not run.path.exists()
    assert list((store.root / "locks").rglob("*.lock")) == []


def test_what_does_not_fit_is_refused_and_leaves_the_set_as_it_was(store: RunStore, run: StoredRun) -> None:
    put(store, 0)
    wrong = [
        made(1, n=6),
        replace(made(1), blocks=BLOCKS[:2]),
        replace(made(1), labels=("a",)),
        replace(made(1), gram=np.full((3, 5, 5), np.nan)),
        replace(made(1), facts={"loss": float("nan")}),
        replace(made(1), scalars={"Norm": np.ones(3)}),
        replace(made(1), scalars={"norm": np.ones(2)}),
    ]
    with writer(store) as w:
        w.begin("example", SPEC)
        for found in wrong:
            with pytest.raises(ValueError, match=r"."):
                w.put("example", 1000, found)
        with pytest.raises(NotFound) as missing:
            w.put("example", 7, made(1))
        assert missing.value.kind == "step-not-found"
        with pytest.raises(ValueError, match="begin"):
            w.put("batch", 0, made(1))
    assert list(store.open("run").gradients.open("example").rows) == [0]


def test_a_set_that_is_not_there_is_named_with_those_that_are(store: RunStore, run: StoredRun, tmp_path: Path) -> None:
    assert run.gradients.names() == ()
    put(store, 0)
    with pytest.raises(NotFound) as missing:
        store.open("run").gradients.open("../example")
    assert missing.value.kind == "gradients-not-found"
    assert "It has example." in missing.value.hint
    with writer(store) as w:
        w.remove("example")
    assert store.open("run").gradients.names() == ()


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_death_at_any_instant_leaves_the_other_steps_and_what_goes_on(store: RunStore, tmp_path: Path) -> None:
    """The writer puts a step whose record is stale, then a new one; before each of its changes the store is copied and looked at."""
    contents = make_contents()
    with store.writer("run") as w:
        w.commit(contents)
    put(store, 0, 1000)
    marks = ("0" * 16, "f" * 16, *contents.checkpoints.fingerprint[2:])
    with store.writer("run") as w:
        w.commit(replace(contents, checkpoints=replace(contents.checkpoints, fingerprint=marks)))
    left = RunStore(tmp_path / "left")
    seen = set()
    for number in crash_points(store.root, left.root, "put_gradients"):
        found = left.open("run").gradients.open("example")
        seen.add(tuple(found.rows))
        assert found.damaged() == []
        for step in found.rows:
            assert np.array_equal(found.record(step).gram, made(step).gram)
        if number % 7 == 0:  # and whoever comes next finishes the work
            put(left, *(step for step in (1000, 2000) if step not in found.rows))
            again = left.open("run").gradients.open("example")
            assert list(again.rows) == [0, 1000, 2000]
            assert again.damaged() == []
    assert seen == {(0,), (0, 1000), (0, 1000, 2000)}
