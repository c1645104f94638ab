"""Torch archives: every way in which one can be wrong or do harm, and what training scripts really save."""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import pickle
import struct
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_torch as bad
import numpy as np
import pytest
import torch
from bad_torch import archived, changed, described, saved, with_pickle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from slow_params import slow_but
from torch import nn

from storage_schema.format.arrays import FLOAT_TYPES
from trajsvc.errors import TrajsvcError
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.files import Files, Region
from trajsvc.sources.formats.torch_state import TorchHeader, read_torch
from trajsvc.trajectory.elements import read_elements

Open = Callable[[str | Path], Region]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 3)


def legacy(value: object) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def script() -> bytes:
    contents = bad.members(saved({"a": torch.ones(2)}))
    prefix = next(iter(contents)).partition("/")[0]
    return archived({**contents, f"{prefix}/constants.pkl": b"\x80\x02).", f"{prefix}/code/model.py": b"def f(): pass"})


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("data.pkl")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"abcd"))
    return out.getvalue()


def sized(count: int) -> bytes:
    return struct.pack("<Q", count)


def dropped(contents: dict[str, bytes]) -> None:
    contents.pop(next(n for n in contents if n.endswith("data/0")))


def shortened(contents: dict[str, bytes]) -> None:
    name = next(n for n in contents if n.endswith("data/0"))
    contents[name] = contents[name][:-4]


def outside(contents: dict[str, bytes]) -> None:
    contents["../../x"] = b"x"


def big(contents: dict[str, bytes]) -> None:
    contents[next(n for n in contents if n.endswith("byteorder"))] = b"big"


def no_pickle(contents: dict[str, bytes]) -> None:
    contents.pop(next(n for n in contents if n.endswith("data.pkl")))


DEEP = 200_000
GOOD = saved({"weight": torch.arange(12.0), "bias": torch.ones(3)})
BAD: list[tuple[str, Callable[[], bytes], str, str | None]] = [
    ("empty", lambda: b"", "empty-file", None),
    ("random bytes", lambda: np.random.default_rng(0).bytes(5000), "malformed-torch", None),
    ("raw pickle", lambda: pickle.dumps({"a": [1, 2]}), "legacy-torch", None),
    ("raw pickle, protocol 0", lambda: pickle.dumps({"a": [1, 2]}, 0), "legacy-torch", None),
    ("legacy", lambda: legacy({"a": torch.ones(2)}), "legacy-torch", None),
    ("tar", tarred, "legacy-torch", None),
    ("gzip", lambda: gzip.compress(GOOD), "legacy-torch", None),
    ("HTML", lambda: b"<!doctype html><html></html>", "html-instead-of-file", None),
    ("LFS pointer", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs-pointer", None),
    ("truncated", lambda: GOOD[:-40], "malformed-zip", None),
    ("truncated at half", lambda: GOOD[: len(GOOD) // 2], "malformed-zip", None),
    ("bytes in front", lambda: b"PK\x03\x04" + bytes(60) + GOOD, "malformed-zip", None),
    ("bytes behind", lambda: GOOD + bytes(7), "malformed-zip", None),
    ("missing storage", lambda: changed(dropped), "missing-storage", "weight"),
    ("short storage", lambda: changed(shortened), "short-storage", "weight"),
    ("2 GB deflated", lambda: archived({"a/data.pkl": bytes(10**6), "a/data/0": bytes(10**6)}, deflate=True), "compressed-member", None),
    ("duplicate member", lambda: bad.duplicate_member(GOOD), "malformed-zip", None),
    ("member outside", lambda: changed(outside), "unsafe-member", None),
    ("no data.pkl", lambda: changed(no_pickle), "malformed-torch", None),
    ("two data.pkl", lambda: archived({"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "malformed-torch", None),
    ("size beyond the file", lambda: bad.corrupted_directory(GOOD, b"data/0", 20, struct.pack("<II", 10**8, 10**8)), "malformed-zip", None),
    ("two sizes", lambda: bad.corrupted_directory(GOOD, b"data/0", 20, struct.pack("<I", 4)), "malformed-zip", None),
    ("encrypted", lambda: bad.corrupted_directory(GOOD, b"data/0", 8, b"\x01\x00"), "compressed-member", None),
    ("local header elsewhere", lambda: bad.corrupted_directory(GOOD, b"data.pkl", 42, struct.pack("<I", 8)), "malformed-zip", None),
    ("flipped byte in data.pkl", lambda: GOOD.replace(b"weight", b"weighs", 1), "checksum-mismatch", None),
    ("TorchScript", script, "torchscript", None),
    ("big-endian", lambda: changed(big), "big-endian", None),
    ("full module", lambda: saved(Net()), "pickled-module", None),
    ("full module under a key", lambda: saved({"model": Net(), "epoch": 3}), "pickled-module", None),
    ("no tensors", lambda: saved({"epoch": 3, "args": {"lr": 0.1}}), "no-tensors", None),
    ("a tensor alone", lambda: saved(torch.ones(3)), "pickled-module", None),
    ("two models", lambda: saved({"g": {"w": torch.ones(2)}, "d": {"w": torch.ones(2)}}), "ambiguous-state-dict", None),
    ("numpy array", lambda: saved({"w": torch.ones(2), "v": np.ones(3)}), "unsupported-tensor", "v"),
    ("sparse", lambda: saved({"w": torch.ones(3, 3).to_sparse()}), "unsupported-tensor", "w"),
    ("meta", lambda: saved({"w": torch.ones(3, device="meta")}), "unsupported-tensor", "w"),
    ("expanded 10^6 x 10^6", lambda: saved({"w": torch.ones(1, 1).expand(10**6, 10**6)}), "expanded-tensor", "w"),
    ("view beyond its storage", lambda: with_pickle(described(offset=1)), "bad-view", "weight"),
    ("strides beyond the storage", lambda: with_pickle(described(shape=(4,), strides=(6,))), "bad-view", "weight"),
    ("negative stride", lambda: with_pickle(described(strides=(-1,), offset=15)), "malformed-torch", "weight"),
    ("negative dimension", lambda: with_pickle(described(shape=(-16,))), "malformed-torch", "weight"),
    ("shape and strides", lambda: with_pickle(described(shape=(4, 4))), "malformed-torch", "weight"),
    ("shape (2^60,)", lambda: with_pickle(described(shape=(2**60,))), "malformed-torch", "weight"),
    ("shape overflows", lambda: with_pickle(described(shape=(2**32, 2**32), strides=(0, 0))), "bad-shape", "weight"),
    ("storage of 2^60", lambda: with_pickle(described(count=2**60)), "malformed-torch", "weight"),
    ("negative storage", lambda: with_pickle(described(count=-1)), "malformed-torch", "weight"),
    ("quantised storage", lambda: with_pickle(described(storage="QInt8Storage")), "unsupported-tensor", "weight"),
    ("meta storage", lambda: with_pickle(described(location="meta")), "unsupported-tensor", "weight"),
    ("rank 17", lambda: with_pickle(described(shape=(1,) * 17, strides=(1,) * 17)), "limit-exceeded", "weight"),
    ("path as a storage", lambda: with_pickle(described(key="../../../../etc/passwd")), "missing-storage", "weight"),
    ("deep lists", lambda: with_pickle(b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b"."), "pickled-module", None),
    ("deep tuples", lambda: with_pickle(b"\x80\x02N" + b"\x85" * DEEP + b"."), "pickled-module", None),
    ("deep tuple as a key", lambda: with_pickle(b"\x80\x02}N" + b"\x85" * DEEP + b"Ns."), "malformed-pickle", None),
    ("calls in calls", lambda: with_pickle(b"\x80\x02" + b"ca\nb\n" * 50_000 + b"N" + b"\x85R" * 50_000 + b"."), "pickled-module", None),
    ("calls of calls", lambda: with_pickle(b"\x80\x02ca\nb\n" + b")R" * 150_000 + b"."), "pickled-module", None),
    ("deep parameters", lambda: with_pickle(deep_parameters()), "no-tensors", None),
    ("dictionary in itself", lambda: with_pickle(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."), "no-tensors", None),
    ("billion dictionaries", lambda: with_pickle(nested_dictionaries()), "limit-exceeded", None),
    ("string of 2^62 bytes", lambda: with_pickle(b"\x80\x04\x8d" + sized(2**62) + b"abc."), "malformed-pickle", None),
    ("bytes of 2^62", lambda: with_pickle(b"\x80\x04\x8e" + sized(2**62) + b"abc."), "malformed-pickle", None),
    ("bytearray of 2^33", lambda: with_pickle(b"\x80\x05\x96" + sized(2**33) + b"abc."), "malformed-pickle", None),
    ("frame of 2^62", lambda: with_pickle(b"\x80\x04\x95" + sized(2**62) + b"."), "malformed-pickle", None),
    ("memo at 2^32", lambda: with_pickle(b"\x80\x02Nr\xff\xff\xff\xff."), "pickled-module", None),
    ("many lists", lambda: with_pickle(b"\x80\x02" + b"]" * 10**6 + b"."), "limit-exceeded", None),
    ("many opcodes", lambda: with_pickle(b"\x80\x02" + b"N0" * 1_600_000 + b"N."), "limit-exceeded", None),
    ("pickle of 17 MiB", lambda: with_pickle(bytes(17 * 2**20)), "limit-exceeded", None),
    ("keys that may collide", lambda: with_pickle(b"\x80\x02}\x8a\x08" + sized(2**61 - 1) + b"Ns."), "malformed-pickle", None),
    ("no stop", lambda: with_pickle(b"\x80\x02}"), "malformed-pickle", None),
    ("stop at once", lambda: with_pickle(b"\x80\x02."), "malformed-pickle", None),
    ("pops nothing", lambda: with_pickle(b"\x80\x020."), "malformed-pickle", None),
    ("unknown memo", lambda: with_pickle(b"\x80\x02h\x07."), "malformed-pickle", None),
    ("unknown opcode", lambda: with_pickle(b"\x80\x02\xff."), "malformed-pickle", None),
    ("extension", lambda: with_pickle(b"\x80\x02\x82\x01."), "malformed-pickle", None),
    ("call of nothing", lambda: with_pickle(b"\x80\x02(o."), "malformed-pickle", None),
    ("global without a module", lambda: with_pickle(b"\x80\x02c\nx\n."), "pickled-module", None),
    ("mark lost", lambda: with_pickle(b"\x80\x02N(0t."), "malformed-pickle", None),
    ("items on a number", lambda: with_pickle(b"\x80\x02K\x01NNs."), "malformed-pickle", None),
    ("list as a key", lambda: with_pickle(b"\x80\x02}]Ns."), "malformed-pickle", None),
]  # fmt: skip


def deep_parameters() -> bytes:
    rebuild = b"ctorch._utils\n_rebuild_parameter\n"
    return b"\x80\x02}X\x01\x00\x00\x00w" + rebuild * 20_000 + b"N" + b"\x85R" * 20_000 + b"s."


def nested_dictionaries() -> bytes:
    """Seven levels of a dictionary whose hundred entries are all the next one: 10^14 leaves in a few kilobytes."""
    levels = [b"}("]
    for level in range(7):
        inner = b"K\x01" if level == 0 else b"h" + bytes([level - 1])
        levels.append(
            b"".join(b"X\x02\x00\x00\x00%02d" % i + inner for i in range(100)) + b"uq" + bytes([level]) + b"}("
        )
    return b"\x80\x02" + b"".join(levels) + b"X\x05\x00\x00\x00modelh\x06u."


CASES = {name: case for name, *case in BAD}
LONG = (
    "deep lists",
    "deep tuple as a key",
    "deep parameters",
    "calls in calls",
    "calls of calls",
    "billion dictionaries",
    "many lists",
)


@pytest.mark.parametrize("case", slow_but(CASES, CASES.keys() - {*LONG}))
def test_a_bad_file_is_refused(case: str, tmp_path: Path, region: Open) -> None:
    build, kind, name = CASES[case]
    path = tmp_path / "model.pt"
    path.write_bytes(build())
    refused(lambda: read_torch(region(path)), kind, file=str(path), tensor=name)


def test_no_pickle_runs(tmp_path: Path, region: Open) -> None:
    canary = tmp_path / "canary"
    for label, raw in bad.pickled_calls(canary):
        path = tmp_path / f"{label}.pt"
        path.write_bytes(with_pickle(raw))
        refused(lambda path=path: read_torch(region(path)), "unsafe-pickle", file=str(path))  # type: ignore[misc]
        assert not canary.exists(), label


def test_the_canary_would_sing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(SystemExit):
        pickle.loads(pickle.dumps(bad.Runs(_sing, str(canary))))
    assert canary.exists()


def _sing(path: str) -> None:
    Path(path).touch()
    raise SystemExit


@pytest.mark.slow
def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, region: Open) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as out:
        for _ in range(512):
            out.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    refused(lambda: read_torch(region(path)), "compressed-member", file=str(path))


def values(files: Files, header: TorchHeader) -> dict[str, torch.Tensor]:
    """Tensors of a header through the same path as an analysis reads them."""
    return {n: value(files, e) for n, e in header.tensors.items() if e.dtype in FLOAT_TYPES}


def value(files: Files, entry: TensorEntry) -> torch.Tensor:
    dtype = getattr(torch, entry.dtype)
    out = np.empty(entry.size * dtype.itemsize, np.uint8)
    read_elements(files, entry, 0, entry.size, memoryview(out))  # type: ignore[arg-type]
    return (
        torch.from_numpy(out).view(dtype).reshape(entry.shape) if entry.size else torch.empty(entry.shape, dtype=dtype)
    )


def read(path: Path, content: object) -> tuple[TorchHeader, dict[str, torch.Tensor]]:
    torch.save(content, path)
    files = Files(path.parent)
    header = read_torch(files.region(str(path)))
    found = values(files, header)
    files.close()
    return header, found


def same(found: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    assert list(found) == [n for n, v in state.items() if v.is_floating_point()]
    for name, tensor in found.items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name].detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_state_dict_is_read_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(5, 7).to(dtype), "a.bias": torch.randn(7).to(dtype), "n": torch.tensor(3)}
    same(read(tmp_path / "a.pt", state)[1], state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(protocol: int, tmp_path: Path, region: Open) -> None:
    state = Net().state_dict()
    torch.save({"model": state, "step": 7}, tmp_path / "a.pt", pickle_protocol=protocol)
    header = read_torch(region(tmp_path / "a.pt"))
    assert list(header.tensors) == list(state)
    assert header.step == 7


@pytest.mark.parametrize("key", ["state_dict", "model", "module", "model_state_dict", "net", "weights", "anything"])
def test_the_state_dict_is_found_under_its_key(key: str, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters())
    net.one(torch.ones(4)).sum().backward()
    optimizer.step()
    content = {"optimizer": optimizer.state_dict(), key: net.state_dict(), "iter_num": 12, "rng": torch.get_rng_state()}
    if key == "anything":
        content.pop("rng")
    header, found = read(tmp_path / "a.pt", content)
    same(found, net.state_dict())
    assert header.step == 12
    assert header.left_out["optimizer"] == "optimizer state"


def test_what_a_trainer_keeps_beside_the_weights_is_inert(tmp_path: Path) -> None:
    state = Net().state_dict()
    content = {
        "state_dict": state,
        "pytorch-lightning_version": "2.4.0",
        "epoch": 3,
        "global_step": 500,
        "hyper_parameters": {"args": argparse.Namespace(lr=0.1, path=Path("x"), kinds={1, 2}), "numbers": np.arange(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": np.float64(0.1)}]}],
        "callbacks": {"best": types.SimpleNamespace(score=torch.tensor(0.5)), "device": torch.device("cpu")},
        "dtype": torch.float32,
        "counts": collections.defaultdict(list, a=[1]),
        "history": collections.OrderedDict(a=collections.Counter("abc")),
        "data": b"\x00bytes",
        "complex": 1j,
    }
    header, found = read(tmp_path / "a.ckpt", content)
    same(found, state)
    assert (header.step, header.epoch, header.lightning) == (500, 3, True)
    assert set(header.left_out) == set(content) - {"state_dict"}


def test_parameters_and_subclasses_are_tensors(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(3, 2))
    marked = nn.Parameter(torch.randn(4))
    marked.note = "kept"  # type: ignore[attr-defined]
    _, found = read(tmp_path / "a.pt", {"weight": weight, "marked": marked, "buffer": nn.Buffer(torch.ones(2))})
    assert torch.equal(found["weight"], weight.detach())
    assert torch.equal(found["marked"], marked.detach())
    assert torch.equal(found["buffer"], torch.ones(2))


def test_views_are_read_where_they_lie_and_charged_by_storage(tmp_path: Path) -> None:
    large = torch.randn(100, 50)
    state = {
        "row": large[7],
        "column": large[:, 3],
        "transposed": large.t(),
        "block": large[10:20, 5:9],
        "broadcast": torch.randn(6).expand(1, 6),
        "stepped": large.reshape(-1)[::7],
    }
    header, found = read(tmp_path / "a.pt", state)
    same(found, state)
    assert header.tensors["row"].strides is None
    assert header.tensors["row"].storage_nbytes == large.numel() * 4
    assert header.tensors["column"].strides == (50,)
    assert header.tensors["transposed"].strides == (1, 50)


def test_tied_tensors_share_their_place(tmp_path: Path) -> None:
    weight = torch.randn(5, 3)
    header, _ = read(tmp_path / "a.pt", {"embed": weight, "head": weight, "other": weight.clone()})
    embed, head, other = (header.tensors[n] for n in ("embed", "head", "other"))
    assert (embed.storage, embed.offset, embed.shape, embed.strides) == (
        head.storage,
        head.offset,
        head.shape,
        head.strides,
    )
    assert other.storage != embed.storage


def test_the_archives_checksum_is_that_of_the_storage(tmp_path: Path) -> None:
    state = {"a": torch.randn(300)}
    header, _ = read(tmp_path / "a.pt", state)
    assert header.tensors["a"].crc32 == bad.checksum(state["a"].numpy().tobytes())


def test_an_archive_without_checksums(tmp_path: Path) -> None:
    state = {"a": torch.randn(300)}
    torch.serialization.set_crc32_options(False)
    try:
        header, found = read(tmp_path / "a.pt", state)
    finally:
        torch.serialization.set_crc32_options(True)
    assert header.tensors["a"].crc32 is None
    same(found, state)


def test_an_archive_of_more_than_4_gigabytes(tmp_path: Path, region: Open) -> None:
    path = tmp_path / "large.pt"
    with torch.serialization.skip_data():
        # Nothing is written in the place of the values: the file is sparse.
        torch.save({"large": torch.empty(1_100_000_000), "small": torch.empty(5)}, path)
    assert path.stat().st_size > 2**32
    entry = read_torch(region(path)).tensors["small"]
    assert entry.offset > 2**32
    with path.open("r+b") as out:
        out.seek(entry.offset)
        out.write(torch.arange(5.0).numpy().tobytes())
    assert torch.equal(torch.load(path, mmap=True)["small"], torch.arange(5.0))


def test_an_archive_as_older_versions_wrote_it(tmp_path: Path, region: Open) -> None:
    path = tmp_path / "old.bin"
    stored = np.arange(16, dtype=np.float32)
    path.write_bytes(with_pickle(described(shape=(2, 3), strides=(3, 1), offset=4), stored.tobytes()))
    header = read_torch(region(path))
    entry = header.tensors["weight"]
    found = np.frombuffer(path.read_bytes(), np.float32, entry.size, entry.offset)
    assert found.tolist() == list(range(4, 10))


def test_tensors_of_every_shape(tmp_path: Path) -> None:
    state = {
        "scalar": torch.tensor(2.5),
        "none": torch.empty(0, 3),
        "one": torch.ones(1, 1, 1),
        "deep": torch.randn(*(2,) * 10),
    }
    same(read(tmp_path / "a.pt", state)[1], state)


def test_types_that_are_no_parameters_are_named(tmp_path: Path) -> None:
    state = {
        "i": torch.arange(3), "b": torch.tensor([True]), "u": torch.ones(2, dtype=torch.uint16),
        "f8": torch.ones(2).to(torch.float8_e4m3fn), "w": torch.ones(2),
    }  # fmt: skip
    header, _ = read(tmp_path / "a.pt", state)
    assert {n: e.dtype for n, e in header.tensors.items()} == {
        "i": "int64", "b": "bool", "u": "uint16", "f8": "float8_e4m3fn", "w": "float32",
    }  # fmt: skip


def test_a_large_optimizer_outside_the_model_may_be_anything(tmp_path: Path) -> None:
    content = {"model": {"w": torch.ones(2)}, "sparse": torch.ones(3, 3).to_sparse(), "numpy": np.ones(3)}
    header, _ = read(tmp_path / "a.pt", content)
    assert list(header.tensors) == ["w"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_errors_of_this_house_escape(data: st.DataObject, tmp_path: Path) -> None:
    mutated = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    _read_or_refuse(tmp_path, bytes(mutated))


OPCODES = [bytes([c]) for c in b"()]}.0123alnNedstub\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94RQ\x81\x92o"]
PIECES = [*OPCODES, b"K\x01", b"X\x01\x00\x00\x00w", b"h\x00", b"q\x00", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nSize\n",
          b"ccollections\nOrderedDict\n", b"X\x05\x00\x00\x00model", b"X\x07\x00\x00\x00storage", b"ctorch\nFloatStorage\n"]  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.lists(st.sampled_from(PIECES), max_size=60))
def test_any_program_of_a_pickle_is_read_or_refused(program: list[bytes], tmp_path: Path) -> None:
    _read_or_refuse(tmp_path, with_pickle(b"\x80\x04" + b"".join(program) + b"."))


def _read_or_refuse(folder: Path, content: bytes) -> None:
    path = folder / "mutated.pt"
    path.write_bytes(content)
    files = Files(folder)
    try:
        header = read_torch(files.region(str(path)))
    except TrajsvcError as error:
        named = error.file == str(path)
    else:
        named = all(
            0 <= e.storage_offset <= e.storage_offset + e.storage_nbytes <= len(content)
            for e in header.tensors.values()
        )
    finally:
        files.close()
    assert named
