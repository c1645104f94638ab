"""Stored runs made from explicit trajectories, so that every answer can be recomputed from the vectors themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from storage_schema.runs.contents import BlockTable, CheckpointTable, RunContents
from storage_schema.runs.store import RunStore

Array = NDArray[np.float64]
STEPS = [0, 1, 2, 4, 8, 16, 32, 64]
PARTS = {"q": "attention.q", "k": "attention.k", "v": "attention.v"}


@dataclass(frozen=True)
class Made:
    """A stored run and the vectors behind it."""

    name: str
    steps: list[int]
    blocks: list[tuple[str, str, str, str, str]]
    """name, tensor, part, layer, component"""
    points: list[Array]
    """(T, size) of each block"""

    def vectors(self, **wanted: str) -> Array:
        """(T, P): the columns of all blocks whose ``layer``, ``component``, ``tensor`` … are as wanted."""
        names = ("name", "tensor", "part", "layer", "component")
        chosen = [
            p
            for b, p in zip(self.blocks, self.points, strict=True)
            if wanted.items() <= dict(zip(names, b, strict=True)).items()
        ]
        return np.concatenate(chosen, axis=1)


def cosines(points: Array) -> Array:
    """cos of all pairs of rows."""
    with np.errstate(invalid="ignore"):
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit @ unit.T


def walk(steps: int, size: int, seed: int, first: float = 1.0) -> Array:
    """(steps, size): a walk whose updates keep something of the one before."""
    rng = np.random.default_rng(seed)
    updates = rng.normal(size=(steps, size))
    updates[0] *= first
    for t in range(2, steps):
        updates[t] += 0.6 * updates[t - 1]
    return np.cumsum(updates, axis=0)


def transformer_blocks(layers: int, hidden: int = 6) -> list[tuple[tuple[str, str, str, str, str], int]]:
    """Blocks of a small GPT-NeoX and their sizes."""
    out = [(("gpt_neox.embed_in.weight", "gpt_neox.embed_in.weight", "", "", "embedding"), 5 * hidden)]
    for layer in range(layers):
        at = f"gpt_neox.layers.{layer}"
        fused = f"{at}.attention.query_key_value.weight"
        out += [((f"{fused}[{part}]", fused, part, str(layer), kind), hidden * hidden) for part, kind in PARTS.items()]
        for name, kind in (
            ("attention.dense", "attention.out"),
            ("mlp.dense_h_to_4h", "mlp.in"),
            ("mlp.dense_4h_to_h", "mlp.out"),
        ):
            tensor = f"{at}.{name}.weight"
            out.append(((tensor, tensor, "", str(layer), kind), 4 * hidden))
        tensor = f"{at}.input_layernorm.bias"
        out.append(((tensor, tensor, "", str(layer), "norm"), hidden))
    return [*out, (("embed_out.weight", "embed_out.weight", "", "", "unembedding"), 5 * hidden)]


def contents(
    made: Made, *, nonfinite: dict[int, int] | None = None, rounding: float = 1e-12, **attributes: Any
) -> RunContents:
    """What a commit holds for ``made``: exact float64 Grams of its update basis."""
    count = len(made.steps)
    bases = [np.concatenate([p[:1], np.diff(p, axis=0)]) for p in made.points]
    sizes = np.array([p.shape[1] for p in made.points], dtype=np.int64)
    columns = list(zip(*made.blocks, strict=True))
    bad = np.zeros((len(made.blocks), count), dtype=np.int64)
    for index, number in (nonfinite or {}).items():
        bad[0, index] = number
    return RunContents(
        name=made.name,
        checkpoints=CheckpointTable(
            step=np.array(made.steps, dtype=np.int64),
            label=tuple(f"step{s}" for s in made.steps),
            fingerprint=tuple(f"{s:016x}" for s in made.steps),
            dtype=("float32",) * count,
            files=("[]",) * count,
        ),
        blocks=BlockTable(
            *columns, size=sizes, offset=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        ),
        gram=np.array([b @ b.T for b in bases]),
        rounding=np.full((len(made.blocks), count), rounding),
        nonfinite=bad,
        attributes={"source": f"/data/{made.name}", "architecture": "gpt-neox", "findings": [], "excluded": [],
                    "estimate": None, "updated": "2026-01-02T03:04:05+00:00", "parameters": int(sizes.sum()), **attributes},
    )  # fmt: skip


def make(name: str, blocks: list[tuple[tuple[str, str, str, str, str], int]], steps: list[int], seed: int = 0) -> Made:
    """A run with a walk for every block."""
    points = [walk(len(steps), size, seed + k) for k, (_, size) in enumerate(blocks)]
    return Made(name, steps, [b for b, _ in blocks], points)


def commit(root: Path, made: Made, **extra: Any) -> Made:
    """Store ``made``."""
    with RunStore(root).writer(made.name) as writer:
        writer.commit(contents(made, **extra))
    return made


def nano() -> Made:
    """The run ``nano``: its LayerNorm bias is zero at step 0, and does not move from step 0 to 1."""
    made = make("nano", transformer_blocks(2), STEPS)
    for block, points in zip(made.blocks, made.points, strict=True):
        if block[4] == "norm":
            points[:2] = 0.0
    return made


class Cli:
    """The command line in this process, with the store of the test."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, *arguments: str | Path, store: bool = True) -> Result:
        from trajsvc.cli.main import make_app

        given = [str(a) for a in arguments] + (["--store", str(self.store)] if store else [])
        return CliRunner(env={"COLUMNS": None, "NO_COLOR": "1"}).invoke(make_app(), given, prog_name="trajsvc")

    def json(self, *arguments: str | Path) -> Any:
        """The JSON on stdout; the command must have succeeded."""
        result = self(*arguments, "--format", "json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)
