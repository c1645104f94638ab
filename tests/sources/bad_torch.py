"""Torch archives that are wrong in one way each, and pickles that would do harm."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

State = Mapping[str, Any]


def saved(value: object) -> bytes:
    """``value`` as ``torch.save`` writes it."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def archived(contents: Mapping[str, bytes], *, deflate: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return out.getvalue()


def with_pickle(raw: bytes, storage: bytes = bytes(64)) -> bytes:
    """An archive whose data.pkl is ``raw``."""
    return archived({"archive/data.pkl": raw, "archive/data/0": storage, "archive/version": b"3\n"})


def changed(change: Callable[[dict[str, bytes]], None], value: object | None = None) -> bytes:
    """A good archive after ``change`` to its members."""
    contents = members(saved(value if value is not None else {"weight": torch.arange(12.0), "bias": torch.ones(3)}))
    change(contents)
    return archived(contents)


class Runs:
    """Pickles as a call of ``function``, which every unpickler but an inert one makes."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def described(
    *,
    storage: str = "FloatStorage",
    key: str = "0",
    count: int = 16,
    offset: int = 0,
    shape: tuple[int, ...] = (16,),
    strides: tuple[int, ...] = (1,),
    location: str = "cpu",
) -> bytes:
    """A pickle (protocol 2) of ``{"weight": tensor}`` whose parts are given one by one."""

    def number(value: int) -> bytes:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    reference = (
        b"("
        + text("storage")
        + b"ctorch\n"
        + storage.encode()
        + b"\n"
        + text(key)
        + text(location)
        + number(count)
        + b"tQ"
    )
    call = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + reference
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89}tR"
    )
    return b"\x80\x02}" + text("weight") + call + b"s."


def pickled_calls(path: Path) -> list[tuple[str, bytes]]:
    """Pickles that would create ``path`` if they ran, by what they name."""
    import builtins
    import os
    import subprocess

    touch = f"touch {path}"
    return [
        ("os.system", pickle.dumps({"w": Runs(os.system, touch)}, 2)),
        ("subprocess.Popen", pickle.dumps({"w": Runs(subprocess.Popen, ["touch", str(path)])}, 2)),
        ("builtins.eval", pickle.dumps({"w": Runs(builtins.eval, f"open({str(path)!r}, 'w')")}, 4)),
        ("builtins.exec", pickle.dumps({"w": Runs(builtins.exec, f"open({str(path)!r}, 'w')")}, 2)),
        ("builtins.open", pickle.dumps({"w": Runs(builtins.open, str(path), "w")}, 4)),
        ("protocol 0", b"(dS'w'\ncposix\nsystem\n(S'" + touch.encode() + b"'\ntRs."),
        ("inst", b"(dS'w'\n(S'" + touch.encode() + b"'\nios\nsystem\ns."),
        (
            "obj",
            b"\x80\x02}X\x01\x00\x00\x00w(cos\nsystem\nX" + struct.pack("<I", len(touch)) + touch.encode() + b"os.",
        ),
        ("dotted", b"\x80\x04}\x8c\x01w\x8c\x08builtins\x8c\x0f__import__.call\x93)Rs."),
        ("torch.load", b"\x80\x02}X\x01\x00\x00\x00wctorch\nload\nX\x01\x00\x00\x00f\x85Rs."),
    ]


def corrupted_directory(data: bytes, name: bytes, field: int, value: bytes) -> bytes:
    """``data`` with bytes of the directory's entry for ``name`` overwritten at ``field``."""
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(name))
    return data[: at + field] + value + data[at + field + len(value) :]


def duplicate_member(data: bytes) -> bytes:
    """``data`` with a second member of the first storage's name."""
    contents = members(data)
    name = next(n for n in contents if n.endswith("data/0"))
    twin = name[:-1] + "~"
    return archived({**contents, twin: bytes(len(contents[name]))}).replace(twin.encode(), name.encode())


def checksum(data: bytes) -> int:
    return zlib.crc32(data)
