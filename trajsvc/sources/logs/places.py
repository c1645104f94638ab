"""Where logs of training lie beside checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from trajsvc.sources.base import CheckpointRef
from trajsvc.sources.files import Region

TRAINER_STATE: Final = "trainer_state.json"
LOGS: Final = ("train_log.jsonl", "trainer_log.jsonl", "log.jsonl", "metrics.jsonl")
TABLES: Final = ("metrics.csv", "train_log.csv", "log.csv", "progress.csv", "history.csv", "wandb-history.jsonl")
_EXPORT: Final = re.compile(r"wandb[\w .-]*\.(csv|jsonl)$", re.IGNORECASE)
"""what the export of a chart or of a run's history is called"""
_EVENTS: Final = "events.out.tfevents."
_FOLDERS: Final = ("runs", "logs", "lightning_logs", "tb_logs", "tensorboard", "csv_logs")
MOST_FILES: Final = 8
"""files of a run that are read as logs"""


class Readable(Protocol):
    """Files that may be there."""

    def exists(self, path: str) -> bool: ...
    def region(self, path: str) -> Region: ...

    def names(self, folder: str) -> list[str]:
        """Return the names of what lies in ``folder``, in order; nothing where it cannot be listed."""
        ...


def logs_of(files: Readable, root: str | None, checkpoints: Sequence[CheckpointRef]) -> list[str]:
    """Return the paths of the logs of a run, those that say more of it first. ``root`` is the run's folder.

    They are ``trainer_state.json`` of the last checkpoint (Hugging Face Trainer), JSON lines and tables of usual names and
    exports of Weights & Biases in the run's folder, and TensorBoard's event files there and in the folders that loggers
    make, two levels deep.
    """
    if not checkpoints:
        return []
    last = checkpoints[-1].files[0].path.rpartition("/")[0]
    found = [path for path in (below(last, TRAINER_STATE), *_named(root)) if files.exists(path)]
    if root is not None:
        folders = [root]
        for name in set(_FOLDERS) & set(files.names(root)):
            folder = below(root, name)
            folders += [folder, *(below(folder, inner) for inner in files.names(folder)[:MOST_FILES])]
        for folder in folders:
            found += [below(folder, name) for name in files.names(folder) if _is_log(name, folder == root)]
    return list(dict.fromkeys(found))[:MOST_FILES]


def _named(root: str | None) -> list[str]:
    return [] if root is None else [below(root, name) for name in (*LOGS, *TABLES)]


def _is_log(name: str, at_root: bool) -> bool:
    return name.startswith(_EVENTS) or (_EXPORT.match(name) is not None if at_root else name in TABLES)


def below(folder: str, name: str) -> str:
    """Return the path of what is called ``name`` in ``folder``."""
    return f"{folder}/{name}" if folder else name
