"""Analyse a training's checkpoints in the background while it trains, at the lowest priority.

The trainer's process does one thing at a save: the first time it starts this module as a process, later it does nothing. That
process keeps ``trajsvc watch FOLDER`` going, on one thread, until the trainer ends, however it ends: it holds the other end of a
pipe. Then it adds the last checkpoint and ends too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOG: Final = "trajsvc-watch.log"
LOWEST: Final = 19


class CheckpointFeed:
    """Feeds ``trajsvc watch`` with the checkpoints that a trainer saves in ``folder``.

    Args:
        folder: where the checkpoints are saved, a folder or a file for each.
        store, name: of the run; by default the default store and the folder's name.
        interval, settle: seconds between two looks, and that files must be unchanged.
        copy: keep the parameters in the store, for trainers that delete old checkpoints: new ones are compared with all before them.
        threads: computing threads.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        store: str | os.PathLike[str] | None = None,
        name: str | None = None,
        interval: float = 30.0,
        settle: float = 10.0,
        copy: bool = False,
        threads: int = 1,
    ) -> None:
        self.folder = Path(folder)
        self.words = [
            os.fspath(self.folder),
            "--interval",
            str(interval),
            "--settle",
            str(settle),
            "--threads",
            str(threads),
        ]
        self.words += ["--store", os.fspath(store)] if store is not None else []
        self.words += ["--name", name] if name is not None else []
        self.words += ["--copy"] if copy else []
        self.process: subprocess.Popen[bytes] | None = None

    def saved(self) -> None:
        """Start the background process at the first save; what it says goes to ``trajsvc-watch.log`` beside the checkpoints."""
        if self.process is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, *self.words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # ^C is for the trainer
            )

    def finish(self, *, wait: bool = False) -> None:
        """Say that the training has ended: the last checkpoint is added, then the process ends; ``wait`` for that."""
        if self.process is None or self.process.stdin is None:
            return
        self.process.stdin.close()
        if wait:
            self.process.wait()


def follow(words: Sequence[str]) -> int:
    """Watch until standard input ends, then look once more; return the exit code of that look."""
    os.nice(LOWEST)
    command = [sys.executable, "-m", "trajsvc", "watch", *words]
    watch = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    sys.stdin.buffer.read()
    watch.terminate()  # SIGINT, which a trainer in the background of a shell has ignored, would be lost before the command handles it
    watch.wait()
    return subprocess.call([*command, "--once", "--settle", "0"], stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(follow(sys.argv[1:]))
