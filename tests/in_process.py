"""The command line in this process: what it prints and its exit code, without a Python that starts and imports for each command.

For tests of what a command does. Those of how it starts, is interrupted, or ends are of processes: ``tests/doors/test_cli_process.py``.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path


def trajsvc(
    *words: str, cwd: Path | None = None, environment: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``trajsvc WORDS``, in the folder ``cwd``; variables of ``environment`` are set, or unset where they are None.

    Raises what is no error of the command line's: a process would show its traceback.
    """
    from typer.testing import CliRunner

    from trajsvc.cli.main import make_app

    with contextlib.chdir(cwd or Path.cwd()):
        done = CliRunner(env=dict(environment or {})).invoke(make_app(words[0]), list(words), prog_name="trajsvc")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
