"""What a network counts and keeps statistics of beside its weights: often far larger than they are, and no parameter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from field_runs import Maker, analysed, assert_right, of_kind, said

from trajsvc.anatomy.buffers import buffer_reason

Beside = Callable[[Maker, int], dict[str, torch.Tensor]]
BESIDE: dict[str, Beside] = {
    "router": lambda m, i: {
        "layers.1.moe.expert_bias": m.tensor(8) * 0.01 * i,
        "layers.1.moe.tokens_per_expert": m.tensor(8).abs() * 1000 * (i + 1),
        "layers.2.mlp.gate.e_score_correction_bias": m.tensor(8),
        "layers.3.mlp.router.local_tokens_per_expert": m.tensor(8).abs() * 1000 * (i + 1),
    },
    "codebooks": lambda m, i: {
        "codebook.N": m.tensor(16).abs() * 100,
        "codebook.z_avg": m.tensor(16, 4) * 50,
        "vq._ema_cluster_size": m.tensor(16).abs() * 100,
        "vq._ema_w": m.tensor(16, 4) * 50,
        "rvq.layers.0._codebook.inited": torch.ones(1),
        "rvq.layers.0._codebook.cluster_size": m.tensor(16).abs() * 100,
        "quantize.codebook_usage": m.tensor(16).abs() * 100 * (i + 1),
    },
    "observers": lambda m, i: {
        "fc1.input_quantizer._amax": torch.tensor(12.0 + i),
        "fc1.weight_quantizer._amax": m.tensor(32, 1) + i,
        "fc1.act_observer.histogram": m.tensor(200).abs() * 1000 * (i + 1),
    },
    "counters": lambda m, i: {
        "global_step": torch.tensor(100.0 * (i + 1)),
        "schedule.step": torch.tensor([100.0 * (i + 1)]),
        "samples_seen": torch.tensor(6400.0 * (i + 1)),
    },
    "normalisers": lambda m, i: {
        "v_out.mean": m.tensor(1) * 9,
        "v_out.mean_sq": m.tensor(1) * 99,
        "v_out.stddev": m.tensor(1) * 9,
        "v_out.debiasing_term": torch.tensor(0.1 * i),
        "normalize_inputs.buffer_observation_state.max": m.tensor(8) * 99,
        "normalizer.params_dict.obs.scale": m.tensor(8) * 9,
        "bn1.moving_mean": m.tensor(32) * 9,
        "bn1.moving_variance": m.tensor(32) * 99,
    },
    "centres": lambda m, i: {"dino_loss.center": m.tensor(1, 64) * 9, "ibot_patch_loss.center": m.tensor(1, 1, 64)},
    "tables": lambda m, i: {
        "rope_cache": torch.linspace(0, 9, 512).reshape(64, 4, 2),
        "rope_embed.periods": torch.linspace(1, 100, 16),
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": torch.linspace(-2, 2, 64).reshape(2, 32),
    },
}


@pytest.mark.parametrize("what", BESIDE)
def test_counts_and_statistics_are_no_parameters(tmp_path: Path, what: str) -> None:
    make = Maker(11)
    points = make.walk()
    run = analysed(tmp_path, [{**p, **BESIDE[what](make, i)} for i, p in enumerate(points)])
    assert_right(run, points)
    assert not said(run)


def test_what_moves_far_more_than_its_size_explains_is_doubted(tmp_path: Path) -> None:
    make = Maker(12)
    points = make.walk()
    full = [{**p, "val_acc.tp": torch.full((6,), 50.0 * i)} for i, p in enumerate(points)]
    run = analysed(tmp_path, full)
    assert_right(run, full)
    assert said(run) == {"suspect-tensors"}
    found = of_kind(run, "suspect-tensors")
    assert set(found.details["tensors"]) == {"val_acc.tp"}
    assert "of all movement" in found.message
    assert found.message.endswith("--exclude val_acc.tp")


@pytest.mark.parametrize("name", ["logit_scale", "blocks.0.A_log", "norm.weight", "cls_token", "head.bias"])
def test_parameters_that_are_few_and_large_are_not_doubted(tmp_path: Path, name: str) -> None:
    points = Maker(13).walk()
    full = [{**p, name: torch.full((6,), 50.0 * i)} for i, p in enumerate(points)]
    run = analysed(tmp_path, full)
    assert_right(run, full)
    assert not said(run)


@pytest.mark.parametrize(
    "name",
    [
        "quantizer.embedding",
        "codebook.weight",
        "steps.0.weight",
        "N",
        "mean",
        "experts.bias",
        "decoder.center",
        "ema_weight",
    ],
)
def test_names_that_are_only_like_them_are_parameters(name: str) -> None:
    assert buffer_reason(None, name, (4, 4), {"fc.weight", name}) is None
