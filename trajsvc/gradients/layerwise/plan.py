"""What a computation of per-example Grams will hold and do: forms, groups of examples, passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trajsvc.errors import LimitExceeded
from trajsvc.gradients.layerwise.survey import Look

TOGETHER = 32
"""examples that are evaluated together, at most"""
GRAPH = 3
"""what is caught in a pass and what autograd keeps, as a multiple of what is caught: an estimate"""


@dataclass(frozen=True)
class LayerwisePlan:
    """Tensors in ``products`` are kept as inputs and output gradients of all examples and never formed; the others as rows.

    ``parts`` are the tensors that are looked at in one pass; in each, ``group`` examples are held (half of the memory) while those after
    them are evaluated ``chunk`` at a time. ``bytes`` is what is held at most, ``evaluations`` how many forward and backward passes of
    single examples, ``operations`` multiplications of these (estimated) and of the Grams.
    """

    parts: tuple[tuple[str, ...], ...]
    products: frozenset[str]
    groups: tuple[int, ...]
    chunk: int
    bytes: int
    evaluations: int
    operations: int


@dataclass(frozen=True)
class Cost:
    """Of one tensor: bytes an example, and operations of the whole Gram."""

    bytes: int
    operations: int


def costs_of_rows(look: Look, count: int) -> Cost:
    """Count n T R S to form g_i (n T S for tokens), and n² R S to multiply them."""
    forming = sum(t * s * (1 if tokens else r) for t, r, s, tokens in look.outer or ())
    return Cost(look.parameters * look.itemsize, count * forming + count**2 * look.parameters)


def costs_of_products(look: Look, count: int) -> Cost | None:
    """Count n² T² (R + S), or n² T² (1 + S) for tokens."""
    if look.outer is None:
        return None
    pairs = ((a, b) for a in look.outer for b in look.outer)
    products = sum(ta * tb * (s + 1 + (0 if tokens else r)) for (ta, r, s, tokens), (tb, *_) in pairs)
    return Cost(look.caught, count**2 * products)


def make_plan(
    looks: Mapping[str, Look], whole: frozenset[str], count: int, memory: int, *, together: int | None
) -> LayerwisePlan:
    """Choose for every tensor the form of fewer operations; the one of fewer bytes where that saves passes. Tensors in ``whole`` have
    blocks that are rows or columns.

    Raises LimitExceeded (``memory-budget``) where two examples of one tensor do not fit.
    """
    rows = {name: costs_of_rows(look, count) for name, look in looks.items()}
    found = {name: costs_of_products(look, count) for name, look in looks.items() if name in whole}
    products = {name: cost for name, cost in found.items() if cost is not None}
    best = [
        _planned(looks, rows, products, chosen, count, memory, together or TOGETHER)
        for chosen in _choices(rows, products)
    ]
    possible = [plan for plan in best if plan is not None]
    if not possible:
        raise _too_large(rows, products, count, memory)
    return min(possible, key=lambda plan: plan.operations)


def _choices(rows: Mapping[str, Cost], products: Mapping[str, Cost]) -> Iterator[frozenset[str]]:
    """Try tensors as products: by operations first, then more and more tensors by bytes, those that save most first."""
    chosen = {name for name, cost in products.items() if cost.operations < rows[name].operations}
    yield frozenset(chosen)
    saved = {name: (rows[name].bytes - cost.bytes) * (-1 if name in chosen else 1) for name, cost in products.items()}
    for name in sorted((n for n, s in saved.items() if s > 0), key=lambda n: -saved[n]):
        chosen ^= {name}
        yield frozenset(chosen)


def _planned(
    looks: Mapping[str, Look],
    rows: Mapping[str, Cost],
    products: Mapping[str, Cost],
    chosen: frozenset[str],
    count: int,
    memory: int,
    together: int,
) -> LayerwisePlan | None:
    costs = {name: products[name] if name in chosen else cost for name, cost in rows.items()}
    room = memory // 2
    if any(cost.bytes > room for cost in costs.values()):
        return None
    parts = tuple(_parts({n: c.bytes for n, c in costs.items()}, room, count))
    sizes = [sum(costs[n].bytes for n in part) for part in parts]
    groups = tuple(min(count, room // max(1, size)) for size in sizes)
    evaluations = sum(count - start for group in groups for start in range(0, count, group))
    held = max((group * size for group, size in zip(groups, sizes, strict=True)), default=0)
    chunk = min(together, _chunk(parts, looks, memory - memory // 8 - held, count))
    single = 6 * sum(_passing(look) for look in looks.values())
    return LayerwisePlan(
        parts=parts,
        products=chosen,
        groups=groups,
        chunk=chunk,
        bytes=held,
        evaluations=evaluations,
        operations=evaluations * single + sum(cost.operations for cost in costs.values()),
    )


def _parts(sizes: Mapping[str, int], room: int, count: int) -> Iterator[tuple[str, ...]]:
    """Divide the tensors into those that are held together: all where all fit; otherwise four examples of several do."""
    limit = room if sum(sizes.values()) * count <= room else room // 4
    part: list[str] = []
    for name, size in sizes.items():
        if part and sum(sizes[n] for n in part) + size > limit:
            yield tuple(part)
            part = []
        part.append(name)
    if part:
        yield tuple(part)


def _chunk(parts: Sequence[Sequence[str]], looks: Mapping[str, Look], room: int, count: int) -> int:
    need = max((sum(GRAPH * looks[n].caught for n in part) for part in parts), default=1)
    return max(1, min(count, room // max(1, need)))


def _passing(look: Look) -> int:
    return sum(t * s * (1 if tokens else r) for t, r, s, tokens in look.outer) if look.outer else look.parameters


def _too_large(rows: Mapping[str, Cost], products: Mapping[str, Cost], count: int, memory: int) -> LimitExceeded:
    least = {n: min(c.bytes, products[n].bytes if n in products else c.bytes) for n, c in rows.items()}
    name = max(least, key=lambda n: least[n])
    return LimitExceeded(
        "memory-budget",
        f"two of {count} gradients of {name} take {2 * least[name]:,} bytes, more than the memory budget of {memory:,} bytes",
        hint="Give more memory.",
    )
