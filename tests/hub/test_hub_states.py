"""Averages and copies beside the model in a revision, the state that is asked for, steps by a pattern, and what an audit finds of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_repos import Repo, Revision
from hub_runs import safetensors, state
from hub_server import HubServer

import trajsvc
from storage_schema.models.results import Finding
from trajsvc.errors import TrajsvcError
from trajsvc.results.run import Run

Hubs = Callable[..., HubServer]
Values = Mapping[str, np.ndarray]
STEPS = (0, 10, 20, 30)


def average(step: int) -> dict[str, np.ndarray]:
    return {n: (v + state(0)[n]) / 2 for n, v in state(step).items()}


def torch_file(**states: Values) -> bytes:
    out = io.BytesIO()
    torch.save({k: {n: torch.from_numpy(v) for n, v in s.items()} for k, s in states.items()}, out)
    return out.getvalue()


Files = Callable[[int], dict[str, bytes]]
BESIDE: dict[str, tuple[Files, str]] = {
    "folder": (
        lambda s: {"model.safetensors": safetensors(state(s)), "ema/model.safetensors": safetensors(average(s))},
        "ema",
    ),
    "file": (
        lambda s: {"model.safetensors": safetensors(state(s)), "model_ema.safetensors": safetensors(average(s))},
        "ema",
    ),
    "averaged": (
        lambda s: {"model.safetensors": safetensors(state(s)), "model_averaged.safetensors": safetensors(average(s))},
        "model_averaged",
    ),
    "pipeline": (
        lambda s: {
            "unet/model.safetensors": safetensors(state(s)),
            "unet_ema/model.safetensors": safetensors(average(s)),
        },
        "unet_ema",
    ),
    "keys": (lambda s: {"pytorch_model.bin": torch_file(model=state(s), ema=average(s))}, "ema"),
}


def served(hubs: Hubs, files: Files, names: str = "step{}") -> None:
    revisions = {names.format(s): Revision(files(s)) for s in STEPS}
    hubs(Repo("local/states", {"main": revisions[names.format(30)], **revisions}))


def analysed(tmp_path: Path, name: str = "run", **options: object) -> Run:
    run = trajsvc.analyze("hf://local/states", store=tmp_path, name=name, copy=False, **options)  # type: ignore[arg-type]
    assert isinstance(run, Run)
    return run


def assert_values(run: Run, points: list[dict[str, np.ndarray]]) -> None:
    x = np.stack([np.concatenate([v.ravel() for v in p.values()]) for p in points]).astype(np.float64)
    assert run.groups()["network"].parameters == x.shape[1]
    path = np.linalg.norm(np.diff(x, axis=0), axis=1).sum()
    assert abs(float(run.measure("path_length")) / path - 1) < 1e-9


def of_kind(run: Run, kind: str) -> list[Finding]:
    return [f for f in run.findings if f.kind == kind]


@pytest.mark.parametrize("way", BESIDE)
def test_the_model_is_read_and_its_average_named(way: str, hubs: Hubs, tmp_path: Path) -> None:
    files, name = BESIDE[way]
    served(hubs, files)
    run = analysed(tmp_path)
    assert_values(run, [state(s) for s in STEPS])
    (found,) = of_kind(run, "other-states")
    assert found.severity == "info"
    assert name in found.message
    assert not [f for f in run.findings if f.severity != "info"]


@pytest.mark.parametrize("way", BESIDE)
def test_a_state_is_chosen_by_its_name(way: str, hubs: Hubs, tmp_path: Path) -> None:
    files, name = BESIDE[way]
    served(hubs, files)
    assert_values(analysed(tmp_path, state=name), [average(s) for s in STEPS])
    with pytest.raises(TrajsvcError) as caught:
        analysed(tmp_path, "other", state="critic")
    assert caught.value.kind == "state-not-found"


def test_a_revision_that_holds_the_average_alone_is_left_out(hubs: Hubs, tmp_path: Path) -> None:
    whole, _ = BESIDE["pipeline"]
    served(hubs, lambda s: {n: v for n, v in whole(s).items() if s != 20 or "ema" in n})
    run = analysed(tmp_path)
    assert list(run.steps) == [0, 10, 30]
    assert of_kind(run, "missing-weights")[0].steps == (20,)


def test_the_same_weights_in_two_formats_are_read_once(hubs: Hubs, tmp_path: Path) -> None:
    served(
        hubs, lambda s: {"model.safetensors": safetensors(state(s)), "pytorch_model.bin": torch_file(model=state(s))}
    )
    run = analysed(tmp_path)
    assert_values(run, [state(s) for s in STEPS])
    assert not [f for f in run.findings if f.severity != "info"]


def test_a_pattern_says_where_the_step_is(hubs: Hubs, tmp_path: Path) -> None:
    served(hubs, lambda s: {"model.safetensors": safetensors(state(s))}, "run-at{}k-x")
    run = analysed(tmp_path, step_pattern=r"run-at(?P<step>\d+k)-x")
    assert list(run.steps) == [0, 10_000, 20_000, 30_000]
    assert_values(run, [state(s) for s in STEPS])


def test_an_audit_names_types_that_change_and_files_that_are_gone(hubs: Hubs, tmp_path: Path) -> None:
    def files(step: int) -> dict[str, bytes]:
        values = {n: v.astype(np.float16) if step == 30 else v for n, v in state(step).items()}
        shards = {n: f"model-0000{1 + (n == 'head.weight')}-of-00002.safetensors" for n in values}
        index = ", ".join(f'"{n}": "{s}"' for n, s in shards.items()).encode()
        kept = {
            s: safetensors({n: v for n, v in values.items() if shards[n] == s}) for s in sorted(set(shards.values()))
        }
        if step == 20:
            kept.popitem()
        return {"model.safetensors.index.json": b'{"metadata": {}, "weight_map": {' + index + b"}}", **kept}

    served(hubs, files)
    found = trajsvc.audit("hf://local/states", store=tmp_path)
    rows = {row.step: row for row in found.rows}
    assert rows[20].state == "unreadable"
    assert {rows[s].state for s in (0, 10, 30)} == {"whole"}
    (change,) = [f for f in found.findings if f.kind == "type-change"]
    assert change.steps == (30,)
    assert any(f.kind == "unreadable" and f.steps == (20,) for f in found.findings)
