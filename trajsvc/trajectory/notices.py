"""Findings from headers and a few values about a run's tensors: which are left out and why, and what seems to be
missing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from storage_schema.format.arrays import FLOAT_TYPES
from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import TIED, Anatomy
from trajsvc.anatomy.buffers import is_quantised
from trajsvc.anatomy.patterns import matches
from trajsvc.errors import Refused
from trajsvc.sources.base import TensorEntry
from trajsvc.trajectory.set_aside import Aside

Described = tuple[Mapping[str, TensorEntry], Anatomy]
"""A checkpoint's tensors and what they are."""

SHOWN: Final = 4
CONVENTIONAL: Final = (
    "mask of attention", "rotary frequencies", "rotary table", "indices", "running statistics of a normalisation",
    "counter of a normalisation",
)  # fmt: skip
"""Buffers that most networks of their kind have: listed with what is left out, and no finding."""
_NUMBER: Final = re.compile(r"(?<![A-Za-z0-9])[0-9]+(?![A-Za-z0-9])")


def notices(
    checkpoints: Sequence[Described], config: Mapping[str, Any] | None, aside: Aside, exclude: Sequence[str]
) -> list[Finding]:
    """Return findings about the tensors of a run's checkpoints, each kind once for all of them."""
    left: dict[str, str] = {}
    entries: dict[str, TensorEntry] = {}
    for tensors, anatomy in checkpoints:
        left |= anatomy.left_out
        entries |= tensors
    kept = {b.tensor: entries[b.tensor] for _, anatomy in checkpoints for b in anatomy.blocks}
    found = [
        _left_out(left, entries),
        _copies(left, aside, entries),
        _not_tied(aside.copies.own),
        *_equal_at_times(aside, left),
        _empty(left, kept),
        _not_floating(left, entries, kept),
        _layers_missing(kept, config or {}),
        *_layouts(checkpoints),
        *_unmatched(exclude, entries),
    ]
    return [f for f in found if f is not None]


def listed(items: Sequence[object], shown: int = SHOWN) -> str:
    """Join the first of ``items``, and say how many more there are."""
    text = ", ".join(str(i) for i in items[:shown])
    return text + (f" and {len(items) - shown} more" if len(items) > shown else "")


def _left_out(left: Mapping[str, str], entries: Mapping[str, TensorEntry]) -> Finding | None:
    """Report floating tensors that are not parameters, with the reason for each."""
    reasons: dict[str, list[str]] = {}
    for name, why in left.items():
        elsewhere = why.startswith(("no elements", "not a floating", TIED))
        if entries[name].dtype in FLOAT_TYPES and not elsewhere and (kind := _kind_of(why)) not in CONVENTIONAL:
            reasons.setdefault(kind, []).append(name)
    if not reasons:
        return None
    names = [n for group in reasons.values() for n in group]
    said = "; ".join(f"{listed(group, 2)} ({why})" for why, group in reasons.items())
    tensors = f"{len(names)} tensors are" if len(names) > 1 else "1 tensor is"
    return Finding(
        kind="left-out",
        severity="info",
        message=f"{tensors} left out: {said}",
        tensors=tuple(names[:20]),
        details={"reasons": {why: len(group) for why, group in reasons.items()}},
    )


def _kind_of(why: str) -> str:
    """Return the reason without the tensor that it names."""
    for text in ("moving average of", "copy that never changes of"):
        if why.startswith(text):
            return text.removesuffix(" of") + " of another tensor"
    return why.removeprefix("buffer: ")


def _copies(left: Mapping[str, str], aside: Aside, entries: Mapping[str, TensorEntry]) -> Finding | None:
    of = aside.copies.of
    copies = [n for n, why in left.items() if (n in of or n in of.values()) and why.startswith(TIED)]
    if not copies:
        return None
    others = {n: left[n].removeprefix(TIED) for n in copies}
    more = [n for n in copies if n in aside.copies.more_rows]
    said = listed([f"{n} ({left[n]}{_differences(entries[n], entries[others[n]])})" for n in copies], 2)
    many = len(copies) > 1
    what = f"{len(copies)} tensors equal others" if many else "1 tensor equals another"
    options = " ".join(f"--exclude {shlex.quote(others[n])}" for n in more)
    lost = f". Rows of {listed(more, 2)} that are not counted change: to count {'these' if len(more) > 1 else 'it'} instead, {options}"
    return Finding(
        kind="equal-copies",
        severity="warning" if more else "info",
        message=f"{what} at every checkpoint and {'are' if many else 'is'} counted once: {said}{lost if more else ''}",
        tensors=tuple(copies[:20]),
    )


def _differences(copy: TensorEntry, other: TensorEntry) -> str:
    """Say in what a copy differs from the tensor that is counted."""
    said = ""
    if copy.dtype != other.dtype:
        said += f", to rounding: {copy.dtype} and {other.dtype}"
    if copy.shape != other.shape:
        rows = f"{copy.shape[0]} and {other.shape[0]}"
        said += f", in the rows that both have: {rows}"
    return said


def _not_tied(own: Mapping[str, str]) -> Finding | None:
    """Report tensors whose values are not those of the ones that the config ties them to."""
    if not own:
        return None
    said = listed([f"{n} and {other}" for n, other in own.items()], 2)
    return Finding(
        kind="not-tied",
        message=f"config.json ties {said}, whose values are not equal at all checkpoints: both are counted, as two parameters. If the "
        f"model is run with them tied, leave the one out that is not used: {' '.join(f'--exclude {shlex.quote(n)}' for n in own)}",
        tensors=tuple(own)[:20],
        details={"exclude": list(own)},
    )


def _equal_at_times(aside: Aside, left: Mapping[str, str]) -> list[Finding]:
    """Report tensors that equal others at some checkpoints and not at all."""
    return [
        Finding(
            kind="equal-at-times",
            severity="info",
            message=f"{name} equals {other} at {_numbered(steps)} and not at all others; they are counted as two parameters",
            steps=steps,
            tensors=(name, other),
        )
        for name, (other, steps) in aside.copies.at_times.items()
        if name not in left and other not in left
    ][:SHOWN]


def _numbered(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {listed(steps, 6)}"


def _empty(left: Mapping[str, str], kept: Mapping[str, TensorEntry]) -> Finding | None:
    names = [n for n, why in left.items() if why == "no elements"]
    if not names:
        return None
    return Finding(
        kind="empty-tensors",
        message=f"{len(names)} tensors have no elements ({listed(names)}): what a sharded trainer such as DeepSpeed ZeRO-3 leaves where it "
        f"did not gather its weights; what is answered is of the other {len(kept)} tensors ({_parameters(kept)} parameters) alone. "
        "`python zero_to_fp32.py CHECKPOINT OUTPUT --safe_serialization`, from the checkpoint's folder, gathers them",
        tensors=tuple(names[:20]),
        details={"tensors": len(names)},
    )


def _not_floating(
    left: Mapping[str, str], entries: Mapping[str, TensorEntry], kept: Mapping[str, TensorEntry]
) -> Finding | None:
    names = [
        n
        for n, why in left.items()
        if why.startswith("not a floating type") and is_quantised(n, entries[n].shape, entries[n].dtype)
    ]
    if not names:
        return None
    types = ", ".join(sorted({entries[n].dtype for n in names}))
    return Finding(
        kind="not-floating",
        message=f"{len(names)} matrices of type {types} are not read ({listed(names)}): quantised or packed weights; what is "
        f"answered is of the other {len(kept)} tensors ({_parameters(kept)} parameters) alone. Save the dequantised "
        "model to have them counted",
        tensors=tuple(names[:20]),
        details={"tensors": len(names), "elements": sum(entries[n].size for n in names)},
    )


def _parameters(kept: Mapping[str, TensorEntry]) -> str:
    return f"{sum(e.size for e in kept.values()):,}"


def _layers_missing(kept: Mapping[str, TensorEntry], config: Mapping[str, Any]) -> Finding | None:
    """Report fewer layers than the config says."""
    text = config.get("text_config")
    where = {**config, **text} if isinstance(text, Mapping) else config
    stated = next(
        (n for k in ("num_hidden_layers", "n_layer", "num_layers", "n_layers") if _whole(n := where.get(k))), None
    )
    numbers: dict[str, set[int]] = {}
    for name in kept:
        if match := _NUMBER.search(name):
            numbers.setdefault(name[: match.start()], set()).add(int(match[0]))
    longest = max(numbers.values(), key=len, default=set())
    if stated is None or not longest or len(longest) >= int(stated):
        return None
    return Finding(
        kind="missing-layers",
        message=f"config.json says {stated} layers, and the checkpoints hold {len(longest)}: a part of the model seems to be missing",
        details={"stated": int(stated), "found": len(longest)},
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _layouts(checkpoints: Sequence[Described]) -> list[Finding]:
    """Report the layouts of fused tensors that are not certain."""
    said = dict.fromkeys(text for _, anatomy in checkpoints for text in anatomy.layouts)
    return [Finding(kind="layout", severity="info", message=text) for text in said][:SHOWN]


def _unmatched(exclude: Sequence[str], entries: Mapping[str, TensorEntry]) -> list[Finding]:
    return [
        Finding(kind="exclude-unused", message=f"--exclude {pattern} is the name of no tensor; * stands for any text")
        for pattern in exclude
        if not any(matches(pattern, n) for n in entries)
    ]


def renamed_finding(what: Sequence[str], steps: Sequence[int]) -> Finding:
    """Report checkpoints whose tensors are read under the names that the others have."""
    which = f"step {steps[0]} is" if len(steps) == 1 else f"steps {listed(steps, 6)} are"
    return Finding(
        kind="renamed",
        severity="info",
        message=f"{which} read under the names of the other checkpoints: {listed(what)}",
        steps=tuple(steps),
        details={"renamed": list(what[:50])},
    )


def unused_rename(text: str) -> Finding:
    """Report a rename of the user's that fits no name."""
    return Finding(kind="rename-unused", message=f"--rename {text} fits the name of no tensor; * stands for any text")


def no_parameters_left(uri: str, checkpoints: Sequence[Described]) -> Refused:
    """Return the error for checkpoints none of whose tensors is a parameter."""
    left = {n: why for _, anatomy in checkpoints for n, why in anatomy.left_out.items()}
    said = listed([f"{n} ({why})" for n, why in left.items()])
    what = f"all of their {len(left)} tensors are left out: {said}" if left else "they hold no tensors"
    excluded = any(why.startswith("left out by") for why in left.values())
    hint = (
        "Use a narrower --exclude."
        if excluded
        else "Give the folder or file that holds the model's weights; `trajsvc plan` lists what a folder has."
    )
    return Refused("no-parameters", f"the checkpoints of {uri} hold no parameters: {what}", hint=hint)
