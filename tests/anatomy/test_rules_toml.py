"""A user's own rules: what a file can say, that it comes first, and that a wrong one is refused by file and key."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from trajsvc.anatomy.architectures import TABLE, rows
from trajsvc.anatomy.blocks import Extent
from trajsvc.anatomy.dissect import dissect
from trajsvc.anatomy.groups import groups
from trajsvc.anatomy.rule import Fused
from trajsvc.anatomy.rules_toml import load_rules
from trajsvc.errors import NotFound, UsageError

TENSORS = {
    "embed.weight": ((10, 8), "float32"),
    "blocks.0.mixer.qkv.weight": ((24, 8), "float32"),
    "blocks.0.mixer.qkv.bias": ((24,), "float32"),
    "blocks.0.mixer.proj.weight": ((8, 8), "float32"),
    "blocks.0.mixer.mask": ((16, 16), "float32"),
    "blocks.0.ln_1.weight": ((8,), "float32"),
    "blocks.0.pair": ((8, 6), "float32"),
    "head.weight": ((10, 8), "float32"),
}


def documented() -> str:
    """The example in the docstring of ``load_rules``."""
    text = load_rules.__doc__ or ""
    example = text.split("::\n", 1)[1].split("\n    Patterns are", 1)[0]
    return textwrap.dedent(example)


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_documented_example_is_read_and_used(tmp_path: Path) -> None:
    rules = load_rules(write(tmp_path, documented()))
    assert [r.key for r in rules.rows] == ["my-net"]
    anatomy = dissect(TENSORS, {"tie_word_embeddings": True}, rules=rules)
    assert anatomy.architecture == "my-net"
    assert anatomy.left_out == {
        "blocks.0.mixer.mask": "buffer: mask of attention",
        "head.weight": "tied to embed.weight",
    }
    q = next(b for b in anatomy.blocks if b.name == "blocks.0.mixer.qkv.weight[q]")
    assert (q.layer, q.component, q.extent) == ("0", "attention.q", Extent(8, 24, 0, 8)), "8 heads, from the file"
    found = groups(anatomy)
    assert found["layer/0/attention.v"].parameters == 8 * 8 + 8
    assert found["layer/0/norm"].parameters == 8
    assert found["embedding"].parameters == 80


def test_a_rule_that_extends_another_says_only_what_differs(tmp_path: Path) -> None:
    rules = load_rules(write(tmp_path, '[mine]\nextends = "gpt-neox"\nheads = 4\n'))
    [mine] = rules.rows
    base = next(r for r in TABLE if r.key == "gpt-neox")
    assert (mine.inside, mine.outside, mine.buffers, mine.layers, mine.tied) == (
        base.inside, base.outside, base.buffers, base.layers, base.tied
    )  # fmt: skip
    assert (mine.model_types, mine.marks, mine.heads) == ((), (), 4)
    tensors = {"gpt_neox.layers.0.attention.query_key_value.weight": ((24, 8), "float32")}
    anatomy = dissect(tensors, {"model_type": "gpt_neox", "num_attention_heads": 2}, rules=rules, heads=3)
    assert [b.extent.outer for b in anatomy.blocks] == [4, 4, 4], "the file's number of heads is the last word"


def test_own_parts_and_components(tmp_path: Path) -> None:
    text = """
        [pair]
        layers = "blocks.#"
        [pair.inside]
        pair = { layout = "concatenated", axis = "columns", parts = { left = "mlp.left", right = "mlp.right" } }
    """
    anatomy = dissect(TENSORS, rules=load_rules(write(tmp_path, textwrap.dedent(text))))
    found = groups(anatomy)
    left = found["layer/0/mlp.left"]
    assert left.parameters == 24
    block = anatomy.blocks[left.blocks[0]]
    index = np.arange(48).reshape(8, 6)[:, :3].reshape(-1)
    e = block.extent
    assert [o * e.stride + e.start + i for o in range(e.outer) for i in range(e.length)] == index.tolist()
    assert "component/mlp.right" in found
    assert "tensor/blocks.0.pair[left]" in found


SELECTED = '[mine]\nlayers = "blocks.#"\n{}\n[mine.inside]\n"mixer.proj" = "attention.out"\n'


@pytest.mark.parametrize(
    ("selector", "config", "chosen"),
    [
        ("", None, True),
        ('marks = ["mixer.proj.weight"]', None, True),
        ('marks = ["mixer.proj.weight"]', {"model_type": "gpt_neox"}, True),
        ('marks = ["mixer.nothing.weight"]', None, False),
        ('model_types = ["own"]', {"model_type": "own"}, True),
        ('model_types = ["own"]', {"model_type": "other"}, False),
        ('model_types = ["own"]', None, False),
        ('architectures = ["Own"]', {"architectures": ["OwnForCausalLM"]}, True),
        ('architectures = ["Own"]', {"architectures": ["OwnerForCausalLM"]}, False),
        ('model_types = ["own"]\nmarks = ["mixer.nothing.weight"]', {"model_type": "own"}, False),
    ],
)
def test_when_a_rule_applies(selector: str, config: dict[str, object] | None, chosen: bool, tmp_path: Path) -> None:
    path = write(tmp_path, SELECTED.format(selector))
    anatomy = dissect(TENSORS, config, rules=load_rules(path))
    assert (anatomy.architecture == "mine") == chosen
    assert any(f"no rule of {path} fits" in note for note in anatomy.notes) != chosen


LAYERS = '[net]\nlayers = "layers.#"\n'


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("x", "", "not TOML"),
        ("[net", "", "not TOML"),
        ("", "", "no architecture"),
        ("net = 1", "net", "table"),
        ("[net]\nheads = 3", "net.layers", "missing"),
        ('[net]\nlayers = "layers"', "net.layers", "one #"),
        ('[net]\nlayers = "(layers.#)"', "net.layers", "not a pattern around"),
        ('[net]\nextends = "nothing"', "net.extends", "gpt-neox"),
        (LAYERS + "what = 1", "net.what", "not permitted"),
        (LAYERS + "heads = 0", "net.heads", "greater"),
        (LAYERS + 'heads = "8"', "net.heads", "integer"),
        (LAYERS + 'tied = [["a"]]', "net.tied.0", "2 items"),
        (LAYERS + 'marks = ["(("]', "net.marks.0", "not a pattern"),
        (LAYERS + '[net.inside]\n"q(" = "norm"', "net.inside.q(", "not a pattern"),
        (LAYERS + '[net.inside]\nq = "No/Slash"', "net.inside.q", "match"),
        (LAYERS + "[net.inside]\nq = 3", "net.inside.q", "dictionary"),
        (LAYERS + '[net.inside]\nq = { layout = "sideways" }', "net.inside.q.layout", "'interleaved'"),
        (LAYERS + '[net.inside]\nq = { layout = "concatenated", axis = "up" }', "net.inside.q.axis", "'rows'"),
        (
            LAYERS + '[net.inside]\nq = { layout = "concatenated", parts = ["q", "z"] }',
            "net.inside.q.parts.1",
            "'gate'",
        ),
        (
            LAYERS + '[net.outside]\nq = { layout = "grouped-concatenated", parts = ["q", "k"] }',
            "net.outside.q.parts",
            "three",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_key(text: str, where: str, what: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=re.escape(what)) as refused:
        load_rules(path)
    assert refused.value.kind == "bad-rules"
    assert refused.value.file == str(path)
    assert refused.value.message.startswith(f"{where} in {path}: " if where else f"{path}: ")
    assert "_Fused" not in refused.value.message


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as missing:
        load_rules(tmp_path / "none.toml")
    assert missing.value.kind == "rules-not-found"
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "bytes.toml", tmp_path):
        with pytest.raises(UsageError) as refused:
            load_rules(path)
        assert refused.value.kind == "bad-rules"


def test_the_table_is_sound() -> None:
    keys = [r.key for r in rows()]
    assert len(set(keys)) == len(keys)
    assert keys[-1] == "generic"
    types = [t for r in TABLE for t in r.model_types]
    assert len(set(types)) == len(types), "a model_type in two rows"
    for rule in TABLE:
        assert rule.marks, "without marks a row would fit every checkpoint"
        assert rule.layers.count("#") == 1
        for _, role in (*rule.inside, *rule.outside):
            if isinstance(role, Fused) and role.layout.startswith("grouped"):
                assert len(role.parts) == 3
