"""``trajsvc losses``, its answer over HTTP and in Python: what was logged at the checkpoints, beside a measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import trajsvc
from trajsvc.cli.main import make_app
from trajsvc.errors import NotFound, UsageError
from trajsvc.results.losses import losses

EXAMPLE = Path(__file__).parents[2] / "examples" / "pythia-nano"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged")
    trajsvc.analyze(EXAMPLE, store=folder)
    return folder


def ask(store: Path, *words: str) -> str:
    done = CliRunner().invoke(make_app("losses"), ["losses", "pythia-nano", "--store", str(store), *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_values_at_checkpoints_are_those_of_the_log(store: Path) -> None:
    answer = json.loads(ask(store, "--format", "json", "--beside", "update_norm"))
    log = {e["step"]: e for e in map(json.loads, (EXAMPLE / "train_log.jsonl").read_text().splitlines())}
    assert set(answer["quantities"]) == {"train_loss", "val_loss"}
    for name, found in answer["quantities"].items():
        for step, value, known in zip(answer["steps"], found["values"], found["logged"], strict=True):
            assert known == (name in log.get(step, {}))
            if known:
                assert value == log[step][name]
    run = trajsvc.open(store, "pythia-nano")
    update = run.update_norm().values
    assert answer["measure"] == [None, *update.tolist()]
    at_once = next(r for r in answer["correlations"]["val_loss"] if r["lag"] == 0)
    assert at_once["pairs"] == len(update)
    np.testing.assert_allclose(
        at_once["value"], np.corrcoef(update, answer["quantities"]["val_loss"]["values"][1:])[0, 1], rtol=1e-12
    )


def test_tables_and_figures(store: Path, tmp_path: Path) -> None:
    shown = ask(store, "--names", "train_loss", "--beside", "norm")
    assert "6.253" in shown
    assert "lag" in shown
    rows = ask(store, "--format", "csv").splitlines()
    assert rows[0] == "step,train_loss,train_loss logged,val_loss,val_loss logged"
    assert len(rows) == 15
    ask(store, "--beside", "update_norm", "-o", str(tmp_path / "losses.png"))
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_refused(store: Path) -> None:
    run = trajsvc.open(store, "pythia-nano")
    for arguments, kind, error in (
        ({"names": ["reward"]}, "quantity-not-found", NotFound),
        ({"beside": "mds"}, "no-curve", UsageError),
        ({"beside": "mu_lag"}, "no-curve", UsageError),
        ({"beside": "nothing"}, "measure-not-found", NotFound),
    ):
        with pytest.raises(error) as caught:
            losses(run, **arguments)  # type: ignore[arg-type]
        assert caught.value.kind == kind


def test_a_run_without_a_log(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    for step in (1, 2):
        save_file({"w.weight": np.full((3, 3), step, np.float32)}, tmp_path / f"step{step}.safetensors")
    run = trajsvc.analyze(tmp_path, store=tmp_path / "store", name="plain")
    assert run.logged == []
    with pytest.raises(NotFound, match="no log of training"):
        run.losses()
    digest = run.stored.digest
    assert trajsvc.analyze(tmp_path, store=tmp_path / "store", name="plain").stored.digest == digest
    (tmp_path / "train_log.jsonl").write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n')
    again = trajsvc.analyze(tmp_path, store=tmp_path / "store", name="plain")
    assert again.losses()["loss"].values.tolist() == [3.0, 2.0]
    np.testing.assert_array_equal(again.norm(), run.norm())


def test_a_dataset_by_step(store: Path) -> None:
    found = trajsvc.open(store, "pythia-nano").losses(["val_loss"], steps="0..64")
    assert found.sizes == {"step": 5}
    assert found["val_loss"].sel(step=1).item() == 6.25377
    assert found["val_loss_logged"].dtype == bool
