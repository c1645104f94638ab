"""Formats that are not read are named for what they are, with what to run; odd objects in torch files are skipped."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import io
import operator
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from listed_runs import analyzed, right, save, walk

from trajsvc.errors import NotFound, UnsafeFile, UnsupportedFormat


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        for name, data in members.items():
            written.writestr(name, data)
    return out.getvalue()


def numpy_archive() -> bytes:
    out = io.BytesIO()
    np.savez(out, **{"dense/kernel": np.ones((3, 3), np.float32)})
    return out.getvalue()


FORMATS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "npz": ("params_{}.npz", numpy_archive, "save_file"),
    "npy": ("step_{}/w.npy", lambda: b"\x93NUMPY" + bytes(64), "save_file"),
    "keras weights": ("weights.{:05d}.weights.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(64), "load_weights"),
    "keras": ("model_{}.keras", lambda: b"PK\x03\x04" + bytes(64), "load_model"),
    "hdf5": ("model_{}.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(64), "save_file"),
    "gguf": ("model-step{}.gguf", lambda: b"GGUF" + struct.pack("<I", 3) + bytes(64), "checkpoints"),
    "flax": ("checkpoint_{}", lambda: b"\x83\xa6params" + bytes(64), "flax"),
    "msgpack": ("params_{}.msgpack", lambda: b"\x83\xa6params" + bytes(64), "msgpack_restore"),
    "pickle": ("params_{}.pkl", lambda: pickle.dumps({"w": np.ones(3)}), "save_file"),
    "onnx": ("model_{}.onnx", lambda: b"\x08\x07" + bytes(64), "onnx"),
    "sb3": ("rl_model_{}_steps.zip", lambda: archive(data=b"{}", **{"policy.pth": b"x"}), "unzip"),
    "tensorflow": ("model.ckpt-{}.index", lambda: b"x", "TensorFlow"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_of_another_format_says_what_to_run(name: str, tmp_path: Path) -> None:
    form, content, word = FORMATS[name]
    for step in (1000, 2000, 3000):
        path = tmp_path / "run" / form.format(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())
    with pytest.raises(UnsupportedFormat) as caught:
        analyzed(tmp_path / "run")
    assert word in caught.value.hint
    assert str(tmp_path / "run") in caught.value.message


def test_a_folder_of_folders_says_what_is_in_each(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path / "run" / "mlx" / f"{step:07d}_adapters" / "adapters.safetensors", walk(1)[0])
        for kind, (form, content, _) in FORMATS.items():
            path = tmp_path / "run" / kind / form.format(step)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content())
    with pytest.raises(NotFound) as caught:
        analyzed(tmp_path / "run")
    for word in ("mlx", "npz (NumPy archives)", "gguf (GGUF", "onnx (ONNX"):
        assert word in caught.value.hint


SHARDS = {
    "verl": (
        ("actor/model_world_size_2_rank_{}.pt", "actor/optim_world_size_2_rank_{}.pt", "data.pt"),
        "verl.model_merger",
    ),
    "verl critic": (("critic/model_world_size_4_rank_{}.pt", "data.pt"), "verl.model_merger"),
    "fsdp": (("pytorch_model_fsdp_rank{}.bin",), "FULL_STATE_DICT"),
    "tensor-parallel": (("consolidated.0{}.pth", "params.json"), "convert_llama_weights_to_hf"),
    "ranks": (("model_rank{}.pt",), "rank 0"),
    "ranks in a folder": (("model/rank{}.pt", "optim/rank{}.pt"), "unshard"),
    "deepspeed": (("zero_pp_rank_{}_mp_rank_00_model_states.pt",), "zero_to_fp32"),
    "megatron": (("mp_rank_0{}/model_optim_rng.pt",), "convert.py"),
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_of_a_trainer_are_never_a_model(name: str, tmp_path: Path) -> None:
    forms, word = SHARDS[name]
    for i, point in enumerate(walk(3)):
        for rank in (0, 1):
            half = {k: v[rank * (v.shape[0] // 2) : (rank + 1) * (v.shape[0] // 2)].clone() for k, v in point.items()}
            for form in forms:
                content = half if "model" in form or "rank" in form else {}
                save(tmp_path / "run" / f"global_step_{50 * (i + 1)}" / form.format(rank), content)
    (tmp_path / "run" / "latest_checkpointed_iteration.txt").write_text("150")
    with pytest.raises(UnsupportedFormat) as caught:
        analyzed(tmp_path / "run")
    assert word in caught.value.hint
    assert caught.value.kind == f"unsupported-{name.split()[0]}"


def test_one_rank_is_the_model(tmp_path: Path) -> None:
    points = walk(3)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"global_step_{i + 1}" / "actor" / "model_world_size_1_rank_0.pt", point)
        save(tmp_path / "run" / f"global_step_{i + 1}" / "data.pt", {})
    right(analyzed(tmp_path / "run"), points)


class Stage(enum.Enum):
    TRAIN = 1


Pair = collections.namedtuple("Pair", "a b")


class Settings(dict[str, Any]):
    """As configuration libraries have them: a mapping of a class of its own, with attributes."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.flags = {"readonly": True}


def odds() -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save({"recipe": "fp8"}, buffer)
    return {
        "args": argparse.Namespace(lr=0.1, path=pathlib.Path("/x"), kinds={1, 2}), "when": datetime.datetime(2025, 1, 2, 3, 4),
        "config": Settings(lr=1e-3, name="x", inner=Settings(a=[1, 2])),
        "took": datetime.timedelta(seconds=3), "day": datetime.date(2025, 1, 2), "zone": datetime.UTC,
        "bytes": buffer, "text": io.StringIO("log"), "stage": Stage.TRAIN, "pair": Pair(1, 2), "counter": collections.Counter("abc"),
        "deque": collections.deque([1, 2], maxlen=5), "default": collections.defaultdict(list, a=[1]), "nothing": type(None),
        "partial": functools.partial(max, 1), "getter": operator.itemgetter(1), "space": types.SimpleNamespace(a=1),
        "array": np.float64(0.5), "generator": np.random.default_rng(0), "range": range(3), "slice": slice(1, 2),
        "error": ValueError("x"), "path": pathlib.PurePosixPath("a/b"), "complex": 1j, "frozen": frozenset({1}),
        "dtype": torch.bfloat16, "device": torch.device("cpu"), "size": torch.Size([1, 2]), "ellipsis": ...,
    }  # fmt: skip


@pytest.mark.parametrize("odd", [*odds(), "all of them"])
def test_harmless_objects_in_a_torch_file_are_skipped(odd: str, tmp_path: Path) -> None:
    points, found = walk(3), odds()
    beside = found if odd == "all of them" else {odd: found[odd]}
    for i, point in enumerate(points):
        state = OrderedDict(point)
        state["layer._extra_state"] = found["bytes"]  # type: ignore[assignment]
        save(tmp_path / "run" / f"iter_{100 * i:07d}.pt", {"model": state, "iteration": 100 * i, **beside})
    right(analyzed(tmp_path / "run"), points)


class Harm:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return subprocess.getoutput, ("touch /tmp/never",)


@pytest.mark.parametrize("harm", [Harm(), eval, open, sys.exit, subprocess.Popen])
def test_what_could_run_code_is_refused_all_the_same(harm: object, tmp_path: Path) -> None:
    save(tmp_path / "run" / "step1.pt", {"model": walk(1)[0], "harm": harm})
    with pytest.raises(UnsafeFile):
        analyzed(tmp_path / "run")
