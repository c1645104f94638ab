"""The table of published families: who is in it, how each spells its checkpoints, and how it is shown."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from typer.testing import CliRunner

from trajsvc.cli.main import make_app
from trajsvc.sources.hub.address import parse_address
from trajsvc.sources.hub.known_families import FAMILIES, PYTHIA_STEPS, family_of, number
from trajsvc.sources.hub.selection import RefInfo, select


@pytest.mark.parametrize(
    ("repository", "family"),
    [
        *((f"EleutherAI/pythia-{s}", "Pythia") for s in ("14m", "70m", "1.4b", "12b", "6.9b-deduped", "70m-v0", "2.8b-deduped-v0")),
        *((f"EleutherAI/pythia-{s}-v0", "Pythia v0 (renamed steps)") for s in ("160m", "410m", "1.4b", "160m-deduped")),
        *((f"EleutherAI/pythia-{s}", "PolyPythias") for s in ("14m-seed1", "410m-seed9", "160m-data-seed1", "160m-weight-seed3")),
        ("allenai/OLMo-1B-hf", "OLMo"), ("allenai/OLMo-7B-0424", "OLMo"),
        ("allenai/OLMo-2-1124-7B", "OLMo-2 and OLMo-3"), ("allenai/Olmo-3-1025-7B", "OLMo-2 and OLMo-3"),
        ("HuggingFaceTB/SmolLM3-3B-checkpoints", "SmolLM3"), ("LLM360/Amber", "LLM360 Amber"),
        ("bigscience/bloom-1b1-intermediate", "BLOOM intermediate"), ("stanford-crfm/alias-gpt2-small-x21", "Mistral (CRFM)"),
        ("google/multiberts-seed_0-step_20k", "MultiBERTs"),
        ("EleutherAI/pythia-70m-instruct", None), ("me/pythia-70m", None), ("EleutherAI/gpt-neo", None), ("LLM360/AmberChat", None),
    ],
)  # fmt: skip
def test_who_is_of_which_family(repository: str, family: str | None) -> None:
    found = family_of(repository)
    assert (found.name if found else None) == family


@pytest.mark.parametrize(
    ("repository", "revision", "step", "extra"),
    [
        ("EleutherAI/pythia-70m", "step143000", 143_000, {}),
        ("EleutherAI/pythia-410m-v0", "step1000", 1000, {"true_step": 500}),
        ("EleutherAI/pythia-70m-v0", "step1000", 1000, {}),
        ("allenai/OLMo-1B-hf", "step1000-tokens4B", 1000, {"tokens": 4 * 10**9}),
        ("allenai/OLMo-2-1124-7B", "stage1-step101000-tokens424B", 101_000, {"stage": 1, "tokens": 424 * 10**9}),
        ("allenai/OLMo-2-1124-7B", "stage2-ingredient1-step11931-tokens100B", 11_931, {"stage": 2, "ingredient": 1, "tokens": 10**11}),
        ("HuggingFaceTB/SmolLM3-3B-checkpoints", "stage1-step-40000", 40_000, {"stage": 1}),
        ("bigscience/bloom-1b1-intermediate", "global_step1000", 1000, {}),
        ("stanford-crfm/alias-gpt2-small-x21", "checkpoint-400000", 400_000, {}),
    ],
)  # fmt: skip
def test_how_families_spell_their_checkpoints(repository: str, revision: str, step: int, extra: dict[str, int]) -> None:
    (chosen,) = select([RefInfo(revision, "branch", "c")], family_of(repository)).chosen
    assert (chosen.step, chosen.kind, dict(chosen.extra)) == (step, "step", extra)


def test_the_number_of_a_counted_checkpoint_is_no_step() -> None:
    (chosen,) = select([RefInfo("ckpt_007", "branch", "c")], family_of("LLM360/Amber")).chosen
    assert (chosen.step, chosen.kind) == (7, "index")


def test_a_label_that_is_no_whole_true_step_has_none() -> None:
    refs = [RefInfo(n, "branch", n) for n in ("step0", "step1", "step2")]
    chosen = select(refs, family_of("EleutherAI/pythia-1.4b-v0")).chosen
    assert [c.extra.get("true_step") for c in chosen] == [0, None, 1]


def test_pythia_has_154_steps() -> None:
    assert len(PYTHIA_STEPS) == 154 == len(set(PYTHIA_STEPS))
    assert list(PYTHIA_STEPS) == sorted(PYTHIA_STEPS)
    assert PYTHIA_STEPS[:13] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000)
    assert PYTHIA_STEPS[-1] == 143_000


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_example_is_of_its_own_family(family: object) -> None:
    assert family in FAMILIES
    mine = next(f for f in FAMILIES if f is family)
    pattern = parse_address(mine.example.strip("'")).pattern
    assert family_of(pattern.replace("*", "20k")) is mine, "or another family before it takes its repositories"
    assert re.compile(mine.revisions).groupindex.keys() & {"step", "index", "tokens"}


@pytest.mark.parametrize(
    ("text", "value"), [("20k", 20_000), ("424B", 424 * 10**9), ("1.5M", 1_500_000), ("007", 7), ("4T", 4 * 10**12)]
)
def test_numbers_with_units(text: str, value: int) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "k", "1e3", "-1", "1 k", "9" * 30, "9007199254740993", "99999T", "1.2.3"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        number(text)


def shown(*arguments: str, columns: str = "100") -> str:
    result = CliRunner().invoke(make_app(), ["families", "known", *arguments], env={"COLUMNS": columns, "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_fits_a_hundred_columns_whole() -> None:
    text = shown()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text, "nothing is cut off"
    for family in FAMILIES:
        assert family.name in text
        assert family.example in text


def test_the_table_for_machines() -> None:
    rows = json.loads(shown("--format", "json"))
    assert [r["name"] for r in rows] == [f.name for f in FAMILIES]
    assert {r["name"]: r["expected"] for r in rows}["Pythia"] == 154
    table = list(csv.DictReader(io.StringIO(shown("--format", "csv"))))
    assert [r["note"] for r in table] == [f.note for f in FAMILIES]


def test_help_shows_an_example() -> None:
    assert "trajsvc families known" in shown("--help")
