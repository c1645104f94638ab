"""Heads that are tied to an embedding and saved beside it, in revisions of a Hub: padded, in another type, at some steps alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_repos import Repo, Revision
from hub_server import HubServer
from safetensors.torch import save

import trajsvc
from trajsvc.results.run import Run

Hubs = Callable[..., HubServer]
STEPS = (0, 10, 20, 30)
WTE, HEAD = "model.embed_tokens.weight", "lm_head.weight"
INSIDE = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
CONFIG = {"model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 1}
ROWS, WIDTH = 300, 32


def walked(step: int, seed: int, *shape: int) -> torch.Tensor:
    start, noise = np.random.default_rng(seed), np.random.default_rng((seed, step))
    return torch.tensor(start.normal(0, 0.1, shape) + 0.01 * step**0.5 * noise.normal(0, 1, shape), dtype=torch.float32)


def padded(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, rows.new_zeros(20, WIDTH)])


HEADS: dict[str, Callable[[int], torch.Tensor]] = {
    "equal": lambda s: walked(s, 1, ROWS, WIDTH),
    "padded": lambda s: padded(walked(s, 1, ROWS, WIDTH)),
    "bfloat16": lambda s: walked(s, 1, ROWS, WIDTH).bfloat16(),
    "own": lambda s: walked(s, 2, ROWS, WIDTH),
    "at times": lambda s: walked(s, 1 if s != 20 else 2, ROWS, WIDTH),
}


def analysed(hubs: Hubs, store: Path, head: str, config: Mapping[str, object]) -> Run:
    def files(step: int) -> dict[str, bytes]:
        tensors = {
            WTE: walked(step, 1, ROWS, WIDTH),
            **{f"model.layers.0.{n}.weight": walked(step, 3 + i, WIDTH, WIDTH) for i, n in enumerate(INSIDE)},
            HEAD: HEADS[head](step),
        }
        return {"model.safetensors": save(tensors), "config.json": json.dumps(config).encode()}

    revisions = {f"step{s}": Revision(files(s)) for s in STEPS}
    hubs(Repo("local/tied", {"main": revisions["step30"], **revisions}))
    return trajsvc.analyze("hf://local/tied", store=store, name="run", copy=False)


@pytest.mark.parametrize("tie", [None, True, False])
@pytest.mark.parametrize("head", HEADS)
def test_a_copy_is_counted_once_and_what_is_none_twice(hubs: Hubs, tmp_path: Path, head: str, tie: bool | None) -> None:
    run = analysed(hubs, tmp_path, head, CONFIG if tie is None else {**CONFIG, "tie_word_embeddings": tie})
    copied = head in ("equal", "padded", "bfloat16")
    if head in ("equal", "at times") and tie is False:  # the values are not asked for
        copied = False
        if head == "equal":
            (doubt,) = [f for f in run.findings if f.kind == "suspect-tensors"]
            assert doubt.details["exclude"] == [HEAD]
    assert run.parameters == ROWS * WIDTH * (1 if copied else 2) + len(INSIDE) * WIDTH * WIDTH
    assert run.attributes["left_out"] == ({HEAD: f"tied to {WTE}"} if copied else {})
    kinds = {f.kind for f in run.findings}
    assert ("equal-copies" in kinds) == copied
    assert ("equal-at-times" in kinds) == (head == "at times" and tie is not False)
    assert ("not-tied" in kinds) == (not copied and tie is True)
