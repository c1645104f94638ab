"""A store of a sweep: rates, two optimizers, seeds; and a run of which nothing is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from made_runs import commit, make, transformer_blocks

from storage_schema.runs.store import RunStore

STEPS: Final = [0, 1, 2, 4, 8]
SWEEP: Final[dict[str, dict[str, Any]]] = {
    f"s-{lr}-{optimizer}-{seed}": {"lr": lr, "optimizer": optimizer, "seed": seed, "run_name": f"{lr}{optimizer}{seed}"}
    for lr, optimizer, seeds in ((0.1, "adamw", 2), (0.01, "adamw", 3), (0.001, "adamw", 1), (0.1, "sgd", 1), (0.01, "sgd", 1))
    for seed in range(seeds)
}  # fmt: skip
PLAIN: Final = "plain"


def make_sweep(root: Path) -> Path:
    """Store the sweep below ``root``."""
    for k, (name, values) in enumerate(SWEEP.items()):
        commit(root, make(name, transformer_blocks(1), STEPS, seed=k))
        RunStore(root).describe(name, given=values, add=["sweep"])
    commit(root, make(PLAIN, transformer_blocks(2), STEPS, seed=99))
    return root
