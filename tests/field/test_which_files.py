"""Which files: of several models in one place the one that trains is read, the others are named, and what is a question is asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from listed_runs import State, analyzed, averaged, findings, right, save, walk, write_json

from trajsvc.errors import NotFound, Refused

Points = list[State]
Saved = Callable[[State, State, int], dict[str, Any]]

IN_ONE_FILE: dict[str, Saved] = {
    "student, teacher": lambda p, e, i: {
        "student": OrderedDict((f"module.{k}", v) for k, v in p.items()), "teacher": e, "epoch": 20 * i,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "dino_loss": {"center": torch.zeros(1, 8)},
    },
    "params, params_ema": lambda p, e, i: {"params": p, "params_ema": e},
    "model, ema": lambda p, e, i: {"ema": e, "model": p, "step": i},
    "state_dict, state_dict_ema": lambda p, e, i: {"state_dict_ema": e, "state_dict": p, "epoch": i, "optimizer": {"state": {}}},
    "net, target": lambda p, e, i: {"target_net": e, "online_net": p},
    "generator with its average": lambda p, e, i: {"g_ema": e, "g": p, "g_optim": {"state": {0: {"step": i}}}},
    "both under one key": lambda p, e, i: {"model": {"ema": e, "model": p}, "step": i},
}  # fmt: skip


@pytest.mark.parametrize("name", IN_ONE_FILE)
def test_the_model_is_read_and_not_what_follows_it(name: str, tmp_path: Path) -> None:
    points = walk(5)
    followers = averaged(points)
    for i, (point, follower) in enumerate(zip(points, followers, strict=True)):
        save(tmp_path / "run" / f"checkpoint{20 * i:04d}.pth", IN_ONE_FILE[name](point, follower, i))
    run = analyzed(tmp_path / "run")
    right(run, points)
    (other,) = findings(run, "other-states")
    assert len(other.details["others"]) == 1
    assert "--state" in other.message
    assert other.steps == tuple(run.steps.tolist()), "one finding for all checkpoints"
    follower_run = analyzed(tmp_path / "run", state=other.details["others"][0], replace=True)
    right(follower_run, followers)


def test_an_average_alone_is_what_there_is(tmp_path: Path) -> None:
    points = walk(4)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"step{i}.pt", {"ema": point, "step": i})
    right(analyzed(tmp_path / "run"), points)


@pytest.mark.parametrize(
    "names",
    [("generator", "discriminator"), ("g", "d"), ("encoder", "decoder"), ("actor", "critic"), ("policy", "value")],
)
@pytest.mark.parametrize("place", ["keys", "files", "folders", "series"])
def test_two_networks_are_a_question(tmp_path: Path, names: tuple[str, str], place: str) -> None:
    both = [walk(3, seed=seed) for seed in (0, 1)]
    for i, states in enumerate(zip(*both, strict=True)):
        named = dict(zip(names, states, strict=True))
        if place == "keys":
            save(tmp_path / "run" / f"step{i}.pt", named)
        for name, point in named.items():
            if place == "files":
                save(tmp_path / "run" / f"step{i}" / f"{name}.pt", point)
            elif place == "folders":
                save(tmp_path / "run" / f"step{i}" / name / "model.safetensors", point)
            elif place == "series":
                save(tmp_path / "run" / f"{name}_step{i}.pt", point)
    with pytest.raises(Refused) as caught:
        analyzed(tmp_path / "run")
    for name in names:
        assert f"--state {name}" in caught.value.hint
    for name, points in zip(names, both, strict=True):
        right(analyzed(tmp_path / "run", state=name, replace=True), points)
    with pytest.raises(NotFound) as missing:
        analyzed(tmp_path / "run", state="judge", replace=True)
    assert missing.value.kind == "state-not-found"
    assert names[0] in missing.value.hint


SERIES = [
    ("model{:06d}.pt", "ema_0.9999_{:06d}.pt", "opt{:06d}.pt"),
    ("net_{}.pth", "net_{}_ema.pth", "optimizer_{}.pth"),
    ("model_step{}.pt", "swa_model_step{}.pt", "scheduler_step{}.pt"),
    ("step-{}.pt", "step-{}-teacher.pt", "step-{}-optim.pt"),
]


@pytest.mark.parametrize(("model", "average", "optimizer"), SERIES, ids=[s[0] for s in SERIES])
def test_a_series_of_averages_beside_that_of_the_model(
    tmp_path: Path, model: str, average: str, optimizer: str
) -> None:
    points = walk(5)
    followers = averaged(points)
    for i, (point, follower) in enumerate(zip(points, followers, strict=True)):
        save(tmp_path / "run" / model.format(10000 * i), point)
        save(tmp_path / "run" / average.format(10000 * i), follower)
        save(
            tmp_path / "run" / optimizer.format(10000 * i),
            {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
        )
    run = analyzed(tmp_path / "run")
    right(run, points)
    (other,) = findings(run, "other-states")
    right(analyzed(tmp_path / "run", state=other.details["others"][0], replace=True), followers)


@pytest.mark.parametrize("names", [("seed-1", "seed-2"), ("runA", "runB")])
def test_two_runs_in_one_folder_are_a_question(tmp_path: Path, names: tuple[str, str]) -> None:
    both = [walk(3, seed=seed) for seed in (0, 1)]
    for name, points in zip(names, both, strict=True):
        for i, point in enumerate(points):
            save(tmp_path / "run" / f"step{100 * (i + 1)}-{name}" / "model.safetensors", point)
    with pytest.raises(Refused, match="series") as caught:
        analyzed(tmp_path / "run")
    assert "--state" in caught.value.hint
    for name, points in zip(names, both, strict=True):
        right(analyzed(tmp_path / "run", state=name, replace=True), points)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_folders_within_a_checkpoint(tmp_path: Path, kind: str) -> None:
    points = walk(5)
    for i, point in enumerate(points):
        for name, state in (("unet", point), ("unet_ema", OrderedDict((k, 0.9 * v) for k, v in point.items()))):
            place = tmp_path / "run" / f"checkpoint-{500 * (i + 1)}" / name
            save(place / f"diffusion_pytorch_model.{kind}", state)
            write_json(place / "config.json", {"_class_name": "UNet2DConditionModel"})
        for name in ("optimizer.bin", "scheduler.bin"):
            save(place.parent / name, {})
        (place.parent / "random_states_0.pkl").write_bytes(b"")
    run = analyzed(tmp_path / "run")
    right(run, points)
    (other,) = findings(run, "other-states")
    assert other.details["others"] == ["unet_ema"]
    right(analyzed(f"{tmp_path}/run/checkpoint-*/unet", replace=True), points)


def test_a_pipeline_at_every_checkpoint_is_a_question(tmp_path: Path) -> None:
    points = walk(3)
    for i, point in enumerate(points):
        for name in ("unet", "vae", "text_encoder"):
            save(tmp_path / "run" / f"checkpoint-{i}" / name / "model.safetensors", point)
    with pytest.raises(Refused) as caught:
        analyzed(tmp_path / "run")
    assert "--state unet" in caught.value.hint
    right(analyzed(tmp_path / "run", state="unet"), points)


def test_a_checkpoint_with_the_average_alone_is_left_out(tmp_path: Path) -> None:
    points = walk(4)
    for i, point in enumerate(points):
        for name in ("unet", "unet_ema") if i else ("unet_ema",):
            save(tmp_path / "run" / f"checkpoint-{i}" / name / "model.safetensors", point)
    run = analyzed(tmp_path / "run")
    right(run, points[1:])
    assert findings(run, "missing-weights")


IN_ONE_RUN: dict[str, Callable[[Points], Any]] = {
    "a list and its epochs": lambda p: {
        "model": p[-1], "checkpoints": p, "checkpoint_epochs": list(range(0, 600, 100)), "train_losses": [3.0, 2.0],
    },
    "a list of whole checkpoints": lambda p: {
        "checkpoints": [{"model": s, "epoch": 100 * i, "optimizer": {"state": {}}} for i, s in enumerate(p)],
    },
    "a dictionary by epoch": lambda p: {"epochs": {100 * i: s for i, s in enumerate(p)}},
    "a dictionary by names": lambda p: {f"epoch_{100 * i}": s for i, s in enumerate(p)},
    "nothing but a dictionary": lambda p: {100 * i: s for i, s in enumerate(p)},
}  # fmt: skip


@pytest.mark.parametrize("name", IN_ONE_RUN)
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_whole_run_in_one_file(tmp_path: Path, name: str, as_folder: bool) -> None:
    points = walk(6)
    path = save(tmp_path / "run" / "grokking_demo.pth", IN_ONE_RUN[name](points))
    run = analyzed(path.parent if as_folder else path)
    assert run.steps.tolist() == [0, 100, 200, 300, 400, 500]
    right(run, points)
    assert findings(run, "several-checkpoints")
    assert not findings(run, "identical")


def test_a_list_without_numbers_is_counted(tmp_path: Path) -> None:
    points = walk(4)
    run = analyzed(save(tmp_path / "run" / "history.pt", points))
    assert run.steps.tolist() == [0, 1, 2, 3]
    assert run.attributes["axis"] == "index"
    right(run, points)


def test_the_model_beside_a_list_can_be_chosen(tmp_path: Path) -> None:
    points = walk(3)
    path = save(tmp_path / "run" / "a.pth", {"model": points[-1], "checkpoints": points})
    assert len(analyzed(path, state="model").steps) == 1


def test_an_ensemble_is_no_run(tmp_path: Path) -> None:
    """Under a name that says nothing of time, and with nothing beside it that counts, a list may be anything."""
    with pytest.raises(Refused) as caught:
        analyzed(save(tmp_path / "run" / "a.pth", {"ensemble": walk(3)}))
    assert "ensemble" in str(caught.value)


def test_weights_that_are_not_read_are_a_warning(tmp_path: Path) -> None:
    points = walk(3)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"checkpoint-{i}" / "model.safetensors", point)
    save(tmp_path / "run" / "model.safetensors", points[-1])
    save(tmp_path / "run" / "merged" / "model.safetensors", points[-1])
    for i in (1, 2):
        save(tmp_path / "run" / "other" / f"step{i}" / "model.safetensors", points[-1])
    run = analyzed(tmp_path / "run")
    right(run, points)
    (unread,) = findings(run, "unread-weights")
    assert unread.severity == "warning"
    assert [Path(p.split(" (")[0]).relative_to(tmp_path / "run").parts[0] for p in unread.details["paths"]] == [
        "model.safetensors", "merged", "other",
    ]  # fmt: skip


def test_copies_by_their_names_are_no_warning(tmp_path: Path) -> None:
    points = walk(3)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"step{i}.pt", {"model": point, "step": i})
    save(tmp_path / "run" / "last.pt", {"model": points[-1], "step": 2})
    save(tmp_path / "run" / "best.pt", points[1])
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert not [f for f in run.findings if f.severity != "info"]


def test_adapters_are_read(tmp_path: Path) -> None:
    shapes = {
        f"base_model.model.model.layers.{i}.self_attn.{x}_proj.lora_{ab}.weight": (4, 16) if ab == "A" else (16, 4)
        for i in (0, 1)
        for x in "qv"
        for ab in "AB"
    }
    points = walk(5, shapes)
    for i, point in enumerate(points):
        place = tmp_path / "run" / f"checkpoint-{50 * i}"
        write_json(place / "adapter_config.json", {"peft_type": "LORA", "r": 4})
        write_json(place / "trainer_state.json", {"global_step": 50 * i, "log_history": []})
        save(place / ("adapter_model.bin" if i < 2 else "adapter_model.safetensors"), point)
        for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"):
            save(place / name, {})
    right(analyzed(tmp_path / "run"), points)


def test_mmengine_swaps_the_model_and_its_average(tmp_path: Path) -> None:
    points = walk(4)
    followers = averaged(points)
    for i, (point, follower) in enumerate(zip(points, followers, strict=True)):
        swapped = OrderedDict((f"module.{k}", v) for k, v in point.items()) | {"steps": torch.tensor(100 * i)}
        content = {
            "meta": {"epoch": i + 1, "iter": 100 * i},
            "state_dict": follower,
            "message_hub": {},
            "ema_state_dict": swapped,
        }
        save(tmp_path / "run" / f"epoch_{i + 1}.pth", content)
    run = analyzed(tmp_path / "run")
    right(run, points)
    (other,) = findings(run, "other-states")
    assert other.severity == "info"
    assert "MMEngine" in other.message
    right(analyzed(tmp_path / "run", state="state_dict", replace=True), followers)


def test_other_files_with_these_keys_are_not_swapped(tmp_path: Path) -> None:
    points = walk(4)
    for i, (point, follower) in enumerate(zip(points, averaged(points), strict=True)):
        save(tmp_path / "run" / f"epoch_{i + 1}.pth", {"meta": {}, "state_dict": point, "ema_state_dict": follower})
    right(analyzed(tmp_path / "run"), points)


def test_a_file_that_says_it_is_no_average_is_the_model(tmp_path: Path) -> None:
    points = walk(4)
    for i, (point, follower) in enumerate(zip(points, averaged(points), strict=True)):
        folder = tmp_path / "run" / f"checkpoint-{100 * i}"
        save(folder / "diffusion_pytorch_model.safetensors", follower)
        save(folder / "diffusion_pytorch_model.non_ema.safetensors", point)
    run = analyzed(tmp_path / "run")
    right(run, points)
    (other,) = findings(run, "other-states")
    assert other.details["others"] == ["diffusion_pytorch_model"]


def test_weights_in_a_folder_of_a_checkpoint_are_named(tmp_path: Path) -> None:
    points, heads = walk(3), walk(3, {"linear.weight": (4, 4)})
    for i, (point, head) in enumerate(zip(points, heads, strict=True)):
        save(tmp_path / "run" / f"checkpoint-{100 * i}" / "model.safetensors", point)
        save(tmp_path / "run" / f"checkpoint-{100 * i}" / "2_Dense" / "model.safetensors", head)
    run = analyzed(tmp_path / "run")
    right(run, points)
    (other,) = findings(run, "other-states")
    assert (other.severity, other.details["others"]) == ("warning", ["2_Dense"])
    right(analyzed(tmp_path / "run", state="2_Dense", replace=True), heads)


def test_runs_further_down_are_named(tmp_path: Path) -> None:
    for version in (0, 1):
        for i, point in enumerate(walk(2)):
            save(tmp_path / "run" / "lightning_logs" / f"version_{version}" / "checkpoints" / f"step={i}.ckpt", point)
    with pytest.raises(NotFound) as caught:
        analyzed(tmp_path / "run")
    assert "lightning_logs/version_1/checkpoints" in caught.value.hint


def test_a_copy_under_a_name_that_was_taken_is_no_warning(tmp_path: Path) -> None:
    points = walk(3)
    for i, point in enumerate(points):
        save(
            tmp_path / "run" / f"epoch={i}-step={100 * (i + 1)}.ckpt",
            {"state_dict": point, "global_step": 100 * (i + 1)},
        )
    for name in ("last", "last-v1"):
        save(tmp_path / "run" / f"{name}.ckpt", {"state_dict": points[-1], "global_step": 300})
    run = analyzed(tmp_path / "run")
    right(run, points)
    assert not [f for f in run.findings if f.severity != "info"]


def test_what_lies_beside_in_series_of_its_own_is_no_model(tmp_path: Path) -> None:
    points = walk(3)
    for i, point in enumerate(points):
        save(tmp_path / "run" / f"epoch_{i + 1}.pt", {"state_dict": point, "epoch": i + 1})
        save(tmp_path / "run" / f"optimizer_{i + 1}.pt", {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}})
        save(tmp_path / "run" / f"stats_{i + 1}.pt", {"loss": 3.0})
    right(analyzed(tmp_path / "run"), points)


def test_shards_beside_a_whole_file_are_named(tmp_path: Path) -> None:
    points = walk(3)
    for i, point in enumerate(points):
        folder, names = tmp_path / "run" / f"checkpoint-{100 * i}", list(point)
        save(folder / "model.safetensors", point)
        for k, part in enumerate((names[:2], names[2:]), 1):
            save(folder / f"model-0000{k}-of-00002.safetensors", {n: point[n] + 1 for n in part})
    run = analyzed(tmp_path / "run")
    right(run, points)
    found = findings(run, "ignored-file")
    assert len(found) == 3
    assert "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors passed over" in found[0].message
