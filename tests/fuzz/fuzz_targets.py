"""Every parser of a stranger's bytes, with what it should read, so that random changes of it reach deep.

Random trees of bytes are made of seeds (valid inputs) and words (what the format is made of): ``mutated`` cuts, repeats, flips and joins
them. A parser may read what comes or refuse it with an error of ours; any other exception, and a case that takes longer than ``SLOW``
seconds, is a fault.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from api.bodies import check_json
from api.headers import accepted, byte_range, cursor_of, number, numbers_in, place
from storage_schema.format import manifest
from trajsvc.anatomy.rules_toml import parse_rules
from trajsvc.errors import TrajsvcError
from trajsvc.families.file import load_family
from trajsvc.results.conditions import parse_condition
from trajsvc.settings import Settings
from trajsvc.sources.files import Region
from trajsvc.sources.formats.pickle_reader import read_pickle
from trajsvc.sources.formats.safetensors import read_header
from trajsvc.sources.formats.shards import read_index
from trajsvc.sources.formats.torch_state import read_torch
from trajsvc.sources.formats.zip_directory import ZipDirectory
from trajsvc.sources.hub import answers
from trajsvc.sources.hub.limits import HubLimits
from trajsvc.sources.logs.entries import entries
from trajsvc.sources.logs.hyperparameters import hyperparameters
from trajsvc.sources.logs.learning_rate import learning_rate
from trajsvc.sources.logs.training_log import quantities
from trajsvc.steps import check_spec

SLOW: Final = 20.0
"""seconds of the processor: ten times what a parser may take on a quiet machine"""
LONGEST: Final = 2**16
LIMITS: Final = HubLimits.of(Settings())


@dataclass(frozen=True)
class Target:
    seeds: Sequence[bytes]
    words: Sequence[bytes]
    read: Callable[[bytes], object]


def region(data: bytes) -> Region:
    return Region("fuzzed", 0, len(data), lambda offset, count: data[offset : offset + count])


def saved(value: object) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def headed(header: object, data: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def _safetensors(data: bytes) -> object:
    """The length is made to fit half of the time: else nearly every change is refused by it."""
    if len(data) > 8 and data[0] % 2:
        end = data.rfind(b"}") + 1
        data = struct.pack("<Q", max(0, end - 8)) + data[8:]
    return read_header(region(data))


def _hub(data: bytes) -> object:
    try:
        page = answers.read_json(data, LIMITS, "https://hub/api")
    except (ValueError, RecursionError):  # its caller says so
        return None
    for model in (answers.Refs, answers.RepositoryRow, answers.CommitRow, answers.RefRow):
        try:
            answers.read(model, page, "https://hub/api")
        except TrajsvcError:
            continue
    return list(answers.files_of(answers.rows_of(page, "https://hub/api"), "https://hub/api"))


def _family(data: bytes) -> object:
    path = Path("/dev/shm/trajsvc-fuzzed.toml") if Path("/dev/shm").is_dir() else Path("fuzzed.toml")
    path.write_bytes(data)
    try:
        return load_family(path)
    finally:
        path.unlink()


class _OneFile:
    """A folder of one file, whatever is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def exists(self, path: str) -> bool:
        return True

    def region(self, path: str) -> Region:
        return region(self._data)

    def names(self, folder: str) -> list[str]:
        return []


def _log(name: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        logged = quantities(entries(_OneFile(data), name), {1: 100})
        return logged, learning_rate(logged)

    return read


def _hyperparameters(data: bytes) -> object:
    return hyperparameters(_OneFile(data), "", [])


def _condition(data: bytes) -> object:
    condition = parse_condition(data.decode("utf-8", "replace"))
    return [condition.holds(value) for value in (None, True, 3, 0.5, "adamw", ("a", "b"))]


def _cursor(data: bytes) -> object:
    text = data.decode("latin-1")
    found = numbers_in(text)
    assert found is None or numbers_in(cursor_of(**found)) == found
    return found, place(text), accepted(text), byte_range(text), number(text)


def _steps(data: bytes) -> object:
    return check_spec(data.decode("utf-8", "replace"))


def _rules(data: bytes) -> object:
    return parse_rules(data.decode("utf-8", "replace"), "fuzzed.toml")


JSON: Final = [
    *b"[]{},:",
    b'"',
    b"null",
    b"1e999",
    b"-1",
    b"9" * 50,
    b'"\\ud800"',
    b"NaN",
    b"\xff",
    b'"a":',
    b"true",
    b"[" * 40,
    b"0",
]
JSON_WORDS: Final = [bytes([w]) if isinstance(w, int) else w for w in JSON]
HEADER: Final = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "F16", "shape": [0], "data_offsets": [24, 24]},
}
STATE: Final = {"w": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16), "n": {"step": 3}}
TREE: Final = [
    {"type": "file", "path": "step1/model.safetensors", "size": 10, "oid": "a" * 40, "lfs": {"oid": "b" * 64, "size": 10}},
    {"type": "directory", "path": "step1", "oid": "c" * 40},
]  # fmt: skip
FAMILY: Final = (
    b'name = "f"\n[[runs]]\nname = "a"\nsource = "hf://o/a"\nsize = "70M"\nseed = 1\n[defaults]\nsteps = "every:2"\n'
)
RULES: Final = b'[my-net]\nlayers = "layers.#"\nbuffers = ["mask"]\nexclude = ["teacher.*"]\n[my-net.inside]\n"mlp.up" = "mlp.in"\n'
TOML: Final = [
    b"[[",
    b"]]",
    b"=",
    b"'''",
    b'"""',
    b"[" * 300,
    b"{" * 30,
    b"9" * 5000,
    b"1979-05-27",
    b"inf",
    b"nan",
    b"\n",
    b".",
    b"#",
    b'"\\uD800"',
]
PICKLES: Final = [
    pickle.dumps(v, p) for v in ({"a": [1, 2.5, "x"]}, ("t", None, {1, 2}), {"n": {"m": b"bytes"}}) for p in (0, 2, 4)
]
OPCODES: Final = [bytes([c]) for c in b"()]}.0123alnNedstub\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94RQ\x81\x92o"]
REFS: Final = {
    "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": "a" * 40}],
    "tags": [],
    "converts": [],
}

OF_ZIP: Final = [b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\xff" * 4, bytes(8)]
OF_PICKLE: Final = [
    *OPCODES,
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"cos\nsystem\n",
    b"K\1",
    b"h\0",
    b"q\0",
    b"X\1\0\0\0w",
]
INDEX: Final = {"metadata": {"total_size": 3}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
MANIFEST: Final = manifest.Manifest(
    generation=1, checkpoints=2, blocks=1, parameters=4, gram_span=1, theta=None, archive=None, files={}
).to_bytes()
TARGETS: Final[dict[str, Target]] = {
    "safetensors header": Target(
        [headed(HEADER, bytes(24)), headed({"__metadata__": {"a": "b"}, **HEADER}, bytes(24))], JSON_WORDS, _safetensors
    ),
    "zip directory": Target([saved(STATE), saved([torch.ones(3)])], OF_ZIP, lambda d: ZipDirectory(region(d))),
    "torch file": Target(
        [saved(STATE), saved({"model": STATE})], [b"PK\1\2", b"\x80\2", *OPCODES], lambda d: read_torch(region(d))
    ),
    "pickle machine": Target(PICKLES, OF_PICKLE, lambda d: read_pickle(d, "fuzzed")),
    "index JSON": Target(
        [json.dumps(INDEX).encode()], [*JSON_WORDS, b'"weight_map"', b'"../x"'], lambda d: read_index(region(d))
    ),
    "Hub JSON": Target(
        [json.dumps(TREE).encode(), json.dumps(REFS).encode()], [*JSON_WORDS, b'"../x"', b'"/abs"', b'"oid":'], _hub
    ),
    "family TOML": Target([FAMILY], TOML, _family),
    "rules TOML": Target([RULES], TOML, _rules),
    "request body": Target([b'{"source": "runs:x", "priority": 1}'], JSON_WORDS, check_json),
    "log of lines": Target(
        [b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25, "lr": 1e-3}\n', b'{"epoch": 1, "loss": "nan"}\n'],
        JSON_WORDS,
        _log("metrics.jsonl"),
    ),
    "log of a trainer": Target(
        [b'{"log_history": [{"step": 1, "loss": 0.5, "learning_rate": 1e-3}, {"step": 2, "eval_loss": 1}]}'],
        JSON_WORDS,
        _log("trainer_state.json"),
    ),
    "log as a table": Target(
        [b"step,loss\n1,0.5\n2,0.25\n"], [b",", b"\n", b'"', b"\0", b"1e999", b"nan", b"step"], _log("metrics.csv")
    ),
    "hyperparameters": Target(
        [b"lr: 0.1\nmodel:\n  depth: 3\n  wide: [1, 2]\n", b'{"lr": 0.1, "betas": [0.9, 0.95]}'],
        [*TOML, b"&a ", b"*a", b"<<: *a", b"!!python/object:os.system ", b": ", b"- ", b"? "],
        _hyperparameters,
    ),
    "condition": Target(
        [b"lr>0.01", b"name ~ 'pythia'", b"parameters>=70M"],
        [b"!=", b"<=", b"~", b"'", b" " * 300, b"1e999", b"70M"],
        _condition,
    ),
    "steps": Target(
        [b"0,1,2", b"1000..5000", b"every:4", b"last:5"], [b"..", b",", b"every:", b"9" * 40, b"-", b"0" * 300], _steps
    ),
    "cursor and headers": Target(
        [b"eyJiZWZvcmUiOjV9", b"127.0.0.1:80", b"[::1]:9", b"bytes=0-5", b"text/html;q=0.5, */*"],
        [b"[", b"]", b":", b"=", b"-", b"_", b";q=", b",", b"\xff", b"9" * 400],
        _cursor,
    ),
    "manifest": Target([MANIFEST], JSON_WORDS, lambda d: manifest.parse(d, Path("fuzzed"))),
}


def mutated(dice: random.Random, target: Target) -> bytes:
    """A random tree of the target's seeds and words."""
    data = bytearray(dice.choice(target.seeds) if dice.random() < 0.9 else b"")
    for _ in range(dice.randint(1, 6)):
        at = dice.randint(0, len(data))
        match dice.randint(0, 6):
            case 0:
                data[at:at] = dice.choice(target.words)
            case 1:
                data[at : at + dice.randint(1, 16)] = dice.choice(target.words)
            case 2:
                del data[at : at + dice.randint(1, 64)]
            case 3 if data:
                data[at % len(data)] ^= 1 << dice.randint(0, 7)
            case 4:
                data[at:at] = dice.randbytes(dice.randint(1, 12))
            case 5:
                other = dice.choice(target.seeds)
                begin = dice.randint(0, len(other))
                data[at:at] = other[begin : begin + dice.randint(1, 200)]
            case _:
                data[at:at] = data[at : at + dice.randint(1, 32)] * dice.choice((1, 2, 50, 500))
    return bytes(data[:LONGEST])


def check(target: Target, data: bytes) -> bool:
    """Whether ``data`` is read; False where it is refused with an error of ours. Raises AssertionError for anything else."""
    begun = time.process_time()
    refusal = None
    try:
        target.read(data)
    except TrajsvcError as error:
        refusal = error
    took = time.process_time() - begun
    assert took < SLOW, f"{took:.1f} s"
    assert refusal is None or refusal.message
    return refusal is None
