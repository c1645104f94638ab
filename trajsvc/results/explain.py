"""A run in words: what its numbers say, each with the number, what chance would give, and where it was seen.

Every statement is made by a rule below, from measures alone. A rule is silent where its number is undefined or where there are too few
checkpoints to say; it says no more than the number carries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from storage_schema.models.results import QkvRow, Statement
from trajsvc.measures import correlations, maps, norms, nulls, variance
from trajsvc.measures.base import GroupGram
from trajsvc.measures.nulls import below_floor
from trajsvc.results.depth import attention_layers
from trajsvc.results.labels import numbers_of
from trajsvc.results.measure_methods import MeasureMethods
from trajsvc.results.tables import qkv_row

_MINUS: Final = re.compile(r"(?<![\w.])-(?=\d)")
FEWEST: Final = 6
"""checkpoints from which on means over a trajectory are put in words"""
FEWEST_UPDATES: Final = 3
NEAR: Final = 0.05
"""a relative difference below which two numbers are called equal"""


def explain(run: MeasureMethods, rows: Sequence[QkvRow] | None = None) -> list[Statement]:
    """Say in words what the numbers of ``run`` say, the most general first.

    ``rows`` are those of its Q, K and V, where they are known already. Raises what reading a damaged store raises.
    """
    gram = run.gram()
    if len(gram.steps) < FEWEST:
        text = f"{len(gram.steps)} checkpoints are too few to say how the network moved; {FEWEST} are the fewest."
        return [_statement("too-few", text, len(gram.steps), FEWEST, gram)]
    found = [
        *_straightness(gram),
        *_directions(gram),
        *_alignment(run, gram),
        *_changes(run),
        *_layers(run),
        *_attention(run, rows),
        *_rounding(run, gram),
    ]
    if run.estimate is not None:
        share = f"{float(run.estimate.get('fraction', 0.0)):.1%}"
        text = f"These numbers are estimates from {share} of the values; analyse the run whole before you rest anything on them."
        found.append(_statement("estimate", text, run.estimate.get("fraction"), None, gram))
    return found


def _straightness(gram: GroupGram) -> Iterator[Statement]:
    """Compare the mean of the relative map with that of a random walk of the same update norms (Hallmarks, appendix C)."""
    found, chance = maps.relative_mds(gram), nulls.random_walk_mds(gram)
    if not (math.isfinite(found) and math.isfinite(chance)):
        return
    how = (
        "as straight as"
        if abs(found - chance) <= NEAR * chance
        else "straighter than"
        if found > chance
        else "more winding than"
    )
    text = (
        f"From its start the network went {how} a random walk of the same step lengths: "
        f"relative MDS {found:.3g} against {chance:.3g}."
    )
    yield _statement("straightness", text, found, chance, gram, measure="relative_mds")


def _directions(gram: GroupGram) -> Iterator[Statement]:
    """Count the directions of the updates; as many as there are updates if all are independent and of one length."""
    squares = norms.update_norm(gram) ** 2
    total = float((squares**2).sum())
    found = variance.participation_ratio_updates(gram)
    if not total > 0.0 or not math.isfinite(found):
        return
    chance = float(squares.sum()) ** 2 / total
    text = (
        f"Its {len(squares)} updates span about {found:.2g} directions; independent updates of the same lengths would span "
        f"{chance:.2g}."
    )
    yield _statement("directions", text, found, chance, gram, measure="participation_ratio_updates")


def _alignment(run: MeasureMethods, gram: GroupGram) -> Iterator[Statement]:
    """Say of every phase whether its successive updates are aligned beyond chance (Layer updates, equation of the bound)."""
    cosines, meet = correlations.update_cosine(gram), gram.steps[1:-1]
    chance = correlations.random_bound(gram)
    unit = numbers_of(run.axis)
    for first, last in _phases(gram):
        values = cosines[(meet > first) & (meet < last)]
        values = values[np.isfinite(values)]
        if len(values) < FEWEST_UPDATES:
            continue
        mean = float(values.mean())
        if abs(mean) <= chance:
            said = f"are no more aligned than chance: mean cosine {mean:.2g}, within ±{chance:.2g}"
        elif mean > 0:
            said = f"go on in the direction of the one before: mean cosine {mean:.2g} (chance: up to {chance:.2g})"
        else:
            said = f"turn back against the one before: mean cosine {mean:.2g} (chance: down to −{chance:.2g})"
        above = f"{int((values > chance).sum())} of {len(values)} pairs above it"
        text = f"Updates of {unit} {first} … {last} {said}; {above}."
        yield _statement("alignment", text, mean, chance, gram, measure="update_cosine", steps=(first, last))


def _phases(gram: GroupGram) -> list[tuple[int, int]]:
    from trajsvc.measures.phases import phases

    found = [(p.start_step, p.end_step) for p in phases(gram)]
    return found or [(int(gram.steps[0]), int(gram.steps[-1]))]


def _changes(run: MeasureMethods) -> Iterator[Statement]:
    """Name the change points of the network, with what they explain (``trajsvc.measures.phases``)."""
    from trajsvc.measures.phases import phases

    gram = run.gram()
    for phase in phases(gram)[1:]:
        change = phase.change
        if change is None:
            continue
        first, last = change.between
        unit = numbers_of(run.axis)
        where = f"at {run.axis} {first}" if first == last else f"between {unit} {first} and {last}"
        how = {
            "jump": f"the speed changes by a factor of {change.speed_ratio:.2g}",
            "bend": "the trend of the speed changes",
            "turn": "the direction of the updates changes",
        }[change.kind]
        text = (
            f"{where[0].upper()}{where[1:]} {how}: this explains {change.evidence:.0%} of the scatter around it, "
            f"{change.strength:.2g} times what a change has to."
        )
        yield _statement("change", text, change.strength, 1.0, gram, measure="phases", steps=(first, last))


def _layers(run: MeasureMethods) -> Iterator[Statement]:
    """Name the layers that moved farthest and least, relative to their norm at the start, and the order of coming to rest."""
    moved, settled = {}, {}
    for group in run.layer_ids():
        gram = run.gram(group)
        length = norms.norm(gram)
        if len(length) and length[0] > 0.0:
            moved[group] = float(norms.distance_from_init(gram)[-1] / length[0])
        settled[group] = norms.settling_step(gram)
    network = run.gram()
    known = {g: v for g, v in moved.items() if math.isfinite(v)}
    if len(known) > 1:
        far, near = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
        middle = float(np.median(list(known.values())))
        text = (
            f"{_named(far)} moved farthest relative to its norm at the start ({known[far]:.3g} times it), {_named(near, start=False)} "
            f"least ({known[near]:.3g}); the median of {len(known)} layers is {middle:.3g}."
        )
        yield _statement(
            "distance-by-layer", text, known[far], middle, network, measure="distance_from_init", group=far
        )
    rest = {g: v for g, v in settled.items() if math.isfinite(v)}
    if len(rest) > 1 and max(rest.values()) > min(rest.values()):
        early, late = min(rest, key=rest.__getitem__), max(rest, key=rest.__getitem__)
        text = (
            f"{_named(early)} comes to rest first (cosine to its last checkpoint at least 0.9 from {run.axis} {rest[early]:.0f}), "
            f"{_named(late, start=False)} last ({rest[late]:.0f})."
        )
        middle = float(np.median(list(rest.values())))
        yield _statement("settling-by-layer", text, rest[late], middle, network, measure="settling_step", group=late)


def _named(group: str, *, start: bool = True) -> str:
    return f"{'L' if start else 'l'}ayer {group.removeprefix('layer/')}"


def _attention(run: MeasureMethods, known: Sequence[QkvRow] | None) -> Iterator[Statement]:
    """Name the layer whose Q, K and V differ most in their maps (Hallmarks, Q/K/V heterogeneity), and the part that stands apart."""
    rows = [qkv_row(run, group, None) for group in attention_layers(run)] if known is None else known
    rows = [row for row in rows if None not in (row.rms, row.rms_qk, row.rms_qv, row.rms_kv)]
    if len(rows) < 2:
        return
    far = max(rows, key=lambda row: row.rms or 0.0)
    middle = float(np.median([row.rms or 0.0 for row in rows]))
    pairs = {"V": far.rms_qk, "K": far.rms_qv, "Q": far.rms_kv}
    apart = min(pairs, key=lambda part: pairs[part] or 0.0)
    close = sorted(set("QKV") - {apart})
    alike = (far.rms or 0.0) <= (1.0 + NEAR) * middle
    text = (
        f"Q, K and V move about as differently in each of {len(rows)} layers: their maps differ by {middle:.2g} (root mean "
        "square, in cosine)."
        if alike
        else f"Q, K and V move most differently in layer {far.layer}: their maps differ by {far.rms:.2g} (root mean square, in "
        f"cosine), in the median layer by {middle:.2g}; {close[0]} and {close[1]} are the closest pair there, {apart} stands apart."
    )
    yield _statement("qkv", text, far.rms, middle, run.gram(), measure="qkv_heterogeneity", group=far.group)


def _rounding(run: MeasureMethods, gram: GroupGram) -> Iterator[Statement]:
    """Count the updates that rounding of the stored type could explain."""
    for group, whole in (("network", gram), *((g, run.gram(g)) for g in run.layer_ids())):
        doubtful = below_floor(whole)
        if doubtful.any():
            at = whole.steps[1:][doubtful]
            unit = numbers_of(run.axis)
            where = "the network" if group == "network" else f"layer {group.removeprefix('layer/')}"
            text = (
                f"{int(doubtful.sum())} of {len(doubtful)} updates of {where} ({unit} {at[0]} … {at[-1]}) are no larger than "
                "rounding of the stored type would make them: angles and cosines there may be noise."
            )
            steps = int(at[0]), int(at[-1])
            yield _statement(
                "rounding", text, int(doubtful.sum()), 0, whole, measure="noise_floor", steps=steps, group=group
            )


def _statement(
    kind: str,
    text: str,
    number: float | None,
    null: float | None,
    gram: GroupGram,
    *,
    measure: str | None = None,
    steps: tuple[int, int] | None = None,
    group: str | None = None,
) -> Statement:
    first, last = steps or (int(gram.steps[0]), int(gram.steps[-1])) if len(gram.steps) else (None, None)
    return Statement(
        kind=kind,
        text=_MINUS.sub("−", text),
        number=None if number is None else float(number),
        null=None if null is None else float(null),
        measure=measure,
        group=group or gram.group,
        first_step=first,
        last_step=last,
    )
