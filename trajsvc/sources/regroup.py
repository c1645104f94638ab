"""Match tensors that some checkpoints of a run store apart and others as one: experts of a mixture, gate and up, Q, K
and V.

Stored as one they are the parts one after the other, each in C order. So the parts are pieces of the whole, and the
whole holds the parts as ranges: nothing is copied, the bytes are read where they lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.sources.base import Piece, TensorEntry

_EXPERTS: Final = re.compile(r"(?P<stem>.+\.experts)\.(?P<what>gate_up_proj|down_proj)(?:\.weight)?\Z")
_DENSE: Final = re.compile(r"(?P<stem>.+)\.(?P<what>gate_up_proj|qkv_proj)\.(?P<leaf>weight|bias)\Z")
_OF_EXPERT: Final = {
    "gate_up_proj": (("gate_proj.weight", "up_proj.weight"), ("w1.weight", "w3.weight")),
    "down_proj": (("down_proj.weight",), ("w2.weight",)),
}
_OF_DENSE: Final = {"gate_up_proj": ("gate_proj", "up_proj"), "qkv_proj": ("q_proj", "k_proj", "v_proj")}


def regrouped(
    tensors: Mapping[str, TensorEntry], target: Mapping[str, TensorEntry]
) -> tuple[dict[str, TensorEntry], tuple[str, ...]]:
    """Join the tensors that ``target`` has as one, and split those that it has apart; return the result and what was
    done, in words.

    This is done only if every part is there, lies without gaps, and the shapes agree.
    """
    out = dict(tensors)
    done: dict[str, None] = {}
    for name, entry in target.items():
        if name in out:
            continue
        for parts in part_names(name, entry.shape, out):
            whole = _together(name, entry.shape, [out[p] for p in parts])
            if whole is not None:
                out = {n: e for n, e in out.items() if n not in parts} | {name: whole}
                done[f"{_shown(parts[0])} … → {_shown(name)}"] = None
                break
    for name, entry in list(out.items()):
        if name in target:
            continue
        for parts in part_names(name, entry.shape, target):
            apart = _apart(entry, [(p, target[p].shape) for p in parts])
            if apart:
                out = {n: e for n, e in out.items() if n != name} | apart
                done[f"{_shown(name)} → {_shown(parts[0])} …"] = None
                break
    return out, tuple(done)


def part_names(name: str, shape: tuple[int, ...], names: Mapping[str, TensorEntry]) -> list[list[str]]:
    """Return the lists of ``names`` that would be the parts of a tensor stored as one, in its order."""
    found = []
    if (match := _EXPERTS.match(name)) and len(shape) == 3:
        stems = [match["stem"], match["stem"].replace(".mlp.experts", ".block_sparse_moe.experts")]
        for stem in dict.fromkeys(stems):
            for leaves in _OF_EXPERT[match["what"]]:
                parts = [f"{stem}.{e}.{leaf}" for e in range(shape[0]) for leaf in leaves]
                if all(p in names for p in parts):
                    found.append(parts)
    elif match := _DENSE.match(name):
        parts = [f"{match['stem']}.{leaf}.{match['leaf']}" for leaf in _OF_DENSE[match["what"]]]
        if all(p in names for p in parts):
            found.append(parts)
    return found


def _together(name: str, shape: tuple[int, ...], parts: Sequence[TensorEntry]) -> TensorEntry | None:
    """Return the parts as one tensor of pieces; None if they do not make one."""
    first = parts[0]
    whole = replace(
        first,
        name=name,
        shape=shape,
        strides=None,
        storage=None,
        storage_offset=0,
        storage_nbytes=0,
        crc32=None,
        pieces=None,
    )
    if sum(p.size for p in parts) != whole.size or any(
        not _plain(p, first.dtype) or p.shape[-1:] != shape[-1:] for p in parts
    ):
        return None
    pieces = []
    at = 0
    for part in parts:
        pieces.append(Piece(at, at + part.size, part.file, part.offset))
        at += part.size
    return replace(whole, pieces=tuple(pieces))


def _apart(entry: TensorEntry, parts: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, TensorEntry]:
    """Return a tensor as its parts; empty if they do not fill it."""
    found: dict[str, TensorEntry] = {}
    at = 0
    for name, shape in parts:
        part = replace(entry, name=name, shape=shape, storage=None, storage_offset=0, storage_nbytes=0, crc32=None)
        found[name] = replace(part, offset=entry.offset + at * ITEMSIZE.get(entry.dtype, 1))
        at += part.size
    fits = at == entry.size and _plain(entry, entry.dtype) and all(s[-1:] == entry.shape[-1:] for _, s in parts)
    return found if fits else {}


def _plain(entry: TensorEntry, dtype: str) -> bool:
    return entry.strides is None and entry.pieces is None and entry.dtype == dtype and dtype in ITEMSIZE


def _shown(name: str) -> str:
    return re.sub(r"(?<=\.)[0-9]+(?=\.)", "#", name)
