"""Logs and trainers' files that become many times their bytes in memory, or take minutes: read in part or not at all."""

from __future__ import annotations

import time
from importlib.util import find_spec

import pytest

from trajsvc.sources.files import Region
from trajsvc.sources.logs import entries as logs
from trajsvc.sources.logs.entries import entries
from trajsvc.sources.logs.hyperparameters import MOST_YAML, hyperparameters
from trajsvc.sources.logs.plain_yaml import parse
from trajsvc.sources.logs.training_log import MOST_NAMES, quantities

LARGE = 2**23


class Written:
    """Files by path."""

    def __init__(self, **files: bytes) -> None:
        self.files = {name.replace("__", "."): data for name, data in files.items()}

    def exists(self, path: str) -> bool:
        return path in self.files

    def region(self, path: str) -> Region:
        data = self.files[path]
        return Region(path, 0, len(data), lambda offset, count: data[offset : offset + count])

    def names(self, folder: str) -> list[str]:
        return list(self.files)


def read(name: str, data: bytes) -> list[logs.Entry]:
    return entries(Written(**{name.replace(".", "__"): data}), name)


@pytest.mark.parametrize(
    ("name", "data", "most"),
    [
        ("log.jsonl", b"\n" * LARGE, 0),
        ("log.jsonl", b"x\n" * (LARGE // 2), 0),
        ("log.jsonl", b'{"a": [' + b"[]," * (LARGE // 3) + b"[]]}", 0),
        ("trainer_state.json", b'{"log_history": [' + b"{}," * (LARGE // 3) + b"{}]}", 0),
        ("log.csv", b"a\n" + b"\n" * LARGE, 0),
        ("log.csv", b"," * LARGE, 0),
        ("log.csv", b'a,b\n"' + b'\n","' * (LARGE // 4), 0),
        pytest.param("log.csv", b"a,b\n" + b"1,2\n" * (LARGE // 4), logs.MOST_ENTRIES, marks=pytest.mark.slow),
    ],
    ids=["blank-lines", "no-json", "one-line", "entries", "blank-rows", "columns", "a-row-of-lines", "rows"],
)
def test_a_log_of_nothing_takes_little(name: str, data: bytes, most: int) -> None:
    begun = time.process_time()
    assert len(read(name, data)) <= most
    assert time.process_time() - begun < 20, "on a quiet machine one or two; without a bound a minute"


def test_what_comes_before_the_bound_is_read() -> None:
    lines = b'{"step": 1, "loss": 2.5}\n' * 10
    assert len(read("log.jsonl", lines + b"x\n" * (logs.MOST_STRAY + 2) + lines)) == 10
    assert read("log.csv", b"step,loss\r\n1,2.5\r\n\r\n2,2.0\r\n") == [
        {"step": 1, "loss": 2.5},
        {"step": 2, "loss": 2.0},
    ]
    assert read("log.csv", '\ufeffstep,"a\nb"\n1,3\n'.encode()) == [{"step": 1, "a\nb": 3}]


def test_names_of_every_entry_are_not_all_kept() -> None:
    found = quantities(({"step": k, f"name{k}": 1.0, "loss": 2.0} for k in range(MOST_NAMES + 100)), {})
    assert len(found) == MOST_NAMES
    assert len(found["loss"]) == MOST_NAMES + 100


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_an_event_of_many_values_is_passed_over() -> None:
    from io import BytesIO

    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    out = BytesIO()
    writer = RecordWriter(out)
    one = Event(step=3, summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.5)])).SerializeToString()
    many = Event(step=4, summary=Summary(value=[Summary.Value()] * logs.LONGEST)).SerializeToString()
    for record in (one, many, one):
        writer.write(record)
    assert read("events.out.tfevents.1", out.getvalue()) == [{"step": 3, "loss": 0.5}] * 2
    assert read("events.out.tfevents.1", out.getvalue() + b"\xff" * 100) == [{"step": 3, "loss": 0.5}] * 2


def test_numbers_of_base_sixty_are_text_in_yaml() -> None:
    begun = time.process_time()
    assert parse(b"a: 1:30:00\nb: 1:30.5\nc: 0x10\nd: 1e3\ne: 1.5\n") == {
        "a": "1:30:00", "b": "1:30.5", "c": 16, "d": "1e3", "e": 1.5,
    }  # fmt: skip
    parse(b"a: 1" + b":1" * 100_000)
    assert time.process_time() - begun < 3, "quadratic: six seconds"


def test_all_yaml_of_a_run_has_one_bound() -> None:
    much = b"# " + b"x" * (MOST_YAML // 2) + b"\nlr: 1\n"
    files = {"hparams__yaml": much, "hyperparameters__yaml": b"# " + much + b"wd: 1\n", "args__json": b'{"seed": 1}'}
    assert {h.name for h in hyperparameters(Written(**files), "", [])} == {"lr", "seed"}
