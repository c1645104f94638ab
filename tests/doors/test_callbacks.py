"""Callbacks of trainers: checkpoints that a real trainer saves are in the store when it has ended, and the trainer does not wait."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file

import trajsvc
from trajsvc.errors import NotFound
from trajsvc.integrations.feed import LOG, LOWEST, CheckpointFeed

PATIENT = 600


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENT
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def save(folder: Path, step: int) -> None:
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    generator = torch.Generator().manual_seed(step)
    save_file({"layer.weight": torch.randn(4, 6, generator=generator)}, place / "model.safetensors")


def stored_steps(store: Path) -> list[int]:
    """The steps of the run so far; its folder is there before anything is committed."""
    try:
        return trajsvc.open(store, "run").steps.tolist()
    except NotFound:
        return []


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.slow
def test_a_feed_reads_while_training_goes_on_and_the_last_checkpoint_after(tmp_path: Path) -> None:
    from trajsvc.integrations.transformers_callback import TrajsvcCallback

    folder, store = tmp_path / "run", tmp_path / "store"
    callback = TrajsvcCallback(store=store, interval=0.2, settle=0.1)
    arguments = SimpleNamespace(output_dir=str(folder), save_total_limit=None)
    state, other = SimpleNamespace(is_world_process_zero=True), SimpleNamespace(is_world_process_zero=False)
    save(folder, 10)
    callback.on_save(arguments, other, None)
    assert callback.feed is None
    callback.on_save(arguments, state, None)
    assert callback.feed is not None
    process = callback.feed.process
    assert process is not None
    save(folder, 20)
    callback.on_save(arguments, state, None)
    assert callback.feed.process is process
    until(lambda: stored_steps(store) == [10, 20])
    below = psutil.Process(process.pid)
    assert {p.nice() for p in (below, *below.children(recursive=True))} == {LOWEST}
    save(folder, 30)
    callback.on_train_end(arguments, state, None)
    assert process.wait(PATIENT) == 0, (folder / LOG).read_text()
    assert trajsvc.open(store, "run").steps.tolist() == [10, 20, 30]


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("interrupts", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def test_a_trainer_that_is_killed_leaves_no_process(tmp_path: Path, interrupts: Any) -> None:
    """A shell has a trainer in its background ignore ^C, and so do the processes that the trainer starts."""
    save(tmp_path / "run", 1)
    save(tmp_path / "run", 2)
    feed = CheckpointFeed(tmp_path / "run", store=tmp_path / "store", interval=3600, settle=3600)
    before = signal.signal(signal.SIGINT, interrupts)
    try:
        feed.saved()
    finally:
        signal.signal(signal.SIGINT, before)
    assert feed.process is not None
    assert feed.process.stdin is not None
    feed.process.stdin.close()  # as the end of the trainer's process does
    assert feed.process.wait(PATIENT) == 0
    assert trajsvc.open(tmp_path / "store", "run").steps.tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lightning") is None, reason="lightning is not installed")
@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_checkpoints_of_lightning_are_in_the_store_when_the_training_has_ended(tmp_path: Path) -> None:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.utils.data import DataLoader

    from trajsvc.integrations.lightning_callback import TrajsvcCallback

    class Small(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 3)

        def training_step(self, batch: Any, index: int) -> Any:
            return self.first(batch).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = DataLoader(torch.randn(40, 4), batch_size=4)
    keep = ModelCheckpoint(tmp_path / "run", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    callback = TrajsvcCallback(store=tmp_path / "store", interval=0.2, settle=0.1)
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_steps=6, callbacks=[keep, callback], logger=False, default_root_dir=tmp_path, **options)
    model = Small()
    trainer.fit(model, data)
    assert callback.feed is not None
    assert callback.feed.process is not None
    assert callback.feed.process.wait(PATIENT) == 0, (tmp_path / "run" / LOG).read_text()
    run = trajsvc.open(tmp_path / "store", "run")
    assert run.steps.tolist() == [2, 4, 6]
    last = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    assert float(run.norm()[-1]) == pytest.approx(np.linalg.norm(last), rel=1e-6)
