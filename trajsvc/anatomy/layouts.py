"""Compute where the parts of a fused tensor lie: extents of Q, K and V from a layout and the number of heads."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from trajsvc.anatomy.blocks import Extent
from trajsvc.anatomy.rule import Fused
from trajsvc.errors import Refused

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """What is known of a model's attention; ``head_dim`` only where the config says it."""

    heads: int | None = None
    head_dim: int | None = None


def whole(shape: Shape) -> Extent:
    """Return the extent of a whole tensor."""
    size = prod(shape)
    return Extent(1, size, 0, size)


def part_extents(fused: Fused, tensor: str, shape: Shape, weight: Shape, heads: Heads) -> tuple[Extent, ...]:
    """Compute the extents of ``fused.parts`` in a tensor of ``shape``; they partition it.

    The n features of the split axis are seen as [groups, Σ widths]; part p is the same ``widths[p]`` features of every group.
    With ``before`` elements of earlier axes and ``rest`` of later ones its extent is
    ``Extent(before * groups, n / groups * rest, Σ widths[:p] * rest, widths[p] * rest)``.

    ``weight`` is the shape of the module's weight: a bias is split as its weight is, and the weight's other axis is the model's
    width, which gives head_dim = width / heads where the config does not.

    Raises Refused: ``heads-unknown``, ``layout-mismatch`` (the shape is not of this layout).
    """
    axis = _axis(fused, tensor, shape)
    features = shape[axis]
    groups, widths = _widths(fused, tensor, features, _width_of_model(fused, weight), heads)
    before, rest = prod(shape[:axis]), prod(shape[axis + 1 :])
    starts = [sum(widths[:p]) for p in range(len(widths))]
    return tuple(
        Extent(before * groups, features // groups * rest, start * rest, width * rest)
        for start, width in zip(starts, widths, strict=True)
    )


def _axis(fused: Fused, tensor: str, shape: Shape) -> int:
    if fused.axis == "expert-rows":
        if len(shape) < 2:
            raise _mismatch(fused, tensor, f"has shape {list(shape)}, not one of [experts, features, …]")
        return 1
    if not shape:
        raise _mismatch(fused, tensor, "is a single number")
    if fused.axis == "rows" or len(shape) == 1:
        return 0
    if fused.axis == "columns":
        return len(shape) - 1
    times = len(fused.parts)
    if len(shape) == 2 and shape[1] == times * shape[0]:
        return 1
    if len(shape) == 2 and shape[0] == times * shape[1]:
        return 0
    raise _mismatch(fused, tensor, f"has shape {list(shape)}, of which neither axis is {times} times the other")


def _width_of_model(fused: Fused, weight: Shape) -> int | None:
    """Return the number of input features of the fused module: the other axis of its weight."""
    if len(weight) != 2:
        return None
    return weight[0] if fused.axis == "columns" else weight[1]


def _widths(fused: Fused, tensor: str, features: int, width: int | None, heads: Heads) -> tuple[int, tuple[int, ...]]:
    """Return (number of groups, features of each part in a group)."""
    count = len(fused.parts)
    if fused.layout == "concatenated":
        return 1, (_divided(fused, tensor, features, count, f"{count} parts"),) * count
    if heads.heads is None:
        raise _heads_unknown(tensor)
    if fused.layout == "interleaved":
        divisor = heads.heads * count
        return heads.heads, (
            _divided(fused, tensor, features, divisor, f"{heads.heads} heads of {count} parts"),
        ) * count
    queries, dim = heads.heads, heads.head_dim
    if dim is None:
        if width is None:
            raise _mismatch(fused, tensor, "has no weight beside it that would tell the size of a head")
        dim = _divided(fused, tensor, width, queries, f"{queries} heads")
    slots = _divided(fused, tensor, features, dim, f"heads of {dim} features")
    kv, odd = divmod(slots - queries, 2)
    if kv < 1 or odd or queries % kv:
        raise _mismatch(
            fused, tensor, f"has {slots} heads of {dim} features, which are not {queries} queries with keys and values"
        )
    if fused.layout == "grouped-concatenated":
        return 1, (queries * dim, kv * dim, kv * dim)
    return kv, (queries // kv * dim, dim, dim)


def _divided(fused: Fused, tensor: str, features: int, by: int, what: str) -> int:
    size, left = divmod(features, by)
    if left or not size:
        raise _mismatch(fused, tensor, f"has {features} features, which are not {what}")
    return size


def _heads_unknown(tensor: str) -> Refused:
    return Refused(
        "heads-unknown",
        f"{tensor} holds Q, K and V head by head, and the number of heads is not known",
        hint="Pass --heads N, put the model's config.json beside the checkpoint, or name it in a file for --rules.",
        tensor=tensor,
    )


def _mismatch(fused: Fused, tensor: str, what: str) -> Refused:
    return Refused(
        "layout-mismatch",
        f"{tensor} {what}: it is not laid out as {fused.layout} {', '.join(part for part, _ in fused.parts)}",
        hint="Check the number of heads (--heads, config.json), or describe the tensor in a file for --rules.",
        tensor=tensor,
    )
