"""Recorded listings of published families: what their branches are called, and the run that is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_process
import pytest
from hub_runs import safetensors, state
from hub_server import HubServer, Repo, Revision

from trajsvc.errors import Refused, UsageError
from trajsvc.sources.hub.known_families import FAMILIES, family_of
from trajsvc.sources.hub.selection import RefInfo, SeveralRuns, select, select_repositories

Hubs = Callable[..., HubServer]
B = 10**9
LISTINGS: dict[str, tuple[list[str], list[tuple[int, str, dict[str, int]]]]] = {
    "EleutherAI/pythia-70m": (["main", "step0", "step1", "step512", "step1000"], [(s, "step", {}) for s in (0, 1, 512, 1000)]),
    "EleutherAI/pythia-410m-v0": (["step0", "step1000"], [(0, "step", {"true_step": 0}), (1000, "step", {"true_step": 500})]),
    "EleutherAI/pythia-160m-seed3": (["step0", "step143000"], [(0, "step", {}), (143_000, "step", {})]),
    "allenai/OLMo-2-1124-7B": (
        ["stage1-step0-tokens0B", "stage1-step150-tokens1B", "stage1-step928646-tokens3896B", "stage2-ingredient1-step1000-tokens5B"],
        [(0, "step", {"stage": 1, "tokens": 0}), (150, "step", {"stage": 1, "tokens": B}),
         (928_646, "step", {"stage": 1, "tokens": 3896 * B}),
         (929_646, "step", {"stage": 2, "ingredient": 1, "tokens": 5 * B, "stage_step": 1000})],
    ),
    "allenai/OLMoE-1B-7B-0924": (["step5000-tokens20B", "step10000-tokens41B"],
        [(5000, "step", {"tokens": 20 * B}), (10_000, "step", {"tokens": 41 * B})]),
    "allenai/OLMo-1.7-7B-hf": (["step1000-tokens4B", "step2000-tokens8B"],
        [(1000, "step", {"tokens": 4 * B}), (2000, "step", {"tokens": 8 * B})]),
    "HuggingFaceTB/SmolLM2-1.7B-intermediate-checkpoints": (["step-125000", "step-250000"], [(125_000, "step", {}), (250_000, "step", {})]),
    "HuggingFaceTB/SmolLM3-3B-checkpoints": (["stage1-step-40000", "stage2-step-3450000", "lc-4k-to-32k-step-4000"],
        [(40_000, "step", {"stage": 1}), (3_450_000, "step", {"stage": 2})]),
    "HuggingFaceFW/ablation-model-fineweb-v1": (["step-001000-2BT", "step-002000-4BT"],
        [(1000, "step", {"tokens": 2 * B}), (2000, "step", {"tokens": 4 * B})]),
    "infly/OpenCoder-1.5B-Base": (["pretrain_iter_0010000", "pretrain_iter_0020000", "anneal_iter_0002000"],
        [(10_000, "step", {"stage": 1}), (20_000, "step", {"stage": 1}), (22_000, "step", {"stage": 2, "stage_step": 2000})]),
    "openeurollm/datamix-2b-en": (["checkpoint_0005000", "checkpoint_0953675"], [(5000, "step", {}), (953_675, "step", {})]),
    "swiss-ai/Apertus-8B-2509": (["step50000-tokens210B", "step1000000-tokens4200B"],
        [(50_000, "step", {"tokens": 210 * B}), (1_000_000, "step", {"tokens": 4200 * B})]),
    "marin-community/marin-8b-base": (["main", "step-660000", "step-738376"], [(660_000, "step", {}), (738_376, "step", {})]),
    "baichuan-inc/Baichuan2-7B-Intermediate-Checkpoints": (["main", "train_00220B", "train_00440B"],
        [(220 * B, "tokens", {}), (440 * B, "tokens", {})]),
    "togethercomputer/RedPajama-INCITE-7B-Base": (["main", "240b_tokens", "280b_tokens", "1t_tokens"],
        [(240 * B, "tokens", {}), (280 * B, "tokens", {})]),
    "LLM360/Amber": (["main", "ckpt_000", "ckpt_007"], [(0, "index", {}), (7, "index", {})]),
    "LLM360/K2": (["main", "ckpt_001", "ckpt_140"], [(1, "index", {}), (140, "index", {})]),
    "LLM360/CrystalCoder": (["CrystalCoder_phase1_checkpoint_079000", "CrystalCoder_phase2_checkpoint_055500"],
        [(79_000, "step", {"stage": 1}), (134_500, "step", {"stage": 2, "stage_step": 55_500})]),
    "bigscience/bloom-1b1-intermediate": (["global_step1000", "global_step10000"], [(1000, "step", {}), (10_000, "step", {})]),
    "stanford-crfm/alias-gpt2-small-x21": (["checkpoint-0", "checkpoint-400000"], [(0, "step", {}), (400_000, "step", {})]),
}  # fmt: skip
DATADECIDE = [f"step{s}-seed-{seed}" for s in (0, 1250, 2500) for seed in ("default", "small-aux-2", "large-aux-2")]


def refs(names: list[str]) -> list[RefInfo]:
    return [RefInfo(name, "branch", f"{k:040x}") for k, name in enumerate(names)]


@pytest.mark.parametrize("repository", LISTINGS)
def test_a_recorded_listing_is_the_run_that_was_published(repository: str) -> None:
    names, expected = LISTINGS[repository]
    family = family_of(repository)
    assert family is not None
    found = select(refs(names), family)
    assert [(c.step, c.kind, dict(c.extra)) for c in found.chosen] == expected
    assert [c.step for c in found.chosen] == sorted(c.step for c in found.chosen)


def test_twenty_families_and_more_are_built_in() -> None:
    assert len(FAMILIES) >= 20
    assert {family_of(repository).name for repository in LISTINGS} | {"DataDecide", "MultiBERTs", "TinyLlama"} == {  # type: ignore[union-attr]
        family.name for family in FAMILIES
    }


def test_a_repository_a_checkpoint_with_tokens_in_its_name() -> None:
    ids = [f"TinyLlama/TinyLlama-1.1B-intermediate-step-{s}" for s in ("50K-105b", "240k-503b", "1431k-3T")]
    found = select_repositories(ids, "TinyLlama/TinyLlama-1.1B-intermediate-step-*")
    assert [c.step for c in found.chosen] == [50_000, 240_000, 1_431_000]


def test_several_runs_in_one_repository_are_named_and_chosen_by_pattern() -> None:
    family = family_of("allenai/DataDecide-dolma1_7-1B")
    with pytest.raises(SeveralRuns) as caught:
        select(refs(DATADECIDE), family)
    error = caught.value
    assert isinstance(error, Refused)
    assert error.kind == "several-runs"
    assert set(error.runs) == {"step*-seed-default", "step*-seed-small-aux-2", "step*-seed-large-aux-2"}
    assert all(len(names) == 3 for names in error.runs.values())
    assert "--revisions 'step*-seed-default'" in error.hint
    for pattern in error.runs:
        chosen = select(refs(DATADECIDE), family, revisions=[pattern]).chosen
        assert [c.step for c in chosen] == [0, 1250, 2500]


def test_runs_of_an_unknown_repository_are_told_apart_too() -> None:
    names = [f"{model}-step{s}" for model in ("small", "large") for s in (0, 100)]
    with pytest.raises(SeveralRuns) as caught:
        select(refs(names), None)
    assert set(caught.value.runs) == {"small-step*", "large-step*"}
    assert [c.step for c in select(refs(["warm-step5", "step100", "step200"]), None).chosen] == [5, 100, 200]


def test_names_without_a_stage_beside_others_are_a_finding() -> None:
    names = [
        "step150-tokens1B",
        "step2150-tokens9B",
        "stage1-step5000-tokens21B",
        "stage2-ingredient1-step1000-tokens5B",
    ]
    for family in (family_of("allenai/OLMo-2-1124-7B"), None):
        found = select(refs(names), family)
        assert [c.step for c in found.chosen] == [150, 2150, 5000, 6000]
        (finding,) = [f for f in found.findings if f.kind == "stage-missing"]
        assert finding.severity == "warning"
        assert finding.details["labels"] == names[:2]


def test_a_stage_that_is_a_word_is_read_or_asked_about() -> None:
    names = ["pretrain-100", "pretrain-200", "anneal-50"]
    found = select(refs(names), None, revisions=[r"(?P<stage>[a-z]+)-(?P<step>\d+)"])
    assert [(c.step, c.extra["stage"]) for c in found.chosen] == [(100, 1), (200, 1), (250, 3)]
    with pytest.raises(UsageError) as caught:
        select(refs(["kestrel-100", "ocelot-50"]), None, revisions=[r"(?P<stage>[a-z]+)-(?P<step>\d+)"])
    assert "kestrel" in caught.value.message
    assert "no step" not in caught.value.message


def several(id: str) -> Repo:
    branches = {
        f"step{s}-seed-{seed}": Revision({"model.safetensors": safetensors(state(s, seed=k))})
        for s in (0, 10, 20, 30)
        for k, seed in enumerate(("default", "small-aux-2"))
    }
    return Repo(id, {"main": branches["step30-seed-default"], **branches})


def run(*words: str, status: int = 0) -> Any:
    done = in_process.trajsvc(*words)
    assert done.returncode == status, done.stderr
    return done


def test_plan_lists_the_runs_of_a_repository_and_batch_takes_them_all(hubs: Hubs, tmp_path: Path) -> None:
    hubs(several("allenai/DataDecide-tiny-1M"))
    source, store = "hf://allenai/DataDecide-tiny-1M", str(tmp_path / "store")
    listed = json.loads(run("plan", source, "--store", store, "--format", "json").stdout)
    assert {row["revisions"]: row["checkpoints"] for row in listed["runs"]} == {
        "step*-seed-default": 4,
        "step*-seed-small-aux-2": 4,
    }
    assert "--revisions" in run("plan", source, "--store", store).stdout
    assert "2 runs beside each other" in run("analyze", source, "--store", store, status=4).stderr
    family = tmp_path / "family.toml"
    family.write_text(f'name = "seeds"\n[[runs]]\nname = "tiny"\nsource = "{source}"\n')
    answer = json.loads(run("batch", str(family), "--store", store, "--no-copy", "--format", "json").stdout)
    assert {m["member"]: (m["state"], m["checkpoints"]) for m in answer["members"]} == {
        "tiny-seed-default": ("done", 4),
        "tiny-seed-small-aux-2": ("done", 4),
    }
    table = json.loads(run("compare", "--family", "seeds", "--store", store, "--format", "json").stdout)
    assert {row["hyperparameters"]["run"] for row in table["rows"]} == {"seed-default", "seed-small-aux-2"}
