"""Runs come back as they were committed, under their names, to this program and to any zarr reader."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stored_runs import make_contents, same

from storage_schema.errors import BadRunName, RunMissing, StoreBusy, StoreDamaged, StoreVersion
from storage_schema.format import arrays
from storage_schema.format.manifest import MANIFEST, parse
from storage_schema.format.names import check_name, run_name
from storage_schema.runs.contents import BlockTable, CheckpointTable, RunContents
from storage_schema.runs.store import RunStore

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def any_contents(draw: st.DrawFn) -> RunContents:
    steps, blocks = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    floats = st.floats(allow_nan=True, allow_infinity=True, width=64)
    size = draw(hnp.arrays(np.int64, blocks, elements=st.integers(0, 2**40)))
    whole = st.integers(-(2**63), 2**63 - 1)

    def texts(count: int) -> tuple[str, ...]:
        return tuple(draw(st.lists(TEXT, min_size=count, max_size=count)))

    json_values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
    return RunContents(
        name="run",
        checkpoints=CheckpointTable(
            draw(hnp.arrays(np.int64, steps, elements=whole)), *(texts(steps) for _ in range(4))
        ),
        blocks=BlockTable(*(texts(blocks) for _ in range(5)), size=size, offset=np.cumsum(size) - size),
        gram=draw(hnp.arrays(np.float64, (blocks, steps, steps), elements=floats)),
        rounding=draw(hnp.arrays(np.float64, (blocks, steps), elements=floats)),
        nonfinite=draw(hnp.arrays(np.int64, (blocks, steps), elements=whole)),
        attributes=draw(st.dictionaries(TEXT.filter(lambda t: t not in ("format", "format_version")), json_values)),
    )


@given(any_contents(), any_contents())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_committed_comes_back(memory_folders: Callable[[], Path], one: RunContents, two: RunContents) -> None:
    store = RunStore(memory_folders())
    for generation, contents in enumerate((one, two), start=1):
        with store.writer("run") as writer:
            writer.commit(contents)
        run = store.open("run")
        assert run.generation == generation
        assert same(run.contents(), contents)
        assert run.verify() == ()
        assert (run.checkpoint_count, run.block_count) == contents.rounding.shape[::-1]
        assert run.parameters == contents.blocks.size.sum()


@pytest.mark.slow
@given(st.sets(st.integers(0, 40)), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_the_gram_of_a_set_is_the_sum_in_order(memory_folders: Callable[[], Path], chosen: set[int], span: int) -> None:
    contents = make_contents(3, 41)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "GRAM_SHARD_BYTES", span * 72)
        store = RunStore(memory_folders())
        with store.writer("run") as writer:
            run = writer.commit(contents)
    gram, rounding = np.zeros((3, 3)), np.zeros(3)
    for block in sorted(chosen):
        gram += contents.gram[block]
        rounding += contents.rounding[block]
    assert np.array_equal(run.gram(chosen), gram)
    assert np.array_equal(run.gram(sorted(chosen, reverse=True)), gram)
    assert np.array_equal(run.rounding(chosen), rounding)
    assert np.array_equal(run.block_grams(chosen), contents.gram[sorted(chosen)])
    files = -(-41 // min(41, max(span, 1)))
    assert sum(key.startswith("gram/c/") for key in run.entries) == files


def test_a_block_out_of_range_is_refused(store: RunStore) -> None:
    with store.writer("run") as writer:
        run = writer.commit(make_contents(blocks=3))
    for blocks in ([3], [-1], [0, 99]):
        with pytest.raises(ValueError, match="not all within"):
            run.gram(blocks)


def test_any_zarr_reader_opens_it_with_labelled_dimensions(store: RunStore) -> None:
    import xarray as xr
    import zarr

    contents = make_contents(4, 3, mark=5)
    columns = int(contents.blocks.size.sum())
    theta = np.random.default_rng(1).standard_normal((4, columns)).astype(np.float16)
    with store.writer("run") as writer:
        writer.theta_begin(columns, "float16", range(4), key="k")
        for row in range(4):
            writer.write_theta(row, 0, theta[row].data)
        writer.commit(contents)
    with xr.open_zarr(store.path("run")) as root:
        assert root.gram.dims == ("block", "basis", "basis_2")
        assert root.theta.dims == ("step", "parameter")
        assert root.rounding.dims == root.nonfinite.dims == ("block", "step")
        assert root.attrs["mark"] == 5
        assert root.theta.attrs["stored_type"] == "float16"
        assert np.array_equal(root.gram.values, contents.gram)
        assert np.array_equal(root.theta.values, theta)
    with xr.open_zarr(store.path("run"), group="checkpoint") as table:
        assert table.sizes == {"step": 4}
        assert tuple(table.label.values.tolist()) == contents.checkpoints.label
    with xr.open_zarr(store.path("run"), group="block") as table:
        assert tuple(table.name.values.tolist()) == contents.blocks.name
        assert np.array_equal(table["size"].values, contents.blocks.size)
    group = zarr.open_group(store.path("run"), mode="r")
    assert group["gram"].chunks == (1, 4, 4)
    assert np.array_equal(group["gram"][1], contents.gram[1])
    assert np.array_equal(store.open("run").group["theta"][:], theta)


def test_zeros_are_stored_and_not_left_to_a_fill_value(store: RunStore) -> None:
    """A lost chunk must not read as the zeros that were in it, by whomever."""
    import zarr

    contents = make_contents(2, 2)
    contents.gram[:] = 0.0
    with store.writer("run") as writer:
        writer.commit(contents)
    group = zarr.open_group(store.path("run"), mode="r")
    assert np.array_equal(group["gram"][:], contents.gram)
    (store.path("run") / "gram/c/0/0/0").unlink()
    (store.path("run") / "nonfinite/c/0/0").unlink()
    assert np.isnan(group["gram"][:]).all()
    assert (group["nonfinite"][:] == -1).all()


@pytest.mark.timing
def test_a_second_writer_is_told_who_holds_the_run(store: RunStore) -> None:
    import os

    with (
        store.writer("run"),
        pytest.raises(StoreBusy, match=f"process {os.getpid()}") as caught,
        store.writer("run"),
    ):
        pytest.fail("two writers of one run")
    assert "Wait" in caught.value.hint
    with store.writer("run") as first, store.writer("other"):
        first.commit(make_contents())


@pytest.mark.timing
def test_another_process_is_told_too(store: RunStore) -> None:
    script = (
        "import sys\nfrom storage_schema.runs.store import RunStore\nfrom storage_schema.errors import StoreBusy\n"
        "try:\n    RunStore(sys.argv[1]).writer('run').__enter__()\nexcept StoreBusy as busy:\n    print(busy.message)\n"
    )
    with store.writer("run"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(store.root)], capture_output=True, text=True, check=True
        )
    import os

    assert done.stdout == f"the run is being written by process {os.getpid()}\n"


@pytest.mark.timing
def test_writers_in_threads_take_turns(store: RunStore) -> None:
    """However many try, each commit is one generation: none is lost, none doubled."""
    done: list[int] = []

    def work() -> None:
        for _ in range(200):
            try:
                with store.writer("run") as writer:
                    made = writer.commit(make_contents(mark=1 + (writer.current.generation if writer.current else 0)))
                    done.append(made.generation)
                    return
            except StoreBusy:
                threading.Event().wait(0.02)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [1, 2, 3, 4]
    assert store.open("run").attributes["mark"] == store.open("run").generation == 4


def test_names_lists_committed_runs_only(store: RunStore) -> None:
    assert store.names() == ()
    with store.writer("b") as writer:
        writer.commit(make_contents(name="b"))
    with store.writer("a.1-x_") as writer:
        writer.commit(make_contents(name="a.1-x_"))
    with store.writer("never-committed") as writer:
        writer.theta_begin(4, "float16", range(1), key="k")
        writer.write_theta(0, 0, bytes(8))
    assert store.names() == ("a.1-x_", "b")
    with pytest.raises(RunMissing, match="no run 'never-committed'"):
        store.open("never-committed")


def test_a_missing_run_names_those_there_are(store: RunStore) -> None:
    with pytest.raises(RunMissing) as caught:
        store.open("run")
    assert "no runs" in caught.value.hint
    with store.writer("there") as writer:
        writer.commit(make_contents(name="there"))
    with pytest.raises(RunMissing) as caught:
        store.open("run")
    assert "there" in caught.value.hint


def test_remove_takes_the_run_and_its_work(store: RunStore) -> None:
    with store.writer("run") as writer:
        writer.commit(make_contents())
        writer.journal("k").append(0, {"x": np.ones(2)}, {})
        with pytest.raises(StoreBusy):
            store.remove("run")
    store.remove("run")
    assert store.names() == ()
    assert [p for p in store.root.rglob("*") if not p.is_dir()] == []
    with pytest.raises(RunMissing):
        store.remove("run")
    with store.writer("run") as writer:
        assert writer.commit(make_contents()).generation == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a b", "-x", ".x", "x\n", "x\0", "é", "x" * 129, "a\\b", "x:y"]
)
def test_names_that_are_no_plain_file_names_are_refused(store: RunStore, name: str) -> None:
    with pytest.raises(BadRunName, match="not a run name"):
        store.writer(name)
    with pytest.raises(BadRunName):
        store.open(name)


@given(st.text(max_size=300))
def test_a_name_can_be_made_of_any_text(text: str) -> None:
    name = run_name(text)
    assert check_name(name) == name
    assert run_name(name) == name


def test_a_name_keeps_what_it_can() -> None:
    assert run_name("EleutherAI/pythia-70m") == "EleutherAI-pythia-70m"
    assert run_name("Année 2024 (v1.5)") == "Annee-2024-v1.5"
    assert run_name("../..") == "run"


def test_a_newer_format_is_refused_and_not_called_damaged(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_schema.format.manifest.FORMAT_VERSION", 2)
    with store.writer("run") as writer:
        writer.commit(make_contents())
    monkeypatch.undo()
    with pytest.raises(StoreVersion, match="of format trajsvc-run 2") as caught:
        store.open("run")
    assert "Upgrade" in caught.value.hint


def test_the_manifest_is_checked_by_ordinary_tools(store: RunStore) -> None:
    import hashlib
    import json

    with store.writer("run") as writer:
        run = writer.commit(make_contents())
    raw = (run.path / MANIFEST).read_bytes()
    words = json.loads(raw)
    assert words["sha256"] == hashlib.sha256(raw.split(b"\n", 1)[1]).hexdigest()
    for key, (size, digest) in words["files"].items():
        data = (run.path / key).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, digest)
    on_disk = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert on_disk == {MANIFEST, *words["files"]}
    with pytest.raises(StoreDamaged):
        parse(raw.replace(b'"generation": 1', b'"generation": 2'), Path(MANIFEST))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "other"}, "contents of run 'other'"),
        ({"gram": np.zeros((3, 4, 5))}, "gram is"),
        ({"rounding": np.zeros((3, 3))}, "rounding is"),
        ({"nonfinite": np.zeros((2, 4), np.int64)}, "nonfinite is"),
        ({"attributes": {"format": "x"}}, "belong to the store"),
        ({"attributes": {"x": float("nan")}}, "Out of range float"),
    ],
)
def test_contents_that_do_not_fit_are_refused_and_leave_nothing(
    store: RunStore, change: dict[str, object], words: str
) -> None:
    from dataclasses import replace

    with store.writer("run") as writer:
        with pytest.raises(ValueError, match=words):
            writer.commit(replace(make_contents(), **change))  # type: ignore[arg-type]
        assert writer.commit(make_contents()).generation == 1
    assert same(store.open("run").contents(), make_contents())


def test_listing_runs_and_their_attributes_needs_no_zarr(store: RunStore) -> None:
    with store.writer("run") as writer:
        writer.commit(make_contents(mark=7))
    script = (
        "import sys\nfrom storage_schema.runs.store import RunStore\nstore = RunStore(sys.argv[1])\n"
        "run = store.open(store.names()[0])\n"
        "print(run.name, run.attributes['mark'], run.checkpoint_count, run.gram([0]).shape)\n"
        "print([m for m in ('zarr', 'xarray', 'pandas', 'torch', 'dask') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.root)], capture_output=True, text=True, check=True)
    assert done.stdout == "run 7 4 (4, 4)\n[]\n"
