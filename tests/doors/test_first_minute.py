"""What somebody sees who has just installed trajsvc: within 80 columns, and with what to run next."""

from __future__ import annotations

from pathlib import Path

import in_process
import pytest
from typer.testing import CliRunner

from trajsvc.cli.main import make_app


def test_without_a_command_the_first_ones_are_named() -> None:
    done = CliRunner().invoke(make_app(None), [], prog_name="trajsvc")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 24
    for command in ("demo", "analyze FOLDER", "show RUN", "serve"):
        assert f"trajsvc {command}" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "error", "hint"),
    [
        (("analyze", "xyz"), 4, "no folder or file xyz", "This folder has: checkpoints, none"),
        (("analyze", "checkpoint"), 4, "no folder or file checkpoint", "Did you mean checkpoints?"),
        (("analyze", "none"), 4, "none is empty", "trajsvc demo"),
        (("plan", "none"), 4, "none is empty", "trajsvc demo"),
        (("analyze", "checkpoints"), 4, "there are no checkpoints in", "step500"),
        (("analyze", "checkpoints/notes.txt"), 4, "notes.txt is no file of checkpoints", "Name the folder"),
        (("analyze", "hf:/org/name"), 4, "no folder or file hf:/org/name", "is written hf://org/name."),
        (("analyze", "hf//org/name"), 4, "no folder or file hf//org/name", "is written hf://org/name."),
        (("plan", "huggingface.co/org/name"), 4, "no folder or file", "is written hf://org/name."),
        (("plan", "org/name"), 4, "no folder or file", "org does not exist or is empty. A repository on the Hub"),
        (("show", "demo"), 4, "there is no store trajsvc-store", "`trajsvc analyze FOLDER`"),
        (("ls",), 4, "there is no store trajsvc-store", "`trajsvc demo`"),
        (("ls", "--store", "other"), 4, "there is no store other", "`trajsvc demo --store other`"),
        (("analyse", "none"), 2, "No such command 'analyse'", "'analyze'"),
        (("sho", "demo"), 2, "No such command 'sho'", "'show'"),
    ],
)
def test_a_first_mistake_is_answered_with_what_to_do(
    words: tuple[str, ...], code: int, error: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    environment = {"TRAJSVC_STORE": None, "TRAJSVC_CONFIG": None, "NO_COLOR": "1", "COLUMNS": "100"}
    done = in_process.trajsvc(*words, cwd=tmp_path, environment=environment)
    assert done.returncode == code
    assert error in done.stderr
    assert hint in done.stderr
