"""Default name of a run: the folder's name, with its parent's if the folder's name is one that every run has."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

_EVERYWHERE: Final = re.compile(
    r"(?:check[-_]?points?|ckpts?|chkpts?|snapshots?|outputs?|out|results?|save[sd]?|saved[-_]models?|models?|pytorch_model|weights"
    r"|states?|logs?|train(?:ing)?|pretrain(?:ing)?|finetun(?:e|ing)|sft|dpo|grpo|ppo|lightning_logs|tensorboard|tb_logs|wandb|files|artifacts?"
    r"|version[-_]?\d+|default|latest|last|best|final|actor|critic|policy|unet|transformer|hf|huggingface|adapters?|lora)",
    re.IGNORECASE,
)
"""Names of folders and files that training scripts give in every run alike."""
_PARENTS: Final = 4


def default_name(path: str) -> str:
    """Return the name of the run in a folder or file: ``runs/a/checkpoints`` gives ``a-checkpoints``, ``runs/a`` gives
    ``a``.
    """
    parts = [p for p in PurePosixPath(path).parts if p not in ("/", ".", "..")]
    if not parts:
        return "run"
    count = 1
    while count < min(len(parts), _PARENTS) and _EVERYWHERE.fullmatch(parts[-count]):
        count += 1
    return "-".join(parts[-count:])
