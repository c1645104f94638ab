"""Steps as numbers: what a checkpoint's name says, and which checkpoints a selection means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from trajsvc.steps import STEP_LIMIT

Kind = Literal["step", "epoch", "index", "tokens"]

WEIGHT_SUFFIXES: Final = (".safetensors", ".pth.tar", ".pt", ".pth", ".bin", ".ckpt")

_SCALE: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_NUMBER: Final = r"[-_=]?(\d+(?:\.\d+(?=[km]))?)([km]?)(?![a-z0-9]|\.\d)"
# In order of trust: a name that says "step" means it, whatever else it counts.
_STEP_WORDS: Final = ("global[-_]?step", "steps?", "iterations?|iters?|ba", "checkpoint")
_SHARD: Final = re.compile(r"\d{2,}-of-\d{2,}")
_EPOCH: Final = re.compile(r"(?<![a-z])(?:epochs?|ep)[-_=]?(\d+)(?![a-z0-9])")
_INDEX: Final = re.compile(r"(?<![a-z])(?:ckpt|chkpt|index|idx)" + _NUMBER)
_EPOCH_AND_STEP: Final = re.compile(r"checkpoint_(\d+)_(\d+)(?![a-z0-9])")
_TOKENS: Final = re.compile(r"(?<![a-z])tokens?[-_=]?(\d+(?:\.\d+)?)([kmbt]?)(?![a-z0-9])")
_PLAIN: Final = re.compile(r"(\d+)([km]?)")
_TRAILING: Final = re.compile(r"(.*[a-z0-9])[-_.]0*(\d+)([km]?)")
_NOT_STEPS: Final = re.compile(
    r"(?:^|[-_.])(?:version|v|seed|fold|rank|shard|part|consolidated|tp|pp|mp|fsdp|layer|of)$"
)


@dataclass(frozen=True, slots=True)
class StepName:
    """What a file's or folder's name says about when it was written."""

    step: int
    label: str
    kind: Kind
    """``step``; ``epoch`` when only an epoch is named; ``index`` when the number only counts checkpoints"""
    extra: Mapping[str, int] = field(default_factory=dict)
    """``tokens``, ``stage``, ``ingredient``, ``epoch`` where the name has them"""


def parse_step(name: str) -> StepName | None:
    """The step in ``name`` (of a file or folder, without its parents), or None when it names none.

    Reads ``step500``, ``checkpoint-500``, ``global_step1000``, ``iter_0000500``, ``epoch=3-step=500.ckpt`` (the step is taken, the
    epoch kept in ``extra``), ``checkpoint_2_500.pt`` (epoch and step), ``stage1-step101000-tokens424B``, ``step_20k``, ``500.pt``,
    ``model_500.pt``; ``epoch_003.pt`` is kind ``epoch``, ``ckpt_000`` kind ``index``. A shard's number
    (``model-00001-of-00002``) is no step.

    >>> [parse_step(name).step for name in ("step500", "epoch=3-step=500.ckpt", "stage1-step101000-tokens424B", "step_20k")]
    [500, 500, 101000, 20000]
    >>> parse_step("model-00001-of-00002.safetensors") is None
    True
    """
    suffix = next((s for s in WEIGHT_SUFFIXES if name.lower().endswith(s)), "")
    label = name[: len(name) - len(suffix)]
    text = label.lower()
    if _SHARD.search(text):
        return None
    found = _numbered(text, of_file=bool(suffix))
    if found is None or found[0] > STEP_LIMIT:
        return None
    extra = _extra(text)
    if found[1] == "epoch":
        extra.pop("epoch", None)
    return StepName(found[0], label, found[1], extra)


def _numbered(text: str, *, of_file: bool) -> tuple[int, Kind] | None:
    if match := _EPOCH_AND_STEP.search(text):
        return _scaled(match[2], ""), "step"
    for word in _STEP_WORDS:
        if match := re.search(rf"(?<![a-z])(?:{word}){_NUMBER}", text):
            return _scaled(match[1], match[2]), "step"
    if match := _EPOCH.search(text):
        return _scaled(match[1], ""), "epoch"
    if match := _INDEX.search(text):
        return _scaled(match[1], match[2]), "index"
    if match := _PLAIN.fullmatch(text):
        return _scaled(match[1], match[2]), "step"
    # A trailing number means a step only in a file's name: folders end in versions, seeds and ranks.
    match = _TRAILING.fullmatch(text) if of_file else None
    if match and not _NOT_STEPS.search(match[1]):
        return _scaled(match[2], match[3]), "step"
    return None


def _scaled(digits: str, suffix: str) -> int:
    if len(digits) > 20:
        return STEP_LIMIT + 1
    return round(float(digits) * _SCALE[suffix]) if "." in digits else int(digits) * _SCALE[suffix]


def _extra(text: str) -> dict[str, int]:
    extra = {}
    if match := _TOKENS.search(text):
        extra["tokens"] = round(float(match[1]) * _SCALE[match[2]])
    if match := _EPOCH.search(text) or _EPOCH_AND_STEP.search(text):
        extra["epoch"] = _scaled(match[1], "")
    for word in ("stage", "ingredient"):
        if match := re.search(rf"(?<![a-z]){word}[-_=]?(\d+)(?![a-z0-9])", text):
            extra[word] = _scaled(match[1], "")
    return extra
