"""Files that are cheap to write and dear to read are refused before much is made of them."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from refusals import SECONDS

from trajsvc.sources.formats.limits import MAX_EMPTY, MAX_VIEWS
from trajsvc.sources.local.source import LocalSource
from trajsvc.sources.logs.plain_yaml import parse

MEASURED = """
import resource, sys, time
from trajsvc.analysis.options import Options
from trajsvc.analysis.selected import source_of, trajectory_of
from trajsvc.errors import TrajsvcError
import numpy, torch  # what was imported is not the refusal's
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before, begun = peak(), time.process_time()
try:
    options = Options.of({})
    trajectory_of(source_of(sys.argv[1], options), options, whole=True)
except TrajsvcError as error:
    print(error.kind, time.process_time() - begun, peak() - before)
"""


def write(path: Path, tensors: dict[str, object], data: bytes = b"") -> None:
    header = json.dumps(tensors).encode()
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def empties(folder: Path) -> str:
    write(folder / "step0/model.safetensors", {f"layers.{i}.w": empty(0) for i in range(99_990)})
    return "limit-exceeded"


def empty(*shape: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}


def views(folder: Path) -> str:
    base = torch.zeros(60_008)
    (folder / "step0").mkdir()
    torch.save({f"layers.{i}.w": base[i : i + 4] for i in range(60_000)}, folder / "step0/pytorch_model.bin")
    return "limit-exceeded"


def wide(folder: Path) -> str:
    count = 20_000
    tensors: dict[str, object] = {
        f"layers.{i}.w": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i in range(count)
    }
    first = folder / "step0/model.safetensors"
    write(first, tensors, bytes(4 * count))
    for step in range(1, 400):
        (folder / f"step{step}").mkdir()
        (folder / f"step{step}/model.safetensors").hardlink_to(first)
    return "memory-budget"


def header(folder: Path, text: bytes) -> str:
    (folder / "step0").mkdir()
    (folder / "step0/model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    return "limit-exceeded"


def long_shape(folder: Path) -> str:
    """What looks for a zero in it took 64 bytes for each of its commas."""
    return header(folder, b'{"a":{"dtype":"F32","shape":[' + b"1," * 7_000_000 + b'1],"data_offsets":[0,4]}}')


def notes(folder: Path) -> str:
    return header(folder, json.dumps({"__metadata__": {str(i): "" for i in range(700_000)}, "a": empty(1)}).encode())


def pickled(folder: Path, text: bytes) -> str:
    (folder / "step0").mkdir()
    with zipfile.ZipFile(folder / "step0/pytorch_model.bin", "w") as out:
        for name, data in (("data.pkl", text), ("version", b"3"), ("byteorder", b"little")):
            out.writestr(f"a/{name}", data)
    return "limit-exceeded"


def lists(folder: Path) -> str:
    return pickled(folder, b"\x80\x02](" + b"]" * 15_000_000 + b"e.")


def memory(folder: Path) -> str:
    return pickled(
        folder, b"\x80\x02" + b"".join(b"]r" + struct.pack("<I", i) + b"0" for i in range(2_000_000)) + b"]."
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [empties, views, wide, long_shape, notes, lists, memory], ids=lambda f: f.__name__)
def test_what_is_cheap_to_write_is_cheap_to_refuse(tmp_path: Path, make: object) -> None:
    kind = make(tmp_path)  # type: ignore[operator]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], capture_output=True, text=True, timeout=600, check=True
    )
    said, seconds, megabytes = done.stdout.split()
    assert said == kind
    assert float(seconds) <= SECONDS
    assert int(megabytes) <= 64


@pytest.mark.parametrize("shape", ["[0]", "[ 0 ]", "[4,0]", "[0,4]", "[4, 0, 5]", "[\n0\n]"])
def test_empty_tensors_are_counted_however_they_are_spelt(tmp_path: Path, shape: str) -> None:
    one = json.dumps({str(i): empty(0) for i in range(MAX_EMPTY + 1)}).replace('"shape": [0]', f'"shape" :  {shape}')
    (tmp_path / "step0").mkdir()
    (tmp_path / "step0/model.safetensors").write_bytes(struct.pack("<Q", len(one)) + one.encode())
    source = LocalSource(tmp_path)
    with pytest.raises(Exception, match=re.escape(f"more than {MAX_EMPTY:,} tensors without elements")):
        source.tensors(source.checkpoints()[0])


def test_as_many_as_a_real_checkpoint_has_are_read(tmp_path: Path) -> None:
    write(tmp_path / "step0/model.safetensors", {**{f"e.{i}": empty(10, 0) for i in range(500)}, "w.10": empty(0, 30)})
    (tmp_path / "step1").mkdir()
    base = torch.zeros(MAX_VIEWS)
    torch.save({f"w.{i}": base[i : i + 1] for i in range(200)}, tmp_path / "step1/pytorch_model.bin")
    source = LocalSource(tmp_path)
    assert [len(source.tensors(c).tensors) for c in source.checkpoints()] == [501, 200]


@pytest.mark.parametrize("once", ["<<: [*k{0}, *k{0}]", "<<: *k{0}, <<: *k{0}"])
def test_hyperparameters_that_double_themselves_are_not_copied(once: str) -> None:
    """Fourteen lines copy 16,000 entries, forty a million million."""
    lines = [f"k{i}: &k{i} {{{once.format(i - 1)}, y{i}: 1}}" for i in range(1, 15)]
    with pytest.raises(ValueError, match="copies more than"):
        parse("\n".join(["k0: &k0 {x: 1}", *lines]).encode())
    assert parse(b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")["b"] == {"x": 1, "y": 3}
