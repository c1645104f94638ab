"""Families that publish their training, and how they name their checkpoints: one table.

From the projects' own pages and the Hub's listings; what a repository really has is found when it is listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from trajsvc.steps import STEP_LIMIT

Where = Literal["branches", "repositories", "commits"]

PYTHIA_STEPS: Final = (0, *(2**i for i in range(10)), *range(1000, 143_001, 1000))
"""The 154 steps of every Pythia model."""
AMBER_INDICES: Final = tuple(range(360))


@dataclass(frozen=True)
class Family:
    """Models whose checkpoints are named alike. ``repositories`` and ``revisions`` are regular expressions; the groups ``stage`` (a number
    or one of ``stages``), ``ingredient``, ``step``, ``index``, ``tokens`` of ``revisions`` say what a number is, and ``run`` which of the
    repository's runs a checkpoint belongs to."""

    name: str
    repositories: str
    revisions: str
    example: str
    where: Where = "branches"
    expected: tuple[int, ...] = ()
    steps_a_label: float = 1.0
    """true steps in a step of the label, where the two differ"""
    stages: tuple[str, ...] = ()
    """words for the stages, in their order"""
    first_stage: int | None = None
    """the stage of names that have none"""
    note: str = ""

    def holds(self, repository: str) -> bool:
        return re.fullmatch(self.repositories, repository) is not None


_STEP: Final = r"step(?P<step>\d+)"

FAMILIES: Final = (
    Family(
        "Pythia v0 (renamed steps)", r"EleutherAI/pythia-(160m|410m|1\.4b)(-deduped)?-v0", _STEP,
        "hf://EleutherAI/pythia-410m-v0", expected=PYTHIA_STEPS, steps_a_label=0.5,
        note="Trained at twice the batch: the label's step 1000 is step 500; `trajsvc checkpoints` shows it as true step.",
    ),
    Family(
        "Pythia", r"EleutherAI/pythia-(14m|31m|70m|160m|410m|1b|1\.4b|2\.8b|6\.9b|12b)(-deduped)?(-v0)?", _STEP,
        "hf://EleutherAI/pythia-70m", expected=PYTHIA_STEPS,
        note="float16 values, some stored as float32. 2.8b: many branches are the final model; 12b: two steps have its first shard.",
    ),
    Family(
        "PolyPythias", r"EleutherAI/pythia-(14m|31m|70m|160m|410m)-(seed|data-seed|weight-seed)\d", _STEP,
        "hf://EleutherAI/pythia-160m-seed1", expected=PYTHIA_STEPS,
        note="410m: some revisions hold no weights. 160m-weight-seed: step 0 is not that run's initialisation.",
    ),
    Family(
        "OLMo-2 and OLMo-3", r"allenai/(OLMo-2-|Olmo-2-|OLMo-3-|Olmo-3-).*",
        r"(?:stage(?P<stage>\d+)-)?(?:ingredient(?P<ingredient>\d+)-)?step(?P<step>\d+)(?:-tokens(?P<tokens>\d+[KMBT]?))?",
        "hf://allenai/OLMo-2-1124-7B", first_stage=1,
        note="Stages count anew and are set one after the other; of a stage's ingredients the first is taken unless you choose.",
    ),
    Family(
        "OLMoE", r"allenai/OLMoE-.*", r"step(?P<step>\d+)-tokens(?P<tokens>\d+[KMBT]?)", "hf://allenai/OLMoE-1B-7B-0924",
    ),
    Family(
        "DataDecide", r"allenai/DataDecide-.*", r"step(?P<step>\d+)-seed-(?P<run>[A-Za-z0-9-]+)",
        "hf://allenai/DataDecide-dolma1_7-1B", note="Three runs in each repository, one a seed: choose one, or take all with `batch`.",
    ),
    Family(
        "OLMo", r"allenai/OLMo-(1|7|1\.7-7)B.*", r"step(?P<step>\d+)(?:-tokens(?P<tokens>\d+[KMBT]?))?", "hf://allenai/OLMo-1B-hf",
        note="1B: steps 117000 to 330000 are missing.",
    ),
    Family(
        "SmolLM3", r"HuggingFaceTB/SmolLM3-3B-checkpoints", r"stage(?P<stage>\d+)-step-(?P<step>\d+)",
        "hf://HuggingFaceTB/SmolLM3-3B-checkpoints",
        note="The three stages of pre-training count on; longer contexts (lc-…) and post-training (it-…) are left to --revisions.",
    ),
    Family(
        "SmolLM2", r"HuggingFaceTB/SmolLM2-.*-intermediate-checkpoints", r"step-(?P<step>\d+)",
        "hf://HuggingFaceTB/SmolLM2-1.7B-intermediate-checkpoints",
    ),
    Family(
        "FineWeb ablations", r"HuggingFaceFW/ablation-model-.*", r"step-(?P<step>\d+)-(?P<tokens>\d+B)T",
        "hf://HuggingFaceFW/ablation-model-fineweb-v1",
    ),
    Family(
        "OpenCoder", r"(infly|OpenCoder-LLM)/OpenCoder-.*", r"(?P<stage>pretrain|anneal)_iter_(?P<step>\d+)",
        "hf://infly/OpenCoder-1.5B-Base", stages=("pretrain", "anneal"), note="The annealing follows the pre-training.",
    ),
    Family(
        "OpenEuroLLM datamix", r"openeurollm/.*", r"checkpoint_(?P<step>\d+)", "hf://openeurollm/datamix-2b-en",
    ),
    Family(
        "Apertus", r"swiss-ai/Apertus-.*", r"step(?P<step>\d+)-tokens(?P<tokens>\d+[KMBT]?)", "hf://swiss-ai/Apertus-8B-2509",
    ),
    Family(
        "Marin", r"marin-community/marin-.*", r"(?:.*[-_/])?step[-_]?(?P<step>\d+)", "hf://marin-community/marin-8b-base",
        note="Phases that have names of their own are chosen with --revisions.",
    ),
    Family(
        "TinyLlama", r"TinyLlama/TinyLlama-1\.1B-intermediate-step-.*",
        r"TinyLlama/TinyLlama-1\.1B-intermediate-step-(?P<step>\d+k)-(?P<tokens>\d+(?:\.\d+)?[bt])",
        "'hf://TinyLlama/TinyLlama-1.1B-intermediate-step-*'", where="repositories", note="One repository a checkpoint.",
    ),
    Family(
        "Baichuan2", r"baichuan-inc/Baichuan2-7B-Intermediate-Checkpoints", r"train_(?P<tokens>\d+B)",
        "hf://baichuan-inc/Baichuan2-7B-Intermediate-Checkpoints", note="The axis is tokens.",
    ),
    Family(
        "RedPajama-INCITE", r"togethercomputer/RedPajama-INCITE-.*", r"(?P<tokens>\d+b)_tokens",
        "hf://togethercomputer/RedPajama-INCITE-7B-Base", note="The axis is tokens.",
    ),
    Family(
        "LLM360 Crystal", r"LLM360/Crystal(Coder)?", r"CrystalCoder_phase(?P<stage>\d+)_checkpoint_(?P<step>\d+)", "hf://LLM360/CrystalCoder",
        note="Phases count on or anew; those that count anew are set one after the other.",
    ),
    Family(
        "LLM360 K2", r"LLM360/K2", r"ckpt_(?P<index>\d+)", "hf://LLM360/K2", note="The number counts checkpoints, not steps.",
    ),
    Family(
        "LLM360 Amber", r"LLM360/Amber", r"ckpt_(?P<index>\d+)", "hf://LLM360/Amber", expected=AMBER_INDICES,
        note="The number counts checkpoints, not steps.",
    ),
    Family(
        "BLOOM intermediate", r"bigscience/bloom-.*-intermediate", r"global_step(?P<step>\d+)",
        "hf://bigscience/bloom-1b1-intermediate",
    ),
    Family("Mistral (CRFM)", r"stanford-crfm/.*", r"checkpoint-(?P<step>\d+)", "hf://stanford-crfm/alias-gpt2-small-x21"),
    Family(
        "MultiBERTs", r"google/multiberts-seed_\d+(-step_.*)?", r"google/multiberts-seed_\d+-step_(?P<step>\d+k?)",
        "'hf://google/multiberts-seed_0-step_*'", where="repositories", note="One repository a checkpoint, of the first five seeds.",
    ),
)  # fmt: skip
"""In the order in which they are tried."""


def family_of(repository: str) -> Family | None:
    """Return the family that a repository belongs to by its name; None if it is not known."""
    return next((f for f in FAMILIES if f.holds(repository)), None)


_UNITS: Final[Mapping[str, int]] = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def number(text: str) -> int:
    """Parse a number with a unit, ``424B`` → 424,000,000,000.

    Raises ValueError, also for what is too large to be a step.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmbt]?)", text.lower())
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit")
    if len(match[1]) > 20:
        raise ValueError("a number of more than 20 digits")
    found = round(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]
    if found > STEP_LIMIT:
        raise ValueError(f"{text!r} is too large")
    return found
