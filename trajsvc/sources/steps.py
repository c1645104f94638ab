"""Parse checkpoint names: a step, an epoch, a number of tokens, or a place in a count, and the stage that these are
counted in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from trajsvc.sources.other_numbers import DATE, DIGITS, PART, date_of, part_of_epoch, version_of
from trajsvc.sources.thousands import Grouped, spaced, without_separators
from trajsvc.steps import STEP_LIMIT

__all__ = [
    "PLACED",
    "STAGES",
    "STEP_LIMIT",
    "WEIGHT_SUFFIXES",
    "Kind",
    "StepName",
    "no_step_after",
    "parse_step",
    "scaled",
    "stage_of",
    "without_decimals",
    "without_scores",
    "without_settings",
]

Kind = Literal["step", "epoch", "index", "tokens"]
"""What a run is ordered by. ``index`` when the numbers only count checkpoints."""

WEIGHT_SUFFIXES: Final = (".safetensors", ".pth.tar", ".pt", ".pth", ".bin", ".ckpt")
STAGES: Final[Mapping[str, int]] = {
    "warmup": 0, "pretrain": 1, "pretraining": 1, "pretrained": 1, "stable": 1, "midtrain": 2, "midtraining": 2, "cpt": 2,
    "continue": 2, "anneal": 3, "annealing": 3, "cooldown": 3, "decay": 3, "longcontext": 4, "longctx": 4, "lc": 4, "sft": 5,
    "finetune": 5, "instruct": 5, "dpo": 6, "rlhf": 6, "rl": 7, "rlvr": 7,
}  # fmt: skip
"""Words for the stages of a training, in the order in which they follow each other; hyphens are left out."""

PLACED: Final = "placed_by_keys"
"""what ``StepName.extra`` has where a name has no number and a key of the file says the place"""

_SCALE: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SCALED: Final = re.compile(r"(\d+(?:\.\d+)?)([kmbt]?)")
_NUMBER: Final = r"[-_=]?(\d+(?:\.\d+(?=[kmb]))?[kmb]?)(?![a-z0-9]|\.\d)"
_BEFORE: Final = r"(?<![a-z0-9.~])(\d+(?:\.\d+(?=[kmb]))?[kmb]?)[-_]?"
_SHARD: Final = re.compile(r"\d{2,}-of-\d{2,}")
_SCORE: Final = re.compile(
    r"\d+\.\d+(?:\.\d+)*(?:e-?\d+)?(?![\d.]*[kmbt](?![a-z]))|(?<!\d)20\d\d([-_])[01]?\d\1[0-3]?\d(?!\d)|(?<!\d)20\d{6}[-_t]\d{4,6}(?!\d)"
)
"""A number with a decimal point that counts nothing, and dates."""
_SCORES: Final = (
    r"acc|accuracy|loss|score|psnr|ssim|fid|bleu|rouge|wer|cer|ppl|perplexity|auc|auroc|m?iou|m?ap|dice|mae|mse|rmse|reward|return"
    r"|elo|top[15]|f1"
)
_SETTINGS: Final = (
    "lr|bs|seed|fold|rank|version|v|dim|hidden|width|depth|layers?|heads?|size|res|ctx|seq|seqlen|gpus?|nodes?"
)
_SCORED, _MEASURED = (
    re.compile(rf"(?<![a-z])(?:{words})[-_=]?\d+(?![a-z0-9])") for words in (_SCORES, f"{_SCORES}|{_SETTINGS}")
)
"""Scores, and scores and settings, that are whole numbers."""

_EPOCH_AND_STEP: Final = re.compile(
    r"(?:checkpoint_(?=\d+_\d)|(?<![a-z])e(?=\d+[-_]?s\d))(\d+)[-_]?s?(\d+)(?![a-z0-9])"
)
"""``checkpoint_3_2000``, ``e3_s2000``."""
_STEP_WORDS: Final = ("global[-_]?steps?", "steps?", "iterations?|iters?|itr|it", "updates?", "ba")
# In order of trust: a name that says "step" means it, whatever else it counts.
_STEPS: Final = tuple(
    re.compile(pattern)
    for words in _STEP_WORDS
    for pattern in (rf"(?<![a-z])(?:{words}){_NUMBER}", rf"{_BEFORE}(?:{words})(?![a-z0-9])")
)
_EPOCHS: Final = (
    re.compile(r"(?<![a-z])(?:epochs?|ep)[-_=]?(\d+)(?![a-z0-9])"),
    re.compile(r"(?<![a-z0-9.~])(\d+)[-_]?(?:epochs?|ep)(?![a-z0-9])"),
)
_TOKENS: Final = (
    re.compile(r"(?<![a-z])(?:tokens?|toks?)[-_=]?(\d+(?:\.\d+)?[kmbt]?)(?![a-z0-9])"),
    re.compile(r"(?<![a-z0-9.~])(\d+(?:\.\d+)?[kmbt])[-_]?(?:tokens?|toks?)(?![a-z0-9])"),
    re.compile(r"(?<![a-z0-9.~])(\d+(?:\.\d+)?[bm])t(?![a-z0-9])"),
    re.compile(r"^(?:pre)?train[-_]?(\d+(?:\.\d+)?b)(?![a-z0-9])"),
)
_TOKENS_AFTER: Final = re.compile(r"(?<=[\dkm])-(\d+(?:\.\d+)?[bt])$")
"""``step-50k-105b``: tokens, where a step stands before them."""
_COUNTING_WORD: Final = re.compile(rf"(?<![a-z])(?:{'|'.join(_STEP_WORDS)}|checkpoint|ckpt|chkpt|index|idx)[-_=]?$")
_POWER: Final = re.compile(
    rf"((?<![a-z])(?:{'|'.join(_STEP_WORDS)}|tokens?)[-_=]?)?(\d{{1,3}}(?:\.\d{{1,9}})?)e\+?(\d{{1,2}})(?![a-z0-9.])"
    rf"([-_]?(?:{'|'.join(_STEP_WORDS)}|tokens?)(?![a-z]))?"
)
"""``step_1e5``, ``2.5e4_steps``: a power of ten beside a word for what it counts."""
_CHECKPOINT: Final = re.compile(rf"(?<![a-z])checkpoint{_NUMBER}")
_INDEX: Final = re.compile(rf"(?<![a-z])(?:ckpt|chkpt|index|idx){_NUMBER}")
_COUNT: Final = r"\d+(?:\.\d+(?=[km]))?[km]?"
_PLAIN: Final = re.compile(rf"({_COUNT})")
_NETWORK_OF_EPOCH: Final = re.compile(r"(\d+)_net_[a-z]\w*")
"""Image translation scripts: ``5_net_G.pth``."""
_LEADING: Final = re.compile(
    rf"({_COUNT})[-_](?:adapters?|model|weights|checkpoints?|ckpt|state|params|policy|net|network|ema|lora)(?![a-z])"
)
_BEFORE_STATE: Final = re.compile(
    rf".*[a-z][-_.]({_COUNT})[-_](?:ema|swa|avg|averaged?|teacher|student|target|weights|model|net|unet|lora|adapters?|ckpt|checkpoint|g|d"
    r"|generator|discriminator|actor|critic|policy)(?:[-_].*)?"
)
"""``net_1000_ema.pt``: a number before the name of what is in the file."""
_TRAILING: Final = re.compile(rf"(.*[a-z0-9~])(?:[-_]|(?<!\d)\.)0*({_COUNT})")
_ATTACHED: Final = re.compile(r"(?:.*[-_.])?([a-z]+)(0\d+|\d{4,})")
"""``model010000``: a number of four digits or more, or with zeros before it, right after a word."""
_NOT_STEPS: Final = re.compile(
    r"(?:^|[-_.])(?:version|v|seed|fold|rank|shard|part|consolidated|tp|pp|mp|fsdp|layer|of|best|run|exp|trial|split|cv|model_part)$"
)


@dataclass(frozen=True, slots=True)
class StepName:
    """The step and other numbers that a file's or folder's name says."""

    step: int
    label: str
    kind: Kind
    """``epoch`` and ``tokens`` when nothing else is named; ``index`` when the number only counts checkpoints"""
    extra: Mapping[str, int] = field(default_factory=dict)
    """``tokens``, ``stage``, ``ingredient``, ``epoch`` where the name has them"""
    sure: bool = True
    """False for a number that nothing in the name says the meaning of: the keys of the file may know better"""
    grouped: Grouped | None = None
    """the other reading of a number that may be written in groups of three; see ``thousands``"""


def scaled(text: str) -> int | None:
    """Parse a number with a unit or separators, ``424B`` → 424,000,000,000, ``1_000`` → 1000.

    None if it is no number or too long.
    """
    text = without_separators(text.lower())
    if (parts := spaced(text)) is not None and not parts[0]:
        text = parts[1]
    match = _SCALED.fullmatch(text)
    if match is None or len(match[1]) > 20:
        return None
    digits, unit = match[1], _SCALE[match[2]]
    return round(float(digits) * unit) if "." in digits else int(digits) * unit


def without_decimals(text: str) -> str:
    """Replace dates and numbers with a decimal point that count nothing in ``text`` (in lower case) by ``~``."""
    return _SCORE.sub("~", text)


def without_scores(text: str) -> str:
    """Replace each character of dates and scores in ``text`` (in lower case) by ``~``."""
    for pattern in (_SCORE, _SCORED):
        text = pattern.sub(lambda match: "~" * len(match[0]), text)
    return text


def without_settings(text: str) -> str:
    """Replace dates, scores, seeds and sizes in ``text`` (in lower case) by ``~``."""
    return _MEASURED.sub("~", without_decimals(text))


def no_step_after(text: str) -> bool:
    """Return whether a number after ``text`` is a seed, a rank, a version or the like."""
    return _NOT_STEPS.search(text) is not None


def stage_of(name: str) -> int | None:
    """Return the stage that a folder of checkpoints is named by: ``phase2``, ``stage-1``, ``anneal``."""
    text = name.lower()
    if match := re.search(r"(?<![a-z])(?:stage|phase)[-_=]?(\d+)(?![a-z0-9])", text):
        return scaled(match[1])
    return next((STAGES[w] for w in re.split(r"[-_. ]", text.replace("-", "")) if w in STAGES), None)


def parse_step(name: str) -> StepName | None:
    """Parse the step in ``name`` (of a file or folder, without its parents); None when it names none.

    Reads ``step500``, ``checkpoint-500``, ``global_step1000``, ``iter_0000500``, ``model_1000_steps``, ``epoch=3-step=500.ckpt`` (the step
    is taken, the epoch kept in ``extra``), ``checkpoint_2_500.pt`` (epoch and step), ``stage1-step101000-tokens424B``,
    ``phase2_checkpoint_500``, ``step_20k``, ``500.pt``, ``model_500.pt``, ``model000500.pt``; ``epoch_003.pt`` is kind ``epoch``,
    ``ckpt_000`` kind ``index``, ``240b_tokens`` kind ``tokens``. A shard's number (``model-00001-of-00002``) is no step, nor is a
    number with a decimal point (but of epochs), a score, a seed or a date (but in SpeechBrain's ``CKPT+2024-01-31+12-05-00+00``).

    >>> [parse_step(name).step for name in ("step500", "epoch=3-step=500.ckpt", "stage1-step101000-tokens424B", "step_20k")]
    [500, 500, 101000, 20000]
    >>> parse_step("model-00001-of-00002.safetensors") is None
    True
    """
    suffix = next((s for s in WEIGHT_SUFFIXES if name.lower().endswith(s)), "")
    label = name[: len(name) - len(suffix)]
    if (date := date_of(label)) is not None:
        return StepName(date, label, "index", {DATE: 1})
    if (version := version_of(label)) is not None:
        return StepName(version, label, "index", sure=False)
    text = _POWER.sub(_in_digits, without_separators(label.lower()))
    if _SHARD.search(text):
        return None
    whole, text = text, without_settings(text)
    part = part_of_epoch(whole)
    if part is not None and _first((*_STEPS, *_EPOCHS), text) is None:
        return StepName(part[0], label, "epoch", {DIGITS: len(part[1]), PART: int(part[1] or "0")})
    found = _counted(text) or _bare(text, of_file=bool(suffix))
    if found is None:
        return None
    step, kind, sure = found
    if step is None or step > STEP_LIMIT:
        return None
    extra = {k: v for k, v in _extra(text).items() if k != kind}
    return StepName(step, label, kind, extra, sure, _grouped(text, step, kind, of_file=bool(suffix)))


def _in_digits(match: re.Match[str]) -> str:
    """Return a number with an exponent in digits, if a word beside it says that it counts and it is whole."""
    before, number, power, after = match.groups()
    value = float(number) * 10.0 ** int(power)
    if not (before or after) or value > STEP_LIMIT or not value.is_integer():
        return match[0]
    return f"{before or ''}{int(value)}{after or ''}"


def _grouped(text: str, step: int, kind: Kind, *, of_file: bool) -> Grouped | None:
    """Return the other reading of a name: the number that groups of three digits make together, if that would be its
    step.
    """
    parts = spaced(text) if kind in ("step", "index") else None
    if parts is None:
        return None
    before, joined, number, head = parts
    found = _counted(joined) or _bare(joined, of_file=of_file)
    if found is None or found[0] != number or step == number or number > STEP_LIMIT:
        return None
    apart = _EPOCH_AND_STEP.search(text) is not None
    return Grouped(number, head, after_word=not apart and _COUNTING_WORD.search(before) is not None, apart=apart)


def _counted(text: str) -> tuple[int | None, Kind, bool] | None:
    """Return the number whose meaning a word of the name says."""
    if match := _EPOCH_AND_STEP.search(text):
        return scaled(match[2]), "step", True
    kinds: tuple[tuple[tuple[re.Pattern[str], ...], Kind], ...] = ((_STEPS, "step"), (_EPOCHS, "epoch"))
    for patterns, kind in kinds:
        if number := _first(patterns, text):
            return scaled(number), kind, True
    if match := _NETWORK_OF_EPOCH.fullmatch(text):
        return scaled(match[1]), "epoch", True
    if (match := _CHECKPOINT.search(text)) or (match := _LEADING.match(text)):
        return scaled(match[1]), "step", False
    if number := _first(_TOKENS, text):
        return scaled(number), "tokens", True
    if match := _INDEX.search(text):
        unit = match[1][-1]  # thousands of checkpoints are not counted
        return scaled(match[1]), "index" if unit.isdigit() else "tokens" if unit == "b" else "step", False
    return None


def _bare(text: str, *, of_file: bool) -> tuple[int | None, Kind, bool] | None:
    """Return a number on its own: the whole name, or the end of a file's."""
    if match := _PLAIN.fullmatch(text):
        return scaled(match[1]), "step", False
    if not of_file:  # folders end in versions, seeds and ranks
        return None
    text = re.sub(r"(?:[-_=.]*~)+$", "", text)
    match = _TRAILING.fullmatch(text)
    if match and not _NOT_STEPS.search(match[1]):
        return scaled(match[2]), "step", False
    if match := _BEFORE_STATE.fullmatch(text):
        return scaled(match[1]), "step", False
    match = _ATTACHED.fullmatch(text)
    if match and not _NOT_STEPS.search(match[1]):
        return scaled(match[2]), "step", False
    return None


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> str | None:
    return next((match[1] for pattern in patterns if (match := pattern.search(text))), None)


def _extra(text: str) -> dict[str, int]:
    extra: dict[str, int | None] = {}
    tokens = _first(_TOKENS, text) or _first((_TOKENS_AFTER,), text)
    if tokens:
        extra["tokens"] = scaled(tokens)
    if match := _EPOCH_AND_STEP.search(text):
        extra["epoch"] = scaled(match[1])
    elif epoch := _first(_EPOCHS, text):
        extra["epoch"] = scaled(epoch)
    for words, name in (("stage|phase", "stage"), ("ingredient", "ingredient")):
        if match := re.search(rf"(?<![a-z])(?:{words})[-_=]?(\d+)(?![a-z0-9])", text):
            extra[name] = scaled(match[1])
    return {name: number for name, number in extra.items() if number is not None}
