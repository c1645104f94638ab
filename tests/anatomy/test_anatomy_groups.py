"""Groups: their ids, their order, their sums; the same from an anatomy and from a stored run's columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anatomy_zoo import kinds
from hypothesis import given
from hypothesis import strategies as st

from storage_schema.runs.contents import BlockTable
from trajsvc.anatomy.blocks import Anatomy, Block, Extent, Group
from trajsvc.anatomy.dissect import dissect
from trajsvc.anatomy.groups import find_group, groups, groups_of, groups_of_rows, in_order, match_groups
from trajsvc.errors import NotFound

LAYER_PARTS = ["attention.q", "attention.k", "attention.v", "attention.out", "mlp.in", "mlp.out", "norm"]


def pythia(layers: int, hidden: int = 8, vocabulary: int = 20) -> Anatomy:
    """Tensors of a GPT-NeoX in the order of a safetensors file: sorted as text."""
    shapes: dict[str, tuple[int, ...]] = {
        "embed_out.weight": (vocabulary, hidden),
        "gpt_neox.embed_in.weight": (vocabulary, hidden),
    }
    for i in range(layers):
        for name, rows, columns in (
            ("attention.dense", hidden, hidden),
            ("attention.query_key_value", 3 * hidden, hidden),
            ("mlp.dense_4h_to_h", hidden, 4 * hidden),
            ("mlp.dense_h_to_4h", 4 * hidden, hidden),
        ):
            shapes |= {
                f"gpt_neox.layers.{i}.{name}.bias": (rows,),
                f"gpt_neox.layers.{i}.{name}.weight": (rows, columns),
            }
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"gpt_neox.layers.{i}.{norm}.{leaf}": (hidden,) for leaf in ("bias", "weight")}
    shapes |= {f"gpt_neox.final_layer_norm.{leaf}": (hidden,) for leaf in ("bias", "weight")}
    tensors = {name: (shapes[name], "float16") for name in sorted(shapes)}
    return dissect(tensors, {"model_type": "gpt_neox", "num_attention_heads": 2})


def table(anatomy: Anatomy) -> BlockTable:
    """The columns that a stored run keeps."""
    b = anatomy.blocks
    size = np.array([x.size for x in b], np.int64)
    return BlockTable(
        *(tuple(getattr(x, column) for x in b) for column in ("name", "tensor", "part", "layer", "component")),
        size,
        np.cumsum(size) - size,
    )


def test_ids_and_their_order() -> None:
    found = groups(pythia(12))
    ids = list(found)
    layers = [f"layer/{i}" for i in range(12)] + ["layer/gpt_neox.final_layer_norm"]
    parts = [f"layer/{i}/{c}" for i in range(12) for c in LAYER_PARTS] + ["layer/gpt_neox.final_layer_norm/norm"]
    components = [f"component/{c}" for c in LAYER_PARTS]
    head = ["network", "network/no-embedding", *layers, *parts, *components, "embedding", "unembedding"]
    assert ids[: len(head)] == head
    assert all(i.startswith("tensor/") for i in ids[len(head) :])
    fused = "tensor/gpt_neox.layers.0.attention.query_key_value.weight"
    at = ids.index(fused)
    assert ids[at : at + 4] == [fused, f"{fused}[q]", f"{fused}[k]", f"{fused}[v]"]


def test_what_the_groups_hold() -> None:
    hidden, vocabulary = 8, 20
    anatomy = pythia(3, hidden, vocabulary)
    found = groups(anatomy)
    sizes = {id: group.parameters for id, group in found.items()}
    layer = 12 * hidden**2 + 13 * hidden
    assert sizes["layer/1"] == layer
    assert sizes["network"] == 3 * layer + 2 * hidden + 2 * vocabulary * hidden
    assert sizes["network/no-embedding"] == 3 * layer + 2 * hidden
    assert sizes["layer/2/attention.k"] == hidden**2 + hidden, "weight and bias together"
    assert sizes["component/attention.q"] == 3 * (hidden**2 + hidden)
    assert sizes["component/norm"] == 3 * 4 * hidden + 2 * hidden, "the final norm is a norm"
    assert sizes["layer/gpt_neox.final_layer_norm"] == 2 * hidden
    assert sizes["embedding"] == sizes["unembedding"] == vocabulary * hidden
    fused = "tensor/gpt_neox.layers.0.attention.query_key_value.weight"
    assert sizes[fused] == 3 * sizes[f"{fused}[v]"] == 3 * hidden**2
    assert (found[fused].tensors, found["layer/0/attention.q"].tensors, found["layer/0"].tensors) == (1, 2, 12)
    assert len(found[fused].blocks) == 3


def test_every_kind_of_group_covers_the_network_once() -> None:
    anatomy = pythia(4)
    found = groups(anatomy)
    everything = set(range(len(anatomy.blocks)))
    for cover in (
        ["network"],
        ["network/no-embedding", "embedding", "unembedding"],
        [i for i in found if i.startswith("layer/") and i.count("/") == 1] + ["embedding", "unembedding"],
        [i for i in found if i.startswith("layer/") and i.count("/") == 2] + ["embedding", "unembedding"],
        [i for i in found if i.startswith("component/")] + ["embedding", "unembedding"],
        [i for i in found if i.startswith("tensor/") and not i.endswith("]")],
    ):
        blocks = [b for id in cover for b in found[id].blocks]
        assert len(blocks) == len(everything)
        assert set(blocks) == everything


def test_groups_of_stored_columns_are_those_of_the_anatomy() -> None:
    for anatomy in (pythia(11), dissect(kinds(resnet().state_dict()))):
        stored = groups_of(table(anatomy))
        assert list(stored.items()) == list(groups(anatomy).items())
        assert all(type(g.parameters) is int for g in stored.values())


BLOCKS = st.builds(
    lambda tensor, part, layer, component, size: Block(
        f"{tensor}[{part}]" if part else tensor, tensor, part, layer, component, Extent(1, size, 0, size)
    ),
    st.sampled_from(["a.w", "b.w", "c.w"]), st.sampled_from(["", "q", "k"]), st.sampled_from(["", "0", "10", "2", "x.1"]),
    st.sampled_from(["", "attention.q", "norm", "embedding", "unembedding", "own"]), st.integers(1, 9),
)  # fmt: skip


@given(st.lists(BLOCKS, max_size=12))
def test_groups_of_any_rows_are_consistent(blocks: list[Block]) -> None:
    found = groups_of_rows(blocks)
    assert ("network" in found) == bool(blocks)
    for id, group in found.items():
        assert group.id == id
        assert list(group.blocks) == sorted(set(group.blocks)) != []
        assert group.parameters == sum(blocks[b].size for b in group.blocks)
    assert ("network/no-embedding" in found) == (
        any(b.component == "embedding" for b in blocks)
        and any(b.component not in ("embedding", "unembedding") for b in blocks)
    )


def test_layers_come_in_the_order_of_depth() -> None:
    assert in_order(["10", "9", "norm", "2"]) == ["2", "9", "10", "norm"]
    torch_order = ["conv1", "bn1", "layer1.0", "layer1.1", "layer2.0", "layer10.0", "fc"]
    assert in_order(torch_order) == torch_order
    assert in_order(["down1", "down2", "up2", "up1"]) == ["down1", "down2", "up2", "up1"]
    sorted_as_text = ["conv1", "fc", "layer1.0", "layer10.0", "layer2.0", "layer2.1"]
    assert in_order(sorted_as_text) == ["conv1", "fc", "layer1.0", "layer2.0", "layer2.1", "layer10.0"]
    assert in_order(["encoder.layers.10", "encoder.layers.2"]) == ["encoder.layers.2", "encoder.layers.10"]


class Basic(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(width, width, 3), torch.nn.BatchNorm2d(width)
        self.conv2, self.bn2 = torch.nn.Conv2d(width, width, 3), torch.nn.BatchNorm2d(width)


def resnet() -> torch.nn.Module:
    """Modules named as in the usual ResNets."""
    model = torch.nn.Module()
    model.conv1, model.bn1 = torch.nn.Conv2d(3, 4, 7, bias=False), torch.nn.BatchNorm2d(4)
    model.layer1 = torch.nn.Sequential(Basic(4), Basic(4))
    model.layer2 = torch.nn.Sequential(Basic(4), Basic(4))
    model.fc = torch.nn.Linear(4, 2)
    return model


def test_other_networks_are_grouped_by_module_path() -> None:
    found = groups(dissect(kinds(resnet().state_dict())))
    layers = [i for i in found if i.startswith("layer/")]
    assert layers == [
        "layer/conv1",
        "layer/bn1",
        "layer/layer1.0",
        "layer/layer1.1",
        "layer/layer2.0",
        "layer/layer2.1",
        "layer/fc",
    ]
    assert not [i for i in found if i.startswith("component/") or i == "network/no-embedding"]
    assert found["layer/bn1"].parameters == 8
    assert found["layer/layer2.0"].tensors == 8


def test_an_mlp_and_parameters_of_the_outermost_module() -> None:
    mlp = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    assert [i for i in groups(dissect(kinds(mlp.state_dict()))) if i.startswith("layer/")] == ["layer/0", "layer/2"]
    root = dissect({"weight": ((2, 2), "float32"), "bias": ((2,), "float32"), "cls_token": ((1, 1, 2), "float32")})
    assert [b.layer for b in root.blocks] == ["model", "model", "cls_token"]
    padded = {f"layers.{i:02}.self_attn.{p}_proj.weight": ((2, 2), "float32") for i in (9, 10) for p in "qo"}
    assert {b.layer for b in dissect(padded).blocks} == {"9", "10"}
    slashes = dissect({"params/encoder/layers_0/kernel": ((2, 2), "float32"), "params/0/kernel": ((2,), "float32")})
    assert [b.layer for b in slashes.blocks] == ["params.encoder.layers_0", "params.0"]


def test_a_group_that_is_not_there_names_those_that_are_close() -> None:
    found = groups(pythia(3))
    assert find_group(found, "layer/2/attention.q") is found["layer/2/attention.q"]
    with pytest.raises(NotFound) as refused:
        find_group(found, "layer/3/attention.q")
    assert refused.value.kind == "group-not-found"
    assert "layer/2/attention.q" in refused.value.hint
    assert "trajsvc groups RUN" in refused.value.hint
    with pytest.raises(NotFound) as nothing:
        find_group(found, "zzzzzzzz")
    assert "mean" not in nothing.value.hint


def ids(found: dict[str, Group]) -> list[str]:
    return list(found)


def test_groups_by_shell_pattern() -> None:
    found = groups(pythia(3))
    assert ids(match_groups(found, "layer/*/attention.q")) == [f"layer/{i}/attention.q" for i in range(3)]
    assert ids(match_groups(found, "layer/?")) == ["layer/0", "layer/1", "layer/2"]
    exact = "tensor/gpt_neox.layers.0.attention.query_key_value.bias[q]"
    assert ids(match_groups(found, exact)) == [exact]
    assert len(match_groups(found, "tensor/*.query_key_value.*[q]")) == 6
    assert match_groups(found, "nothing*") == {}
