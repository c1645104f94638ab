"""Theta: whatever order slabs bring its columns in, the committed matrix is the one that was written, whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stored_runs import make_contents, same

from storage_schema.errors import StoreDamaged, ThetaIncomplete, ThetaLost, ThetaTypes
from storage_schema.format import arrays
from storage_schema.format.dtypes import common_type, holds, widen
from storage_schema.format.theta import ThetaLayout, shard_index, shard_offsets
from storage_schema.runs.store import RunStore, StoredRun
from storage_schema.runs.theta_staging import Spans
from storage_schema.runs.writer import RunWriter

NUMPY = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32, "float64": np.float64}


def random_theta(rows: int, columns: int, dtype: str, seed: int = 0) -> NDArray[np.generic]:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 256, (rows, columns * arrays.ITEMSIZE[dtype]), dtype=np.uint8)
    return bits.view(NUMPY[dtype])


def read(run: StoredRun, row: int, lo: int, hi: int) -> bytes:
    assert run.theta is not None
    out = bytearray((hi - lo) * run.theta.itemsize)
    run.read_theta(row, lo, hi, memoryview(out))
    return bytes(out)


def begin(writer: RunWriter, theta: NDArray[np.generic], dtype: str, first: int = 0, key: str = "k") -> bool:
    return writer.theta_begin(theta.shape[1], dtype, range(first, len(theta)), key=key)


def commit_rows(writer: RunWriter, theta: NDArray[np.generic], dtype: str, first: int = 0, mark: int = 0) -> StoredRun:
    begin(writer, theta, dtype, first)
    for row in range(first, len(theta)):
        writer.write_theta(row, 0, theta[row].data)
    return writer.commit(make_contents(len(theta), sizes=(theta.shape[1],), mark=mark))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 8 columns; shards of 32 above 100 columns."""
    monkeypatch.setattr(arrays, "THETA_CHUNK", 8)
    monkeypatch.setattr(arrays, "THETA_SHARD", 32)
    monkeypatch.setattr(arrays, "THETA_SHARD_ABOVE", 100)


@st.composite
def jigsaws(draw: st.DrawFn) -> tuple[int, int, str, list[tuple[int, int, int]]]:
    """A theta and (row, lo, hi) pieces that cover it, in any order, some of them twice."""
    rows, columns = draw(st.integers(1, 4)), draw(st.sampled_from([1, 7, 8, 9, 31, 32, 33, 100, 101, 128, 150]))
    pieces = []
    for row in range(rows):
        cuts = sorted({0, columns, *draw(st.lists(st.integers(0, columns), max_size=6))})
        pieces += [(row, lo, hi) for lo, hi in pairwise(cuts)]
    pieces += draw(st.lists(st.sampled_from(pieces), max_size=3))
    return rows, columns, draw(st.sampled_from(arrays.FLOAT_TYPES)), draw(st.permutations(pieces))


@pytest.mark.slow
@given(jigsaws(), st.data())
@settings(max_examples=60, deadline=None)
def test_pieces_in_any_order_make_the_matrix(
    memory_folders: Callable[[], Path],
    jigsaw: tuple[int, int, str, list[tuple[int, int, int]]],
    data: st.DataObject,
) -> None:
    rows, columns, dtype, pieces = jigsaw
    theta = random_theta(rows, columns, dtype)
    store = RunStore(memory_folders())
    with pytest.MonkeyPatch.context() as patch, store.writer("run") as writer:
        for name, value in (("THETA_CHUNK", 8), ("THETA_SHARD", 32), ("THETA_SHARD_ABOVE", 100)):
            patch.setattr(arrays, name, value)
        begin(writer, theta, dtype)
        for row, lo, hi in pieces:
            writer.write_theta(row, lo, theta[row, lo:hi].data)
        run = writer.commit(make_contents(rows, sizes=(columns,)))
    assert run.verify() == ()
    assert run.theta is not None
    assert bool(run.theta.shard) == (columns > 100)
    plain = zarr.open_group(run.path, mode="r")["theta"]
    assert isinstance(plain, zarr.Array)
    assert plain.shards == ((1, 32) if columns > 100 else None)
    assert np.asarray(plain[:]).tobytes() == theta.tobytes()
    assert np.asarray(run.group["theta"][:]).tobytes() == theta.tobytes()  # type: ignore[union-attr,index]
    row = data.draw(st.integers(0, rows - 1))
    lo = data.draw(st.integers(0, columns))
    hi = data.draw(st.integers(lo, columns))
    assert read(StoredRun(run.path), row, lo, hi) == theta[row, lo:hi].tobytes()


@pytest.mark.timing
@pytest.mark.usefixtures("small_chunks")
def test_threads_may_write_the_same_files(store: RunStore) -> None:
    theta = random_theta(3, 400, "float32")
    pieces = [(row, lo, min(400, lo + 5)) for row in range(3) for lo in range(0, 400, 5)]
    np.random.default_rng(0).shuffle(pieces)
    with store.writer("run") as writer:
        begin(writer, theta, "float32")

        def work(mine: list[tuple[int, int, int]]) -> None:
            for row, lo, hi in mine:
                writer.write_theta(int(row), int(lo), theta[row, lo:hi].data)

        threads = [threading.Thread(target=work, args=(pieces[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run = writer.commit(make_contents(3, sizes=(400,)))
    assert run.verify() == ()
    assert b"".join(read(run, row, 0, 400) for row in range(3)) == theta.tobytes()


def test_what_is_written_last_counts_and_is_what_was_hashed(store: RunStore) -> None:
    """A slab that is written a second time, with other bytes, replaces the first in the file and in its SHA-256."""
    theta = random_theta(1, 40, "float32")
    with store.writer("run") as writer:
        begin(writer, theta, "float32")
        writer.write_theta(0, 0, bytes(160))
        writer.write_theta(0, 7, theta[0, 7:].data)
        writer.write_theta(0, 0, theta[0, :7].data)
        run = writer.commit(make_contents(1, sizes=(40,)))
    assert run.verify() == ()
    assert read(run, 0, 0, 40) == theta[0].tobytes()


@pytest.mark.parametrize("hole", [(0, 1), (17, 18), (399, 400)])
def test_a_row_with_a_hole_is_not_committed(store: RunStore, hole: tuple[int, int]) -> None:
    theta = random_theta(2, 400, "float16")
    with store.writer("run") as writer:
        begin(writer, theta, "float16")
        writer.write_theta(0, 0, theta[0].data)
        writer.write_theta(1, 0, theta[1, : hole[0]].data)
        writer.write_theta(1, hole[1], theta[1, hole[1] :].data)
        with pytest.raises(ThetaIncomplete, match=f"columns {hole[0]} to {hole[1]} of row 1"):
            writer.commit(make_contents(2, sizes=(400,)))
        assert store.names() == ()
        writer.write_theta(1, hole[0], theta[1, hole[0] : hole[1]].data)
        run = writer.commit(make_contents(2, sizes=(400,)))
    assert read(run, 1, 0, 400) == theta[1].tobytes()


@pytest.mark.usefixtures("small_chunks")
def test_an_append_writes_new_rows_and_touches_no_old_one(store: RunStore) -> None:
    theta = random_theta(5, 120, "float16")
    with store.writer("run") as writer:
        commit_rows(writer, theta[:3], "float16")
    old = {
        p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (store.path("run") / "theta/c").rglob("*") if p.is_file()
    }
    with store.writer("run") as writer:
        run = commit_rows(writer, theta, "float16", first=3, mark=1)
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in old} == old
    assert b"".join(read(run, row, 0, 120) for row in range(5)) == theta.tobytes()
    assert run.verify() == ()


@pytest.mark.usefixtures("small_chunks")
def test_a_rewrite_with_fewer_columns_leaves_no_old_file(store: RunStore) -> None:
    with store.writer("run") as writer:
        commit_rows(writer, random_theta(4, 120, "float32"), "float32")
        theta = random_theta(2, 9, "float16", seed=1)
        run = commit_rows(writer, theta, "float16")
        files = {p.relative_to(run.path).as_posix() for p in run.path.rglob("theta/c/*/*")}
        assert files == {"theta/c/0/0", "theta/c/0/1", "theta/c/1/0", "theta/c/1/1"}
        assert read(run, 1, 0, 9) == theta[1].tobytes()
        assert not (writer.commit(make_contents(2, sizes=(9,)), theta="drop")).has_theta
    assert not (store.path("run") / "theta").exists()


def test_a_commit_without_theta_keeps_the_one_there_is(store: RunStore) -> None:
    theta = random_theta(2, 9, "float16")
    with store.writer("run") as writer:
        commit_rows(writer, theta, "float16")
    with store.writer("run") as writer:
        run = writer.commit(make_contents(2, sizes=(9,), mark=4))
    assert read(run, 1, 0, 9) == theta[1].tobytes()
    assert run.attributes["mark"] == 4


def test_a_copy_is_never_lost_or_mistaken_in_silence(store: RunStore) -> None:
    from dataclasses import replace

    theta = random_theta(2, 9, "float16")
    with store.writer("run") as writer:
        commit_rows(writer, theta, "float16")
        good = make_contents(2, sizes=(9,))
        others = replace(good.checkpoints, fingerprint=("x", "y"))
        for contents in (
            make_contents(3, sizes=(9,)),
            make_contents(2, sizes=(4, 4)),
            replace(good, checkpoints=others),
        ):
            with pytest.raises(ThetaLost) as caught:
                writer.commit(contents)
            assert "--copy" in caught.value.hint
        with pytest.raises(ThetaLost, match="float32 rows do not go with it"):
            writer.theta_begin(9, "float32", range(2, 3), key="k")
        with pytest.raises(ThetaLost, match="no 2 rows of 10"):
            writer.theta_begin(10, "float16", range(2, 3), key="k")
        with pytest.raises(ThetaLost, match="no 3 rows"):
            writer.theta_begin(9, "float16", range(3, 4), key="k")
    assert same(store.open("run").contents(), good)
    assert read(store.open("run"), 0, 0, 9) == theta[0].tobytes()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("columns", [50, 150])
def test_an_interrupted_copy_goes_on_where_it_was_synced(store: RunStore, columns: int) -> None:
    theta = random_theta(3, columns, "float32")
    half = columns // 2 + 1
    with store.writer("run") as writer:
        assert begin(writer, theta, "float32") is False
        for row in range(3):
            writer.write_theta(row, 0, theta[row, :half].data)
        writer.journal("k").append(0, {"x": np.ones(1)}, {})
        for row in range(3):  # not synced: it may be lost, so it does not count
            writer.write_theta(row, half, theta[row, half:].data)
    with store.writer("run") as writer:
        assert begin(writer, theta, "float32") is True
        with pytest.raises(ThetaIncomplete, match=f"columns {half} to {columns} of row 0"):
            writer.commit(make_contents(3, sizes=(columns,)))
        for row in range(3):
            writer.write_theta(row, half, theta[row, half:].data)
        run = writer.commit(make_contents(3, sizes=(columns,)))
    assert run.verify() == ()
    assert b"".join(read(run, row, 0, columns) for row in range(3)) == theta.tobytes()
    with store.writer("run") as writer:
        assert begin(writer, theta, "float32") is False


def test_another_job_does_not_go_on_with_the_copy(store: RunStore) -> None:
    theta = random_theta(1, 20, "float32")
    with store.writer("run") as writer:
        begin(writer, theta, "float32", key="one")
        writer.write_theta(0, 0, theta[0].data)
        writer.sync_theta()
    with store.writer("run") as writer:
        assert begin(writer, theta, "float32", key="two") is False
        with pytest.raises(ThetaIncomplete):
            writer.commit(make_contents(1, sizes=(20,)))


def test_a_failed_commit_can_be_made_again(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are closed and hashed, then publishing fails: the same writer commits them at the second try."""
    theta = random_theta(2, 20, "float32")
    with store.writer("run") as writer:
        begin(writer, theta, "float32")
        for row in range(2):
            writer.write_theta(row, 0, theta[row].data)

        def fail(run: Path, manifest: object) -> None:
            raise OSError("no")

        monkeypatch.setattr("storage_schema.runs.commit.publish", fail)
        with pytest.raises(OSError, match="no"):
            writer.commit(make_contents(2, sizes=(20,)))
        monkeypatch.undo()
        run = writer.commit(make_contents(2, sizes=(20,)))
    assert run.verify() == ()
    assert read(run, 1, 0, 20) == theta[1].tobytes()


@pytest.mark.parametrize(
    ("row", "lo", "data"), [(2, 0, bytes(2)), (-1, 0, bytes(2)), (0, 8, bytes(4)), (0, -1, bytes(2)), (0, 0, bytes(3))]
)
def test_a_range_outside_theta_is_refused(store: RunStore, row: int, lo: int, data: bytes) -> None:
    with store.writer("run") as writer:
        writer.theta_begin(9, "float16", range(2), key="k")
        with pytest.raises(ValueError, match="do not fit"):
            writer.write_theta(row, lo, data)


def test_reading_outside_theta_is_refused(store: RunStore) -> None:
    with store.writer("run") as writer:
        plain = writer.commit(make_contents(2, sizes=(9,)))
        with pytest.raises(LookupError, match="keeps no copy"):
            read_bytes(plain, 0, 0, 1, 2)
        run = commit_rows(writer, random_theta(2, 9, "float16"), "float16")
    for row, lo, hi, size in ((2, 0, 1, 2), (-1, 0, 1, 2), (0, 0, 10, 20), (0, 5, 4, 0), (0, 0, 2, 3)):
        with pytest.raises(ValueError, match=r"not in a theta|a buffer of"):
            read_bytes(run, row, lo, hi, size)


def read_bytes(run: StoredRun, row: int, lo: int, hi: int, size: int) -> None:
    run.read_theta(row, lo, hi, memoryview(bytearray(size)))


def test_a_file_is_hashed_once_however_often_it_is_read(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.writer("run") as writer:
        commit_rows(writer, random_theta(1, 1000, "float16"), "float16")
    run = store.open("run")
    hashed: list[int] = []
    from storage_schema.runs import snapshot

    real = snapshot._hash
    monkeypatch.setattr(snapshot, "_hash", lambda fd: hashed.append(fd) or real(fd))  # type: ignore[func-returns-value]
    for lo in range(0, 1000, 10):
        read(run, 0, lo, lo + 10)
    assert len(hashed) == 1


@pytest.mark.parametrize("wide", ["float32", "float64"])
@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_every_value_of_a_half_type_is_kept_in_a_wider_one(narrow: str, wide: str) -> None:
    """All 65536 of them, against torch's own conversion."""
    import torch

    bits = np.arange(65536, dtype=np.uint16)
    made = np.frombuffer(widen(bits.data, narrow, wide), NUMPY[wide])
    want = torch.from_numpy(bits.view(np.int16)).view(getattr(torch, narrow)).to(getattr(torch, wide)).numpy()
    number = ~np.isnan(want)
    assert made[number].tobytes() == want[number].tobytes()
    assert np.isnan(made[~number]).all()
    assert (~number).any()


def test_rows_of_several_types_are_kept_in_the_one_that_holds_them(store: RunStore) -> None:
    half = random_theta(1, 20, "float16", seed=1)
    half[~np.isfinite(half)] = 1.5
    brain, full = random_theta(1, 20, "bfloat16", seed=2), random_theta(1, 20, "float32", seed=3)
    dtype = common_type(["float16", "bfloat16", "float32"])
    with store.writer("run") as writer:
        writer.theta_begin(20, dtype, range(3), key="k")
        writer.write_theta(0, 0, half[0].data, "float16")
        writer.write_theta(1, 0, brain[0].data, "bfloat16")
        writer.write_theta(2, 0, full[0].data)
        run = writer.commit(make_contents(3, sizes=(20,)))
    assert read(run, 0, 0, 20) == half[0].astype(np.float32).tobytes()
    assert read(run, 1, 0, 20) == (brain[0].astype(np.uint32) << 16).tobytes()
    assert read(run, 2, 0, 20) == full[0].tobytes()


@pytest.mark.parametrize(
    ("dtypes", "found"),
    [
        (["float16"], "float16"), (["bfloat16"], "bfloat16"), (["float16", "bfloat16"], "float32"),
        (["float32", "float16"], "float32"), (["float64", "bfloat16"], "float64"), (["float32", "float32"], "float32"),
    ],
)  # fmt: skip
def test_the_narrowest_type_that_loses_nothing(dtypes: list[str], found: str) -> None:
    assert common_type(dtypes) == found
    assert all(holds(found, d) for d in dtypes)


@pytest.mark.parametrize("dtypes", [[], ["int8"], ["float8_e4m3fn", "float32"], ["mixed"]])
def test_types_that_theta_does_not_keep_are_refused(dtypes: list[str]) -> None:
    with pytest.raises(ThetaTypes, match="without loss"):
        common_type(dtypes)


def test_narrowing_is_refused() -> None:
    with pytest.raises(ThetaTypes, match="float16 does not hold float32"):
        widen(bytes(4), "float32", "float16")


def test_bfloat16_is_stored_as_its_bits_and_says_so(store: RunStore) -> None:
    theta = random_theta(1, 9, "bfloat16")
    with store.writer("run") as writer:
        run = commit_rows(writer, theta, "bfloat16")
    array = zarr.open_group(run.path, mode="r")["theta"]
    assert isinstance(array, zarr.Array)
    assert array.dtype == np.uint16
    assert array.attrs["stored_type"] == "bfloat16"
    (run.path / "theta/c/0/0").unlink()
    assert (np.asarray(array[:]) == 0x7FC0).all(), "to a reader that checks nothing, a lost chunk is NaN"
    with pytest.raises(StoreDamaged):
        read(StoredRun(run.path), 0, 0, 9)


def test_the_real_sizes() -> None:
    """Files of a 12-billion-parameter run: thousands, of 128 MiB and an index, and the chunks the design names."""
    small, large = ThetaLayout.of(154, 70_000_000, "float16"), ThetaLayout.of(154, 11_846_072_320, "float16")
    assert (small.span, small.shard, small.files_in_row) == (2**20, 0, 67)
    assert (large.chunk, large.span, large.files_in_row) == (2**20, 2**26, 177)
    assert large.data_bytes(0) == 2**27
    assert large.data_bytes(176) == -(-(11_846_072_320 - 176 * 2**26) // 2**20) * 2**21
    assert len(large.tail(0)) == 64 * 16 + 4


@given(st.integers(1, 64), st.integers(0, 64), st.integers(1, 2**30))
def test_the_index_of_a_shard_is_zarrs(total: int, present: int, step: int) -> None:
    present = min(present, total)
    raw = shard_index(present, total, step)
    offsets = shard_offsets(memoryview(raw), total)
    assert offsets.tolist() == [i * step if i < present else 2**64 - 1 for i in range(total)]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))), st.integers(1, 60))
def test_spans_are_sets(ranges: list[tuple[int, int]], size: int) -> None:
    spans = Spans(ranges)
    members = {i for lo, hi in ranges for i in range(lo, hi)}
    assert {i for lo, hi in spans.pairs() for i in range(lo, hi)} == members
    assert all(a[1] < b[0] for a, b in pairwise(spans.pairs()))
    missing = sorted(set(range(size)) - members)
    gap = spans.gap(size)
    assert (gap is None) == (not missing)
    if gap is not None:
        assert gap[0] == missing[0]
        assert set(range(*gap)) <= set(missing)
        assert gap[1] == size or gap[1] in members
    for lo in range(0, 60, 7):
        assert spans.covers(lo, lo + 9) == (set(range(lo, lo + 9)) <= members)
