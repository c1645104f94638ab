"""One spelling for every tensor of a run."""

from __future__ import annotations

import time

import pytest
from refusals import refused

from trajsvc.sources.base import TensorEntry
from trajsvc.sources.tensor_names import harmonise, strip_wrappers


@pytest.mark.parametrize(
    ("stored", "plain", "lightning"),
    [
        (["module.a.w", "module.b"], ["a.w", "b"], False),
        (["module.a.w", "b"], ["module.a.w", "b"], False),
        (["_orig_mod.a", "_orig_mod.b"], ["a", "b"], False),
        (["_orig_mod.module.a"], ["a"], False),
        (["module._orig_mod.a"], ["a"], False),
        (["a._orig_mod.b", "c"], ["a.b", "c"], False),
        (["_fsdp_wrapped_module.a._fsdp_wrapped_module._checkpoint_wrapped_module.b"], ["a.b"], False),
        (["model.a", "model.b"], ["model.a", "model.b"], False),
        (["model.a", "model.b"], ["a", "b"], True),
        (["net._orig_mod.a"], ["a"], True),
        (["model.model.a", "model.lm_head"], ["model.a", "lm_head"], True),
        (["model.a", "loss.b"], ["model.a", "loss.b"], True),
        (["module.model.a"], ["a"], True),
        (["my_orig_mod.a"], ["my_orig_mod.a"], False),
        ([], [], False),
    ],
)
def test_wrappers_leave_no_trace(stored: list[str], plain: list[str], lightning: bool) -> None:
    assert list(strip_wrappers(stored, lightning=lightning).values()) == plain


def test_two_names_that_become_one_are_refused() -> None:
    error = refused(lambda: strip_wrappers(["a.b", "a._orig_mod.b"], file="x.pt"), "name-conflict", file="x.pt")
    assert error.tensor == "a._orig_mod.b"


def entries(names: dict[str, tuple[int, ...]]) -> dict[str, TensorEntry]:
    return {n: TensorEntry(n, "float32", s, "f", 0) for n, s in names.items()}


BASE: dict[str, tuple[int, ...]] = {
    "embed_in.weight": (9, 4),
    "layers.0.w": (4, 4),
    "layers.1.w": (4, 4),
    "norm.bias": (4,),
}
FULL = {f"gpt_neox.{n}": s for n, s in BASE.items()} | {"embed_out.weight": (9, 4)}


def test_a_bare_base_model_takes_the_prefix_of_the_others() -> None:
    bare = entries(BASE | {"layers.0.attention.bias": (1, 1, 8, 8)})
    found = harmonise([entries(FULL), bare, entries(FULL)])
    assert list(found[0]) == list(FULL)
    assert list(found[1]) == [*(f"gpt_neox.{n}" for n in BASE), "gpt_neox.layers.0.attention.bias"]
    assert found[1]["gpt_neox.layers.0.w"].name == "layers.0.w"


def test_another_model_keeps_its_names() -> None:
    other = entries({n: (*s, 2) for n, s in BASE.items()})
    assert list(harmonise([entries(FULL), other])[1]) == list(BASE)
    alike_in_one = entries({"norm.bias": (4,), "norm.weight": (4,)})
    assert list(harmonise([entries(FULL), alike_in_one])[1]) == ["norm.bias", "norm.weight"]
    unlike = entries({"conv.weight": (3, 3), "fc.weight": (2, 2)})
    assert list(harmonise([entries(FULL), unlike])[1]) == ["conv.weight", "fc.weight"]


def test_both_names_of_the_output_embedding_are_one() -> None:
    newer = {n.replace("embed_out", "lm_head"): s for n, s in FULL.items()}
    old, new = harmonise([entries(FULL), entries(newer)])
    assert list(old) == list(new) == list(FULL)
    assert new["embed_out.weight"].name == "lm_head.weight"
    assert list(harmonise([entries(newer)])[0]) == list(newer)
    llama = [entries({"model.a": (2,), "lm_head.weight": (2,)}), entries({"model.a": (2,), "embed_out.weight": (2,)})]
    assert [list(f) for f in harmonise(llama)] == [list(x) for x in llama]
    assert list(harmonise(llama, {"model_type": "gpt_neox"})[0]) == ["model.a", "embed_out.weight"]


def test_a_long_run_is_quick() -> None:
    many = [entries({f"gpt_neox.layers.{i}.w": (4,) for i in range(450)}) for _ in range(80)]
    bare = [entries({f"layers.{i}.w": (4,) for i in range(450)}) for _ in range(80)]
    started = time.thread_time()
    found = harmonise([*many, *bare])
    assert time.thread_time() - started < 20
    assert all(list(f) == list(many[0]) for f in found)
