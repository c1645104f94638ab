"""Every row of the table on files that its library wrote: nothing lost, nothing twice, every tensor in its place."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from anatomy_zoo import CASES, Case, Saved, kinds, save

from trajsvc.anatomy.blocks import Anatomy
from trajsvc.anatomy.dissect import dissect
from trajsvc.anatomy.groups import groups
from trajsvc.errors import Refused, UsageError

ATTENTION = {"attention.q", "attention.k", "attention.v", "attention.out"}
MLP = {"mlp.in", "mlp.out"}
GATED = {"llama", "phi-3", "modernbert"}
ROUTER = re.compile(r"\.(mlp|block_sparse_moe)\.gate\.weight$")


def assert_partition(anatomy: Anatomy, shapes: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """Every element of every tensor is in exactly one block, or the tensor is left out with a reason."""
    covered = {name: np.zeros(int(np.prod(shape)), np.int64) for name, (shape, _) in shapes.items()}
    for block in anatomy.blocks:
        e = block.extent
        index = np.arange(e.outer)[:, None] * e.stride + e.start + np.arange(e.length)
        np.add.at(covered[block.tensor], index.reshape(-1), 1)
        assert block.size == index.size
    for name, count in covered.items():
        if name in anatomy.left_out:
            assert not count.any()
            assert anatomy.left_out[name]
        else:
            assert (count == 1).all(), name


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id)
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, torch.nn.Module, Saved]:
    case: Case = request.param
    model = case.build()
    return case, model, save(model, tmp_path_factory.mktemp(case.id))


def test_every_parameter_is_in_exactly_one_block(written: tuple[Case, torch.nn.Module, Saved]) -> None:
    case, model, saved = written
    anatomy = saved.dissect()
    assert anatomy.architecture == case.architecture
    assert anatomy.notes == ()
    assert_partition(anatomy, saved.kinds())
    assert sum(b.size for b in anatomy.blocks) == sum(p.numel() for p in model.parameters())


def test_every_layer_has_its_components(written: tuple[Case, torch.nn.Module, Saved]) -> None:
    case, _, saved = written
    anatomy = saved.dissect()
    wanted = ATTENTION | MLP | ({"mlp.gate"} if case.architecture in GATED else set())
    for layer in ("0", "1"):
        found = {b.component for b in anatomy.blocks if b.layer == layer and not ROUTER.search(b.tensor)}
        norms = set() if case.id == "olmo" else {"norm"}  # OLMo's norms have no weights
        assert found == wanted | norms
    numbered = [g for g in groups(anatomy) if re.fullmatch(r"layer/\d+", g)]
    assert numbered == ["layer/0", "layer/1"]


def test_embeddings_and_final_norm(written: tuple[Case, torch.nn.Module, Saved]) -> None:
    case, _, saved = written
    anatomy = saved.dissect()
    by_name = {b.name: b for b in anatomy.blocks}
    outside = [b for b in anatomy.blocks if not b.layer.isdigit()]
    assert {"embedding"} <= {b.component for b in outside} <= {"embedding", "unembedding", "norm", ""}
    unnamed = {b.name for b in outside if not b.component}
    assert all(
        re.match(r"classifier\.|cls\.predictions\.transform\.dense|lm_head\.dense|head\.dense", n) for n in unnamed
    )
    assert all(not b.layer for b in outside if b.component in ("embedding", "unembedding"))
    assert all(b.layer == b.name.rpartition(".")[0] for b in outside if b.component == "norm")
    if case.architecture == "gpt-neox":
        assert by_name["gpt_neox.final_layer_norm.weight"].layer == "gpt_neox.final_layer_norm"


def test_names_of_the_running_model_say_the_same_as_names_of_files(
    written: tuple[Case, torch.nn.Module, Saved],
) -> None:
    """Scripts save ``model.state_dict()``: names may differ from those of the library's files, and tied tensors are there twice."""
    case, model, saved = written
    state = model.state_dict()
    live = dissect(kinds(state), saved.config)
    assert live.architecture == case.architecture
    assert_partition(live, kinds(state))
    assert _by_component(live) == _by_component(saved.dissect())
    if set(state) - set(saved.tensors) == {"lm_head.weight"}:
        tied = {"lm_head.weight"} if saved.config and saved.config["tie_word_embeddings"] else set()
        assert set(live.left_out) == tied


def _by_component(anatomy: Anatomy) -> Counter[tuple[str, str]]:
    count: Counter[tuple[str, str]] = Counter()
    for block in anatomy.blocks:
        count[block.layer if block.layer.isdigit() else "", block.component] += block.size
    return count


NAMED_ALIKE = {"falcon": "--heads", "phi-3": "--heads", "gpt-neox": "--heads", "bloom": "--heads"}


def test_the_names_alone_choose_the_same_rule(written: tuple[Case, torch.nn.Module, Saved]) -> None:
    case, _, saved = written
    known = saved.dissect()
    if case.architecture in NAMED_ALIKE:
        with pytest.raises(Refused) as refused:
            dissect(saved.kinds())
        assert refused.value.kind == "heads-unknown"
        assert all(word in refused.value.hint for word in ("--heads N", "config.json", "--rules"))
        assert refused.value.tensor in saved.tensors
    alone = dissect(saved.kinds(), heads=case.heads if case.architecture in NAMED_ALIKE else None)
    assert alone.blocks == known.blocks
    assert alone.architecture == case.architecture
    assert "chosen by the tensors' names" in alone.notes[0]


def test_an_unknown_model_with_known_names_keeps_fused_tensors_whole(
    written: tuple[Case, torch.nn.Module, Saved],
) -> None:
    """Another architecture may use a known name for another layout: without a rule for it, nothing is split."""
    _, _, saved = written
    assert saved.config is not None
    strange = saved.config | {"model_type": "strange", "architectures": ["StrangeForCausalLM"]}
    anatomy = dissect(saved.kinds(), strange)
    assert not any(b.part for b in anatomy.blocks)
    assert_partition(anatomy, saved.kinds())
    fused = {b.tensor for b in saved.dissect().blocks if b.part}
    assert "strange" in anatomy.notes[0]
    assert bool(fused) == any("left whole" in note for note in anatomy.notes)
    assert all(b.component == "" for b in anatomy.blocks if b.tensor in fused)


PYTHIA = {
    "14m": (6, 128, 4, 14_067_712),
    "31m": (6, 256, 8, 30_494_720),
    "70m": (6, 512, 8, 70_426_624),
    "160m": (12, 768, 12, 162_322_944),
    "410m": (24, 1024, 16, 405_334_016),
    "1b": (16, 2048, 8, 1_011_781_632),
    "1.4b": (24, 2048, 16, 1_414_647_808),
    "2.8b": (32, 2560, 32, 2_775_208_960),
    "6.9b": (32, 4096, 32, 6_857_302_016),
    "12b": (36, 5120, 40, 11_846_072_320),
}
VOCABULARY = {"6.9b": 50432, "12b": 50688}
"""Rows of the embedding where they are not 50304: padded so that more devices divide them."""


@pytest.mark.parametrize("size", PYTHIA)
def test_pythia_has_the_published_number_of_parameters(size: str) -> None:
    """On the meta device: names and shapes of the real module, and no memory."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    layers, hidden, heads, parameters = PYTHIA[size]
    config = GPTNeoXConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * hidden,
                           vocab_size=VOCABULARY.get(size, 50304), tie_word_embeddings=False)  # fmt: skip
    with torch.device("meta"):
        model = GPTNeoXForCausalLM(config)
    anatomy = dissect(kinds(model.state_dict()), config.to_dict())
    found = groups(anatomy)
    assert found["network"].parameters == parameters
    assert found["layer/1/attention.k"].parameters == hidden * hidden + hidden
    assert found["network/no-embedding"].parameters == parameters - 2 * VOCABULARY.get(size, 50304) * hidden
    assert found["component/attention.q"].tensors == 2 * layers


def test_heads_that_contradict_the_config_are_refused(tmp_path: Path) -> None:
    saved = save(CASES[0].build(), tmp_path)
    assert saved.dissect(heads=3) == saved.dissect()
    with pytest.raises(UsageError, match="--heads is 6, and the config of this model says 3") as refused:
        saved.dissect(heads=6)
    assert refused.value.kind == "heads-conflict"


@pytest.mark.parametrize(
    ("case", "heads"), [("gpt-neox", 5), ("bloom", 7), ("falcon-mq", 5), ("phi-3", 7), ("phi-3", 4)]
)
def test_heads_that_do_not_divide_a_tensor_are_refused(case: str, heads: int, tmp_path: Path) -> None:
    saved = save(next(c for c in CASES if c.id == case).build(), tmp_path)
    with pytest.raises(Refused) as refused:
        dissect(saved.kinds(), heads=heads)
    assert refused.value.kind == "layout-mismatch"
    assert refused.value.tensor in saved.tensors
    assert "--heads" in refused.value.hint
