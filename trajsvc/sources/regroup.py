"""Match tensors that some checkpoints of a run store otherwise than others: experts of a mixture, layers, gate and up, Q, K and V apart
or as one; with axes of length 1 or without; kernels as matrices.

Stored as one they are the parts one after the other, each in C order. So the parts are pieces of the whole, and the
whole holds the parts as ranges: nothing is copied, the bytes are read where they lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Final

from storage_schema.format.arrays import ITEMSIZE
from trajsvc.sources.base import Piece, TensorEntry

_EXPERTS: Final = re.compile(r"(?P<stem>.+\.experts)\.(?P<what>[A-Za-z]\w*(?:\.[A-Za-z]\w*)??)(?:\.weight)?\Z")
_DENSE: Final = re.compile(r"(?P<stem>.+)\.(?P<what>[A-Za-z]\w*)\.(?P<leaf>weight|bias)\Z")
_IN_PROJ: Final = re.compile(r"(?P<stem>.+)\.in_proj_(?P<leaf>weight|bias)\Z")
_OF_EXPERT: Final = {
    "gate_up_proj": (("gate_proj.weight", "up_proj.weight"), ("w1.weight", "w3.weight")),
    "down_proj": (("down_proj.weight",), ("w2.weight",)),
}
"""Leaves of an expert whose own names differ from that of the stack; others are stacked under their own."""
_QKV: Final = (
    ("q_proj", "k_proj", "v_proj"), ("q", "k", "v"), ("query", "key", "value"), ("to_q", "to_k", "to_v"), ("wq", "wk", "wv"),
    ("Wq", "Wk", "Wv"), ("q_lin", "k_lin", "v_lin"),
)  # fmt: skip
_GATE_UP: Final = (("gate_proj", "up_proj"), ("w1", "w3"))
_OF_DENSE: Final = {
    "gate_up_proj": _GATE_UP, "w13": _GATE_UP, "w12": (("w1", "w2"),), "qkv_proj": _QKV, "qkv": _QKV, "Wqkv": _QKV, "to_qkv": _QKV,
    "kv_proj": tuple(p[1:] for p in _QKV), "to_kv": tuple(p[1:] for p in _QKV),
}  # fmt: skip
"""Projections that are stored one after the other. Those of GPT-NeoX (``query_key_value``) are mixed head by head, and are none."""


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
            there = target[name].shape
            if (
                entry.shape != there
                and _same_elements(entry.shape, there)
                and entry.strides is None
                and entry.encoding is None
            ):
                out[name] = replace(entry, shape=there)
                done[f"{_shown(name)} {list(entry.shape)} → {list(there)}"] = None
            continue
        for parts in part_names(name, entry.shape, target):
            apart = _apart(entry, [(p, target[p].shape) for p in parts])
            if apart:
                out = {n: e for n, e in out.items() if n != name} | apart
                done[f"{_shown(name)} → {_shown(parts[0])} …"] = None
                break
    return out, tuple(done)


def _same_elements(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether two shapes are views of the same elements in one order: they differ in axes of length 1 (a convolution of length
    1 and a linear layer), or one is the other with all axes but the first as one (the patches of a vision model).
    """
    if [n for n in shape if n != 1] == [n for n in other if n != 1]:
        return True
    return (
        2 in (len(shape), len(other))
        and shape[:1] == other[:1]
        and prod(shape) == prod(other)
        and 1 not in (len(shape), len(other))
    )


def part_names(name: str, shape: tuple[int, ...], names: Mapping[str, TensorEntry]) -> list[list[str]]:
    """Return the lists of ``names`` that would be the parts of a tensor stored as one, in its order."""
    found = []
    if shape and (match := _EXPERTS.match(name)):
        stems = [match["stem"], match["stem"].replace(".mlp.experts", ".block_sparse_moe.experts")]
        for stem in dict.fromkeys(stems):
            for leaves in _OF_EXPERT.get(match["what"], ((match["what"],), (f"{match['what']}.weight",))):
                found.append(_of_experts(stem, leaves, shape, names))
    elif match := _IN_PROJ.match(name):
        for three in _QKV:
            found.append([f"{match['stem']}.{part}.{match['leaf']}" for part in three])
            found.append([f"{match['stem']}.{part}_{match['leaf']}" for part in three])
    elif match := _DENSE.match(name):
        for leaves in _OF_DENSE.get(match["what"], ()):
            found.append([f"{match['stem']}.{leaf}.{match['leaf']}" for leaf in leaves])
    found.append(_of_layers(name, shape, names))
    return [parts for parts in found if parts and all(p in names for p in parts)]


def _of_layers(name: str, shape: tuple[int, ...], names: Mapping[str, TensorEntry]) -> list[str]:
    """Return the layers' tensors of a stack of (layers, …), as trainers in JAX scan over: the name with a number in one place."""
    words = name.split(".")
    for k in range(1, len(words) if len(shape) > 1 else 1):
        stem, rest = ".".join(words[:k]), ".".join(words[k:])
        first = names.get(f"{stem}.0.{rest}")
        if first is not None and first.shape == shape[1:] and f"{stem}.{shape[0]}.{rest}" not in names:
            return [f"{stem}.{layer}.{rest}" for layer in range(shape[0])]
    return []


def _of_experts(
    stem: str, leaves: Sequence[str], shape: tuple[int, ...], names: Mapping[str, TensorEntry]
) -> list[str]:
    """Return the experts' parts of a stack: (experts, …), or (experts · rows, columns) where as many experts are there as fill it."""
    count = shape[0]
    first = names.get(f"{stem}.0.{leaves[0]}")
    if len(shape) == 2 and first is not None and len(first.shape) == 2 and first.shape[0]:
        count = shape[0] // (first.shape[0] * len(leaves))
    if f"{stem}.{count}.{leaves[0]}" in names:
        return []
    return [f"{stem}.{e}.{leaf}" for e in range(count) for leaf in leaves]


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
        not _plain(p, first.dtype) or not _alike(p.shape, shape) for p in parts
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
    fits = at == entry.size and _plain(entry, entry.dtype) and all(_alike(s, entry.shape) for _, s in parts)
    return found if fits else {}


def _alike(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Return whether a part has rows as long as those of the whole; of a vector, whether it is one."""
    return len(part) == 1 if len(whole) == 1 else part[-1:] == whole[-1:]


def _plain(entry: TensorEntry, dtype: str) -> bool:
    return entry.strides is None and entry.pieces is None and entry.dtype == dtype and dtype in ITEMSIZE


def _shown(name: str) -> str:
    return re.sub(r"(?<=\.)[0-9]+(?=\.)", "#", name)
