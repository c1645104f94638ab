"""Headers of safetensors files: every way in which one can be wrong, and those of real files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from safetensors.torch import save_file
from slow_params import slow_but

from trajsvc.errors import TrajsvcError
from trajsvc.sources.files import Files, Region
from trajsvc.sources.formats.safetensors import read_header

Open = Callable[[str | Path], Region]


def packed(header: object, data: bytes = b"", *, raw: bytes | None = None, length: int | None = None) -> bytes:
    text = raw if raw is not None else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def million() -> bytes:
    return packed({f"t{i:06d}": tensor([0], 0, 0) for i in range(180_000)})


MALFORMED = "malformed-safetensors"
BAD: list[tuple[str, Callable[[], bytes], str, str | None]] = [
    ("empty", lambda: b"", "empty-file", None),
    ("seven bytes", lambda: b"\x01" * 7, MALFORMED, None),
    ("length 0", lambda: bytes(8) + b"abc", MALFORMED, None),
    ("length beyond the file", lambda: packed({}, length=10_000), MALFORMED, None),
    ("length 2^64-1", lambda: packed({}, length=2**64 - 1), MALFORMED, None),
    ("not JSON", lambda: packed(None, raw=b"not json at all"), MALFORMED, None),
    ("bad UTF-8", lambda: packed(None, raw=b'{"\xff": 1}'), MALFORMED, None),
    ("array", lambda: packed([]), MALFORMED, None),
    ("deep", lambda: packed(None, raw=b"[" * 100_000 + b"]" * 100_000), MALFORMED, None),
    ("deep objects", lambda: packed(None, raw=b'{"a":' * 90_000 + b"1" + b"}" * 90_000), MALFORMED, None),
    ("deep and open", lambda: packed(None, raw=b"[" * 150_000), MALFORMED, None),
    ("many lists", lambda: packed(None, raw=b"[" + b"[]," * 5_000_000 + b"[]]"), "limit-exceeded", None),
    ("many numbers", lambda: packed(None, raw=b"[" + b"12345," * 2_000_000 + b"1]"), "limit-exceeded", None),
    ("many strings", lambda: packed(None, raw=b"[" + b'"",' * 5_000_000 + b'""]'), "limit-exceeded", None),
    (
        "duplicate key",
        lambda: packed(None, bytes(4), raw=b'{"a":%s,"a":%s}' % ((json.dumps(tensor([1], 0, 4)).encode(),) * 2)),
        MALFORMED,
        "a",
    ),
    (
        "duplicate key, other dtype",
        lambda: packed(
            None,
            bytes(4),
            raw=b'{"a":%s,"a":%s}'
            % (json.dumps(tensor([1], 0, 4)).encode(), json.dumps(tensor([2], 0, 4, "F16")).encode()),
        ),
        MALFORMED,
        "a",
    ),
    ("duplicate field", lambda: packed(None, bytes(4), raw=b'{"a":{"dtype":"F32","dtype":"F32"}}'), MALFORMED, "dtype"),
    ("metadata", lambda: packed({"__metadata__": {"a": 1}, "a": tensor([1], 0, 4)}, bytes(4)), MALFORMED, None),
    ("overlap", lambda: packed({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)), MALFORMED, "b"),
    ("alias", lambda: packed({"a": tensor([2], 0, 8), "b": tensor([2], 0, 8)}, bytes(8)), MALFORMED, "b"),
    ("hole", lambda: packed({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)), MALFORMED, "b"),
    ("trailing bytes", lambda: packed({"a": tensor([1], 0, 4)}, bytes(5)), MALFORMED, None),
    ("truncated", lambda: packed({"a": tensor([4], 0, 16)}, bytes(15)), MALFORMED, "a"),
    ("end before begin", lambda: packed({"a": tensor([1], 8, 4)}, bytes(8)), MALFORMED, "a"),
    ("negative offset", lambda: packed({"a": tensor([1], -4, 0)}, bytes(4)), MALFORMED, "a"),
    ("shape overflow", lambda: packed({"a": tensor([2**40, 2**40], 0, 4)}, bytes(4)), "bad-shape", "a"),
    ("shape overflows to fit", lambda: packed({"a": tensor([2**32, 2**32, 1], 0, 0)}), "bad-shape", "a"),
    ("shape and bytes", lambda: packed({"a": tensor([3], 0, 8)}, bytes(8)), MALFORMED, "a"),
    ("negative dimension", lambda: packed({"a": tensor([-1], 0, 4)}, bytes(4)), MALFORMED, "a"),
    ("unknown dtype", lambda: packed({"a": tensor([1], 0, 4, "F33")}, bytes(4)), MALFORMED, "a"),
    ("dtype a list", lambda: packed({"a": {**tensor([1], 0, 4), "dtype": ["F32"]}}, bytes(4)), MALFORMED, "a"),
    ("float dimension", lambda: packed({"a": tensor([1.0], 0, 4)}, bytes(4)), MALFORMED, "a"),
    ("boolean dimension", lambda: packed({"a": tensor([True], 0, 4)}, bytes(4)), MALFORMED, "a"),
    ("infinite dimension", lambda: packed(None, raw=json.dumps({"a": tensor([float("inf")], 0, 4)}).encode()), MALFORMED, "a"),
    ("endless number", lambda: packed(None, raw=b'{"a":' + b"9" * 10_000 + b"}"), MALFORMED, None),
    ("shape (0, 2^62)", lambda: packed({"a": tensor([0, 2**62], 0, 0)}), "bad-shape", "a"),
    ("no tensors", lambda: packed({}), MALFORMED, None),
    ("only metadata", lambda: packed({"__metadata__": {"format": "pt"}}), MALFORMED, None),
    ("missing field", lambda: packed({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), MALFORMED, "a"),
    ("another field", lambda: packed({"a": {**tensor([1], 0, 4), "x": 1}}, bytes(4)), MALFORMED, "a"),
    ("entry a number", lambda: packed({"a": 7}), MALFORMED, "a"),
    ("many empty tensors", million, "limit-exceeded", None),
    ("NUL in a name", lambda: packed({"a\0b": tensor([1], 0, 4)}, bytes(4)), "bad-name", None),
    ("newline in a name", lambda: packed({"a\nb": tensor([1], 0, 4)}, bytes(4)), "bad-name", None),
    ("empty name", lambda: packed({"": tensor([1], 0, 4)}, bytes(4)), "bad-name", None),
    ("lone surrogate", lambda: packed({"\ud800": tensor([1], 0, 4)}, bytes(4)), "bad-name", None),
    ("open string of escapes", lambda: packed(None, raw=b'{"' + b'\\"' * 4_000_000), "limit-exceeded", None),
    ("open string, last an escape", lambda: packed(None, raw=b'{"a' + b"\\\\" * 4_000_000 + b"\\"), MALFORMED, None),
    ("only quotes", lambda: packed(None, raw=b'"' * 8_000_001), "limit-exceeded", None),
    ("name of 1 MB", lambda: packed({"n" * 10**6: tensor([1], 0, 4)}, bytes(4)), "limit-exceeded", None),
    ("rank 1001", lambda: packed({"a": tensor([1] * 1001, 0, 4)}, bytes(4)), "limit-exceeded", "a"),
    ("rank 17", lambda: packed({"a": tensor([1] * 17, 0, 4)}, bytes(4)), "limit-exceeded", "a"),
    ("LFS pointer", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "lfs-pointer", None),
    ("HTML", lambda: b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "html-instead-of-file", None),
]  # fmt: skip


CASES = {name: case for name, *case in BAD}
LONG = ("many empty tensors",)


@pytest.mark.parametrize("case", slow_but(CASES, CASES.keys() - {*LONG}))
def test_a_bad_file_is_refused(case: str, tmp_path: Path, region: Open) -> None:
    build, kind, name = CASES[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(build())
    refused(lambda: read_header(region(path)), kind, file=str(path), tensor=name)


def test_a_header_of_101_megabytes_is_refused_unread(tmp_path: Path, region: Open) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as out:
        out.write(struct.pack("<Q", 101 * 10**6))
        out.truncate(102 * 10**6)
    refused(lambda: read_header(region(path)), "limit-exceeded", file=str(path))


def test_a_sparse_file_of_8_gigabytes_costs_its_header(tmp_path: Path, region: Open) -> None:
    path = tmp_path / "model.safetensors"
    header = packed({"a": tensor([2**31], 0, 2**33)})
    with path.open("wb") as out:
        out.write(header)
        out.truncate(len(header) + 2**33)
    assert read_header(region(path)).tensors["a"].size == 2**31


def test_a_name_that_looks_like_a_path_is_a_name(tmp_path: Path, region: Open) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed({"../../../etc/passwd": tensor([1], 0, 4)}, bytes(4)))
    assert list(read_header(region(path)).tensors) == ["../../../etc/passwd"]


def test_tensors_without_elements_may_share_an_offset(tmp_path: Path, region: Open) -> None:
    path = tmp_path / "model.safetensors"
    header = {"a": tensor([0], 0, 0), "b": tensor([2], 0, 8), "c": tensor([0, 3], 0, 0), "d": tensor([5, 0], 8, 8)}
    path.write_bytes(packed(header, bytes(8)))
    tensors = read_header(region(path)).tensors
    assert {n: e.size for n, e in tensors.items()} == {"a": 0, "b": 2, "c": 0, "d": 0}


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
    ],
)  # fmt: skip
def test_every_type_is_found_where_its_bytes_are(dtype: torch.dtype, tmp_path: Path, region: Open) -> None:
    path = tmp_path / "model.safetensors"
    values = {n: torch.randint(0, 2, s).to(dtype) for n, s in {"a": (3, 5), "b": (7,), "c": ()}.items()}
    save_file(values, path, metadata={"format": "pt"})
    header = read_header(region(path))
    assert header.metadata == {"format": "pt"}
    for name, value in values.items():
        entry = header.tensors[name]
        assert (entry.dtype, entry.shape) == (str(dtype).removeprefix("torch."), tuple(value.shape))
        stored = (
            value.reshape(-1).view(torch.uint8).numpy().tobytes() if dtype != torch.bool else value.numpy().tobytes()
        )
        assert path.read_bytes()[entry.offset : entry.offset + len(stored)] == stored


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "good.safetensors"
    save_file({"a": torch.ones(2, 3), "b.c": torch.zeros(0, 4), "d": torch.arange(5, dtype=torch.float16)}, path)
    return path.read_bytes()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_errors_of_this_house_escape(data: st.DataObject, good: bytes, tmp_path: Path) -> None:
    mutated = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        new = data.draw(st.binary(max_size=12))
        del mutated[at : at + data.draw(st.integers(0, 12))]
        mutated[at:at] = new
    path = tmp_path / "mutated.safetensors"
    path.write_bytes(mutated)
    files = Files(tmp_path)
    try:
        header = read_header(files.region(str(path)))
    except TrajsvcError as error:
        named = error.file == str(path)
    else:
        named = True
        for entry in header.tensors.values():
            assert 0 <= entry.offset <= entry.offset + entry.storage_nbytes <= len(mutated)
    finally:
        files.close()
    assert named


def test_a_valid_header_means_what_the_library_reads(tmp_path: Path, region: Open) -> None:
    rng = np.random.default_rng(0)
    values = {f"t{i}": torch.from_numpy(rng.standard_normal(rng.integers(1, 9, 3))) for i in range(40)}
    path = tmp_path / "model.safetensors"
    save_file(values, path)
    raw = path.read_bytes()
    for name, entry in read_header(region(path)).tensors.items():
        read = np.frombuffer(raw, np.float64, entry.size, entry.offset).reshape(entry.shape)
        assert np.array_equal(read, values[name].numpy())
