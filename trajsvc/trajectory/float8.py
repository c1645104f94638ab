"""Read matrices of 8-bit floating types as the values that they stand for: codes, and the scales beside them.

A value is its code's, exactly one of float16; with scales, one for the tensor, a row, a column or a block of rows and
columns, it is the product, in a type that holds it: float32 for scales of a half type or powers of two, float64 for
others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final

from storage_schema.format.arrays import FLOAT_TYPES
from storage_schema.format.float8 import FLOAT8, POWERS
from storage_schema.models.results import Finding
from trajsvc.anatomy.buffers import SCALE, companions
from trajsvc.sources.base import Encoding, Scale, TensorEntry

Tensors = Mapping[str, TensorEntry]
Shape = tuple[int, ...]

USUAL_BLOCK: Final = 128
"""Elements along an axis that share a scale, where no config says it and the shapes leave it open."""
_EXACT_IN_SINGLE: Final = ("float16", "bfloat16", POWERS)


@dataclass(frozen=True)
class Decoded:
    """Checkpoints whose 8-bit matrices are read as values; ``scales``: tensor → why it is no parameter."""

    tensors: list[Tensors]
    scales: Mapping[str, str] = field(default_factory=dict)


def decoded(checkpoints: Sequence[Tensors], config: Mapping[str, Any] | None = None) -> Decoded:
    """Return ``checkpoints`` with every matrix of an 8-bit floating type replaced by one of values.

    A matrix whose scales do not fit it stays as it is.
    """
    if not any(e.dtype in FLOAT8 for tensors in checkpoints for e in tensors.values()):
        return Decoded(list(checkpoints))
    blocks = _stated_blocks(config or {}) or _common_blocks(checkpoints)
    scales: dict[str, str] = {}
    found: list[Tensors] = []
    for tensors in checkpoints:
        used: dict[str, TensorEntry] = {}
        for name, entry in tensors.items():
            if entry.dtype in FLOAT8 and (values := _values(name, entry, tensors, blocks)) is not None:
                used[name] = values
                if values.encoding is not None and values.encoding.scale is not None:
                    scales[values.encoding.scale.name] = SCALE
        scales |= companions({n: (e.shape, e.dtype) for n, e in tensors.items()})
        found.append({n: used.get(n, e) for n, e in tensors.items()})
    return Decoded(found, scales)


def _values(name: str, entry: TensorEntry, tensors: Tensors, blocks: Shape) -> TensorEntry | None:
    beside = next((n for n in scale_names(name) if n in tensors), None)
    if beside is None:
        return replace(entry, dtype="float16", encoding=Encoding(entry.dtype))
    scale = _scale(beside, tensors[beside], entry.shape, blocks)
    if scale is None:
        return None
    wide = "float32" if scale.dtype in _EXACT_IN_SINGLE else "float64"
    return replace(entry, dtype=wide, encoding=Encoding(entry.dtype, scale))


def scale_names(name: str) -> list[str]:
    """Return the possible names of a tensor's scale: ``q_proj.weight_scale_inv``, ``q_proj.weight_scale``,
    ``q_proj.scale`` …

    The values are multiplied by it under each of these names.
    """
    module, dot, leaf = name.rpartition(".")
    found = [f"{name}_scale_inv", f"{name}_scale"]
    if leaf == "weight":
        found += [f"{module}{dot}{n}" for n in ("scale_weight", "scale_inv", "scale")]
    if leaf == "_data":
        found.append(f"{module}{dot}_scale")
    return found


def _scale(name: str, entry: TensorEntry, shape: Shape, blocks: Shape) -> Scale | None:
    """Return the scales in ``entry`` for a tensor of ``shape``; None if they do not fit it."""
    if (
        not entry.plain
        or entry.pieces is not None
        or entry.dtype not in (*FLOAT_TYPES, POWERS)
        or not shape
        or 0 in shape
    ):
        return None
    spread = _spread(entry.shape, shape)
    if spread is None:
        return None
    stated = (0,) * (len(shape) - len(blocks)) + blocks[-len(shape) :]
    block = [_block(d, k, b) for d, k, b in zip(shape, spread, stated, strict=True)]
    if None in block:
        return None
    return Scale(name, entry.dtype, spread, tuple(b for b in block if b is not None), entry.file, entry.offset)


def _spread(scales: Shape, shape: Shape) -> Shape | None:
    """Return the shape of ``scales`` in as many dimensions as the tensor has; None if it does not fit."""
    if prod(scales) == 1:
        return (1,) * len(shape)
    while len(scales) > len(shape) and 1 in scales:
        at = scales.index(1)
        scales = scales[:at] + scales[at + 1 :]
    if len(scales) == 1 and len(shape) > 1 and scales[0] != shape[0]:
        return (1,) * (len(shape) - 1) + scales if scales[0] == shape[-1] else None
    return scales + (1,) * (len(shape) - len(scales)) if len(scales) <= len(shape) else None


def _block(elements: int, scales: int, stated: int) -> int | None:
    """Return how many of ``elements`` along an axis share one of ``scales``; None if they do not divide so."""
    if scales in (1, elements):
        return elements // scales
    for block in (stated, USUAL_BLOCK):
        if block and -(-elements // block) == scales:
            return block
    return elements // scales if scales and elements % scales == 0 else None


def _common_blocks(checkpoints: Sequence[Tensors]) -> Shape:
    """Return (rows, columns) of the blocks that fit all scales of matrices.

    The usual block is taken if it fits, else one that divides them, else a power of two; 0 where none fits all.
    """
    pairs: dict[int, set[tuple[int, int]]] = {-2: set(), -1: set()}
    for tensors in checkpoints:
        for name, entry in tensors.items():
            beside = (
                next((tensors[n] for n in scale_names(name) if n in tensors), None) if entry.dtype in FLOAT8 else None
            )
            if beside is None or len(beside.shape) != len(entry.shape) or len(entry.shape) < 2:
                continue
            for axis, found in pairs.items():
                if 1 < beside.shape[axis] < entry.shape[axis]:
                    found.add((entry.shape[axis], beside.shape[axis]))
    return (_fitting(pairs[-2]), _fitting(pairs[-1]))


def _fitting(pairs: Collection[tuple[int, int]]) -> int:
    """Return the block size that fits all ``pairs`` (elements, scales); 0 if there is none."""
    least = max((-(-d // k) for d, k in pairs), default=1)
    most = min((-(-d // (k - 1)) - 1 for d, k in pairs), default=0)
    if least > most:
        return 0
    if least <= USUAL_BLOCK <= most:
        return USUAL_BLOCK
    power = 1 << (least - 1).bit_length()
    return least if power > most or all(d % k == 0 and d // k == least for d, k in pairs) else power


def _stated_blocks(config: Mapping[str, Any]) -> Shape:
    """Return ``weight_block_size`` of a config's ``quantization_config``."""
    quantised = config.get("quantization_config")
    stated = quantised.get("weight_block_size") if isinstance(quantised, Mapping) else None
    whole = isinstance(stated, list) and all(type(b) is int and b > 0 for b in stated)
    return tuple(stated) if stated is not None and whole else ()


def float8_finding(checkpoints: Sequence[Tensors], kept: Sequence[str], steps: Sequence[int]) -> Finding | None:
    """Report which of the tensors ``kept`` in a run are of 8-bit types, and what they are multiplied by."""
    encoded = {
        n: e for tensors in checkpoints for n in kept if (e := tensors.get(n)) is not None and e.encoding is not None
    }
    if not encoded:
        return None
    types = ", ".join(sorted({e.stored_type for e in encoded.values()}))
    scaled = Counter(_said(e) for e in encoded.values())
    at = tuple(
        s
        for s, t in zip(steps, checkpoints, strict=True)
        if any((e := t.get(n)) is not None and e.encoding for n in encoded)
    )
    many = f"{len(encoded)} tensors" if len(encoded) > 1 else "1 tensor"
    how = "; ".join(f"{count} {what}" for what, count in scaled.most_common(4))
    return Finding(
        kind="float8",
        severity="info",
        message=f"{many} of type {types} {'are' if len(encoded) > 1 else 'is'} read as the values that the codes stand for: {how}",
        steps=at,
        tensors=tuple(list(encoded)[:20]),
        details={
            "types": types,
            "scaled": sum(e.encoding is not None and e.encoding.scale is not None for e in encoded.values()),
        },
    )


def _said(entry: TensorEntry) -> str:
    scale = None if entry.encoding is None else entry.encoding.scale
    if scale is None:
        return "without a scale beside them"
    leaf = scale.name.rpartition(".")[2]
    if prod(scale.shape) == 1:
        return f"times {leaf}"
    return f"times {leaf}, one for {' × '.join(map(str, scale.block))} values"
