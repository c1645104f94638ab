"""Cold storage: theta rewritten as differences comes back bit for bit, and is smaller where checkpoints are close."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from stored_runs import make_contents, same

from storage_schema.errors import StoreDamaged
from storage_schema.format import arrays
from storage_schema.format.delta_codec import decode, encode, fold, ordered, unfold, unordered
from storage_schema.runs import archive
from storage_schema.runs.archive import archive_theta, restore_theta
from storage_schema.runs.store import RunStore, StoredRun

WORDS = st.sampled_from([np.uint16, np.uint32, np.uint64])


@st.composite
def word_pairs(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    kind = np.dtype(draw(WORDS))
    some = st.integers(0, 2 ** (8 * kind.itemsize) - 1)
    size = draw(st.integers(0, 20))
    return draw(hnp.arrays(kind, size, elements=some)), draw(hnp.arrays(kind, size, elements=some))


@given(word_pairs())
def test_every_step_is_a_bijection(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
    bits, before = pair
    for there, back in ((ordered, unordered), (fold, unfold), (unordered, ordered), (unfold, fold)):
        assert np.array_equal(back(there(bits)), bits)
        assert there(bits).dtype == bits.dtype
    assert np.array_equal(decode(encode(bits, before), before), bits)
    assert np.array_equal(decode(encode(bits, None), None), bits)


@given(hnp.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False)))
def test_ordered_bits_order_as_the_numbers_do(values: NDArray[np.float32]) -> None:
    words = ordered(values.view(np.uint32))
    for i in range(len(values) - 1):
        if values[i] != values[i + 1]:
            assert (words[i] < words[i + 1]) == (values[i] < values[i + 1])


def test_small_differences_of_either_sign_are_small_words() -> None:
    signed = np.array([0, -1, 1, -2, 2, -(2**15)], np.int16)
    assert fold(signed.view(np.uint16)).tolist() == [0, 1, 2, 3, 4, 2**16 - 1]
    zeros = np.array([0.0, -0.0], np.float16).view(np.uint16)
    assert encode(zeros[:1], zeros[1:]).tolist() == [2]


def special(kind: str) -> NDArray[Any]:
    """NaN payloads, signalling NaNs, infinities, signed zeros, subnormals, in a matrix of random bits."""
    word = np.dtype({"float16": "u2", "bfloat16": "u2", "float32": "u4", "float64": "u8"}[kind])
    bits = np.random.default_rng(3).integers(0, 256, (4, 90 * word.itemsize), dtype=np.uint8).view(word)
    top = word.itemsize * 8 - 1
    exponent = {"float16": 5, "bfloat16": 8, "float32": 8, "float64": 11}[kind]
    infinity = ((1 << exponent) - 1) << (top - exponent)
    bits[:, :8] = [
        0,
        1 << top,
        infinity,
        infinity | 1 << top,
        infinity | 1,
        infinity | 1 << top | 77,
        1,
        (1 << top) - 1,
    ]
    bits[2, :8] = bits[2, :8][::-1]
    return bits


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("dtype", arrays.FLOAT_TYPES)
def test_archived_and_restored_bit_for_bit(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, dtype: str, sharded: bool
) -> None:
    monkeypatch.setattr(arrays, "THETA_CHUNK", 16)
    if sharded:
        monkeypatch.setattr(arrays, "THETA_SHARD", 64)
        monkeypatch.setattr(arrays, "THETA_SHARD_ABOVE", 80)
        monkeypatch.setattr(archive, "ARCHIVE_SHARD", 32)
    bits = special(dtype)
    contents = make_contents(4, sizes=(90,), mark=3)
    with store.writer("run") as writer:
        writer.theta_begin(90, dtype, range(4), key="k")
        for row in range(4):
            writer.write_theta(row, 0, bits[row].data)
        before = writer.commit(contents)
        report = archive_theta(writer)
    cold = store.open("run")
    assert (cold.generation, cold.has_theta, cold.has_archive) == (2, False, True)
    assert same(cold.contents(), contents)
    assert cold.verify() == ()
    assert report.raw_bytes == sum(e.size for k, e in before.entries.items() if k.startswith("theta/c/"))
    assert report.archived_bytes == sum(e.size for k, e in cold.entries.items() if k.startswith("theta_archive/c/"))
    assert not (cold.path / "theta").exists()
    with store.writer("run") as writer:
        warm = restore_theta(writer)
    assert (warm.generation, warm.has_theta, warm.has_archive) == (3, True, False)
    assert warm.theta == before.theta
    theta_files = {k: e for k, e in before.entries.items() if k.startswith("theta/")}
    assert {k: e for k, e in warm.entries.items() if k.startswith("theta/")} == theta_files
    out = np.empty_like(bits)
    for row in range(4):
        warm.read_theta(row, 0, 90, memoryview(out[row]).cast("B"))
    assert out.tobytes() == bits.tobytes()
    assert same(warm.contents(), contents)


def test_close_checkpoints_gain(store: RunStore) -> None:
    """A float16 trajectory whose updates are a few units in the last place: the archive is less than half."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(2**20) * 0.02
    theta = np.stack([start + 1e-5 * t * rng.standard_normal(2**20) for t in range(5)]).astype(np.float16)
    with store.writer("run") as writer:
        writer.theta_begin(2**20, "float16", range(5), key="k")
        for row in range(5):
            writer.write_theta(row, 0, theta[row].data)
        writer.commit(make_contents(5, sizes=(2**20,)))
        report = archive_theta(writer)
    assert report.raw_bytes == theta.nbytes
    assert report.gain > 1.8
    print(f"gain {report.gain:.2f}")


def test_a_wrong_encoding_is_noticed_before_anything_is_dropped(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = special("float16")
    with store.writer("run") as writer:
        writer.theta_begin(90, "float16", range(4), key="k")
        for row in range(4):
            writer.write_theta(row, 0, bits[row].data)
        writer.commit(make_contents(4, sizes=(90,)))
        monkeypatch.setattr(archive, "encode", lambda row, before: encode(row, before) ^ np.uint16(1))
        with pytest.raises(StoreDamaged, match="does not decode"):
            archive_theta(writer)
        monkeypatch.undo()
    run = store.open("run")
    assert run.generation == 1
    out = memoryview(bytearray(180))
    run.read_theta(3, 0, 90, out)
    assert bytes(out) == bits[3].tobytes()


def test_an_altered_archive_is_not_restored(store: RunStore) -> None:
    bits = special("float32")
    with store.writer("run") as writer:
        writer.theta_begin(90, "float32", range(4), key="k")
        for row in range(4):
            writer.write_theta(row, 0, bits[row].data)
        writer.commit(make_contents(4, sizes=(90,)))
        archive_theta(writer)
    path = store.path("run") / "theta_archive/c/1/0"
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    with store.writer("run") as writer, pytest.raises(StoreDamaged, match="theta_archive/c/1/0"):
        restore_theta(writer)
    assert StoredRun(store.path("run")).verify() == ("theta_archive/c/1/0",)


def test_there_must_be_something_to_archive_or_restore(store: RunStore) -> None:
    with store.writer("run") as writer:
        with pytest.raises(LookupError, match="no copy"):
            archive_theta(writer)
        writer.commit(make_contents())
        with pytest.raises(LookupError, match="no copy"):
            archive_theta(writer)
        with pytest.raises(LookupError, match="no archive"):
            restore_theta(writer)


def test_an_archive_goes_on_through_a_commit_of_the_same_checkpoints(store: RunStore) -> None:
    with store.writer("run") as writer:
        writer.theta_begin(90, "float32", range(4), key="k")
        for row in range(4):
            writer.write_theta(row, 0, special("float32")[row].data)
        writer.commit(make_contents(4, sizes=(90,)))
        archive_theta(writer)
        run = writer.commit(make_contents(4, sizes=(90,), mark=2))
    assert run.has_archive
    assert run.verify() == ()
    assert run.attributes["mark"] == 2
