"""Parameters that some checkpoints of a run store otherwise than others (as one, stacked, with an axis of length 1, under an adapter's
name) are the same parameters; what cannot be mapped says what to do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from field_runs import Maker, Point, Shapes, analysed, assert_right, of_kind, said

Change = Callable[[Point], Point]
QKV: Shapes = {
    f"layers.{i}.attn.{w}.{leaf}": (12, 8) if leaf == "weight" else (12,)
    for i in range(2)
    for w in "qkv"
    for leaf in ("weight", "bias")
}
EXPERTS: Shapes = {
    f"layers.{i}.mlp.experts.{e}.{w}.weight": (6, 8) for i in range(2) for e in range(3) for w in ("w1", "w3")
}


def with_names(shapes: Shapes, **names: str) -> Shapes:
    """The shapes with the last parts but one under other names."""
    return {".".join([*n.split(".")[:-2], names[n.split(".")[-2]], n.split(".")[-1]]): s for n, s in shapes.items()}


def fused(name: str, *parts: str) -> Change:
    """Store ``<stem>.<part>.<leaf>`` one after the other, as ``<stem>.<name>.<leaf>``."""

    def change(point: Point) -> Point:
        out: Point = {}
        for key, tensor in point.items():
            stem, part, leaf = [*key.rsplit(".", 2), "", ""][:3]
            if part not in parts:
                out[key] = tensor
            elif part == parts[0]:
                joint = "_" if name == "in_proj" else "."
                out[f"{stem}.{name}{joint}{leaf}"] = torch.cat([point[f"{stem}.{p}.{leaf}"] for p in parts])
        return out

    return change


def stacked(form: str, flat: bool = False) -> Change:
    def change(point: Point) -> Point:
        out: Point = {}
        for key, tensor in point.items():
            if ".experts." not in key:
                out[key] = tensor
                continue
            stem, rest = key.split(".experts.")
            number, leaf, _ = rest.split(".")
            if number == "0":
                rows = [point[f"{stem}.experts.{e}.{leaf}.weight"] for e in range(3)]
                out[f"{stem}.experts.{form.format(leaf)}"] = torch.cat(rows) if flat else torch.stack(rows)
        return out

    return change


def each(function: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> Change:
    return lambda point: dict(function(n, t) for n, t in point.items())


NAMED = {"q": "q_proj", "k": "k_proj", "v": "v_proj"}
CASES: dict[str, tuple[Shapes, Change]] = {
    "MPT's projection": (with_names(QKV, **NAMED), fused("Wqkv", "q_proj", "k_proj", "v_proj")),
    "a vision transformer's": (QKV, fused("qkv", "q", "k", "v")),
    "torch's own attention": (with_names(QKV, q="query", k="key", v="value"), fused("in_proj", "query", "key", "value")),
    "keys and values": (with_names(QKV, q="to_q", k="to_k", v="to_v"), fused("to_kv", "to_k", "to_v")),
    "gate and up": (with_names(QKV, q="w1", k="w2", v="w3"), fused("w12", "w1", "w2")),
    "stacked experts": (EXPERTS, stacked("{}")),
    "stacked experts, with a leaf": (EXPERTS, stacked("{}.weight")),
    "experts one after the other": (EXPERTS, stacked("{}", flat=True)),
    "a convolution of length 1": (
        {"net.0.weight": (6, 8), "net.1.weight": (8, 6)},
        each(lambda n, t: (n, t[..., None])),
    ),
    "a position's axis": ({"pos_embed": (10, 8), "head.weight": (4, 8)}, each(lambda n, t: (n, t[None]) if n == "pos_embed" else (n, t))),
    "patches as a matrix": (
        {"patch_embed.proj.weight": (6, 3, 2, 2), "patch_embed.proj.bias": (6,), "head.weight": (4, 6)},
        each(lambda n, t: (n, t.reshape(6, 12) if t.ndim == 4 else t)),
    ),
    "layers that are scanned over": (
        {f"model.layers.{i}.{w}": s for i in range(3) for w, s in (("a.weight", (4, 8)), ("a.bias", (4,)))},
        lambda p: {n: t for n, t in p.items() if "layers" not in n}
        | {f"model.layers.a.{w}": torch.stack([p[f"model.layers.{i}.a.{w}"] for i in range(3)]) for w in ("weight", "bias")},
    ),
    "a base below an adapter": (QKV, each(lambda n, t: (re.sub(r"\.(weight|bias)\Z", r".base_layer.\1", n), t) if "attn" in n else (n, t))),
    "layers counted from 1": (
        QKV | {f"encoder.blocks.{i}.weight": (4, 8) for i in range(3)},
        each(lambda n, t: (re.sub(r"(?<=layers\.|blocks\.)\d", lambda m: str(int(m[0]) + 1), n), t)),
    ),
    "numbers behind an underscore": (QKV, each(lambda n, t: (n.replace("layers.", "layers_"), t))),
    "names in capitals": (QKV, each(lambda n, t: (n.upper(), t))),
    "names as paths": (QKV, each(lambda n, t: (n.replace(".", "/"), t))),
    "an adapter's name": (
        {f"base.layers.{i}.q.lora_{w}.weight": (2, 8) for i in range(2) for w in "AB"} | {"base.layers.0.q.lora_magnitude_vector": (8,)},
        each(lambda n, t: (f"{n}.default" if n.endswith("vector") else re.sub(r"(lora_.)\.weight", r"\1.default.weight", n), t)),
    ),
    "a head that is saved with an adapter": (
        {"base.q.lora_A.weight": (2, 8), "base.q.lora_B.weight": (8, 2), "classifier.weight": (3, 8), "classifier.bias": (3,)},
        each(lambda n, t: (n.replace("classifier.", "classifier.modules_to_save.default."), t)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("first", [True, False], ids=["at first", "at last"])
@pytest.mark.parametrize("what", CASES)
def test_what_is_stored_otherwise_is_one_run(tmp_path: Path, what: str, first: bool) -> None:
    shapes, change = CASES[what]
    points = Maker(11).walk(shapes | {"norm.weight": (8,)}, count=6)
    run = analysed(tmp_path, [change(p) if (i < 2) == first else p for i, p in enumerate(points)])
    assert_right(run, points)
    assert not said(run)
    assert of_kind(run, "renamed").details["renamed"]


@pytest.mark.parametrize("shape", [(7, 3, 2, 2), (6, 5, 2, 2)], ids=["rows", "columns"])
def test_a_kernel_of_another_size_is_another_tensor(tmp_path: Path, shape: tuple[int, ...]) -> None:
    points = Maker(14).walk({"a.weight": (6, 12), "head.weight": (4, 6)}, count=5)
    others = Maker(15).walk({"a.weight": shape, "head.weight": (4, 6)}, count=2)
    assert said(analysed(tmp_path, [*others, *points])) & {"shape-change", "common-rows"}


def test_layers_counted_from_1_are_another_model_s_where_values_say_so(tmp_path: Path) -> None:
    """A first layer that was removed and a new last one: the layers between have kept their numbers."""
    points = Maker(20).walk({f"m.layers.{i}.weight": (8, 8) for i in range(5)}, count=6)
    first = [{n: t for n, t in p.items() if "4" not in n} for p in points[:2]]
    assert "name-change" in said(
        analysed(tmp_path, [*first, *({n: t for n, t in p.items() if "0" not in n} for p in points[2:])])
    )


def test_two_parts_of_a_model_are_not_one(tmp_path: Path) -> None:
    points = Maker(17).walk({f"layers.{i}.weight": (4, 8) for i in range(4)}, count=5)
    later = [{re.sub(r"\d", lambda m: str(int(m[0]) + 4), n): t for n, t in p.items()} for p in points[:2]]
    assert "name-change" in said(analysed(tmp_path, [*later, *points[2:]]))


MAPPED: dict[str, tuple[Shapes, Callable[[str], str]]] = {
    "another layer in a sequence": (
        {"net.0.weight": (12, 8), "net.2.weight": (8, 12), "net.2.bias": (8,)}, lambda n: n.replace("net.2", "net.3"),
    ),
    "layers of one shape in a sequence": (
        {f"{i}.weight": (8, 8) for i in (0, 2, 4)}, lambda n: re.sub(r"\A\d", lambda m: str(int(m[0]) * 3 // 2), n),
    ),
    "numbers inside of words": (
        {f"encoder.layer{i}.fc.{leaf}": s for i in (1, 2) for leaf, s in (("weight", (8, 12)), ("bias", (8,)))},
        lambda n: re.sub(r"layer(\d)", r"layers.\1", n),
    ),
    "a position's name": ({"pos_embed": (10, 8), "fc.weight": (4, 8)}, lambda n: n.replace("pos_embed", "position_embedding.weight")),
    "a head's name": ({"fc.weight": (10, 8), "fc.bias": (10,), "conv.weight": (8, 3)}, lambda n: n.replace("fc.", "head.")),
}  # fmt: skip


@pytest.mark.parametrize("first", [True, False], ids=["at first", "at last"])
@pytest.mark.parametrize("what", MAPPED)
def test_the_renames_that_are_shown_work(tmp_path: Path, what: str, first: bool) -> None:
    shapes, name = MAPPED[what]
    points = Maker(18).walk(shapes, count=7)
    stored = [{name(n): t for n, t in p.items()} if (i < 3) == first else p for i, p in enumerate(points)]
    run = analysed(tmp_path, stored)
    assert len(run.steps) == 4
    message = next(f.message for f in run.findings if f.kind == "name-change" and "`" in f.message)
    words = shlex.split(message.split("`")[1])
    assert words[:2] == ["trajsvc", "analyze"]
    assert set(words[3::2]) == {"--rename"}
    again = analysed(tmp_path, stored, called="again", rename=words[4::2])
    assert_right(again, points)
    assert not said(again)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda p: {n: t.T.contiguous() for n, t in p.items()}, "transposed, as [in, out] and [out, in]"),
        (lambda p: {"flat_param": torch.cat([t.ravel() for t in p.values()])}, "as one tensor"),
    ],
    ids=["transposed", "flat"],
)
def test_what_cannot_be_mapped_says_what_it_may_be(tmp_path: Path, change: Change, how: str) -> None:
    points = Maker(19).walk({"a.weight": (12, 8), "b.weight": (8, 12)}, count=5)
    run = analysed(tmp_path, [*map(change, points[:2]), *points[2:]])
    (message,) = [f.message for f in run.findings if "Both hold 192 parameters" in f.message]
    assert how in message
    assert "--steps" in message


def test_one_layer_less_in_a_stack_is_another_model(tmp_path: Path) -> None:
    points = Maker(16).walk({f"layers.{i}.weight": (4, 8) for i in range(4)}, count=5)
    stacks = [{"layers.weight": torch.stack(list(p.values())[:3])} for p in points[:2]]
    assert "name-change" in said(analysed(tmp_path, [*stacks, *points[2:]]))


def test_one_expert_less_is_another_model(tmp_path: Path) -> None:
    points = Maker(12).walk(EXPERTS, count=5)
    apart = [{n: t for n, t in p.items() if ".experts.2." not in n} for p in points[:2]]
    assert "name-change" in said(analysed(tmp_path, [*apart, *[stacked("{}")(p) for p in points[2:]]]))


@pytest.mark.parametrize(
    ("forms", "remedy"),
    [
        (("{}_g", "{}_v"), "remove_weight_norm"),
        (("parametrizations.{}.original0", "parametrizations.{}.original1"), "remove_parametrizations"),
        (("{}_orig",), "remove_spectral_norm"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_normalisation_that_was_removed_is_no_rename(
    tmp_path: Path, forms: tuple[str, ...], remedy: str, first: bool
) -> None:
    def parametrised(point: Point) -> Point:
        length = point["conv.weight"].norm(dim=1, keepdim=True)
        values = [length, point["conv.weight"]] if len(forms) == 2 else [point["conv.weight"]]
        return {"fc.weight": point["fc.weight"]} | {
            f"conv.{form.format('weight')}": v for form, v in zip(forms, values, strict=True)
        }

    points = Maker(13).walk({"conv.weight": (6, 8), "fc.weight": (4, 6)}, count=7)
    run = analysed(tmp_path, [parametrised(p) if (i < 3) == first else p for i, p in enumerate(points)])
    finding = next(f for f in run.findings if f.kind == "name-change")
    assert "conv.weight is stored as conv." in finding.message
    assert remedy in finding.message
    assert "--rename" not in finding.message
