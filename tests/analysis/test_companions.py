"""Which files lie beside the weights of an average: those of the run, and none that a link or a pipe in it leads to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trajsvc.analysis import companions as module
from trajsvc.analysis.companions import companions
from trajsvc.sources.local.source import LocalSource


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for step in (1, 2):
        (tmp_path / f"run/step{step}").mkdir(parents=True)
        save_file({"layers.0.weight": np.ones((2, 2), np.float32)}, tmp_path / f"run/step{step}/model.safetensors")
    return tmp_path / "run"


def found(run: Path) -> dict[str, bytes]:
    source = LocalSource(run)
    try:
        return companions(source, source.checkpoints()[-1])
    finally:
        source.close()


def test_files_of_the_checkpoint_come_before_those_above_it(run: Path) -> None:
    (run / "step2/config.json").write_text("{}")
    (run / "config.json").write_text("[]")
    (run / "tokenizer.json").write_text("{}")
    (run.parent / "merges.txt").write_text("above what has the tokenizer")
    (run / "step2/vocab.txt").symlink_to("../words")
    (run / "words").write_text("one")
    assert found(run) == {"config.json": b"{}", "tokenizer.json": b"{}", "vocab.txt": b"one"}


def test_links_out_of_the_run_pipes_and_folders_are_left_out(run: Path) -> None:
    secret = run.parent / "elsewhere" / "secret"
    secret.parent.mkdir()
    secret.write_text("canary")
    (run / "step2/tokenizer.json").symlink_to(secret)
    (run / "step2/generation_config.json").symlink_to("/dev/zero")
    (run / "step2/vocab.json").symlink_to("vocab.json")
    os.mkfifo(run / "step2/merges.txt")
    (run / "step2/config.json").mkdir()
    (run / "chat_template.json").symlink_to(secret)
    (run / "chat_template.jinja").symlink_to(secret.parent)
    assert found(run) == {}


def test_all_of_them_have_one_bound(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 100)
    for k in range(9):
        (run / f"step2/modeling_{k}.py").write_text("x" * 30)
    (run / "step2/tokenizer.model").write_bytes(bytes(101))
    assert list(found(run)) == ["modeling_0.py", "modeling_1.py", "modeling_2.py"]
