"""Small runs with values that say which generation they are of."""

from __future__ import annotations

import numpy as np

from storage_schema.runs.contents import BlockTable, CheckpointTable, RowTable, RunContents


def make_contents(
    steps: int = 4, blocks: int = 3, *, name: str = "run", mark: int = 0, sizes: tuple[int, ...] = (), seed: int = 0
) -> RunContents:
    """A run whose every array and table carries ``mark``, so that a mixture of two shows."""
    rng = np.random.default_rng(seed)
    size = np.array(sizes or [10 + b for b in range(blocks)], dtype=np.int64)
    blocks = len(size)
    return RunContents(
        name=name,
        checkpoints=CheckpointTable(
            step=np.arange(steps, dtype=np.int64) * 1000 + mark,
            label=tuple(f"step{i}-{mark}" for i in range(steps)),
            fingerprint=tuple(f"{i:016x}" for i in range(steps)),
            dtype=("float16",) * steps,
            files=tuple(f'[{{"path": "a{i}", "mark": {mark}}}]' for i in range(steps)),
        ),
        blocks=BlockTable(
            name=tuple(f"h.{b}.weight[q]" for b in range(blocks)),
            tensor=tuple(f"h.{b}.weight" for b in range(blocks)),
            part=("q",) * blocks,
            layer=tuple(str(b) for b in range(blocks)),
            component=("attention.q",) * blocks,
            size=size,
            offset=np.concatenate([[0], np.cumsum(size)[:-1]]).astype(np.int64),
        ),
        gram=rng.standard_normal((blocks, steps, steps)) + mark,
        rounding=rng.random((blocks, steps)) + mark,
        nonfinite=np.full((blocks, steps), mark, np.int64),
        changes=np.full((blocks, steps, 2), mark, np.int64),
        rows=RowTable(np.arange(blocks), size.copy(), rng.random((blocks, 3, steps)) + mark),  # of one row each
        attributes={"mark": mark, "estimate": None, "findings": [{"kind": "identical", "steps": [1, 2]}]},
    )


def same(a: RunContents, b: RunContents) -> bool:
    """Whether two runs are equal, value by value (NaN equal to NaN)."""
    return (
        a.name == b.name
        and np.array_equal(a.gram, b.gram, equal_nan=True)
        and np.array_equal(a.rounding, b.rounding, equal_nan=True)
        and np.array_equal(a.nonfinite, b.nonfinite)
        and (a.changes is None) == (b.changes is None)
        and (a.changes is None or b.changes is None or np.array_equal(a.changes, b.changes))
        and (a.rows is None) == (b.rows is None)
        and (a.rows is None or b.rows is None or _same_rows(a.rows, b.rows))
        and a.attributes == b.attributes
        and _tables(a) == _tables(b)
    )


def _same_rows(a: RowTable, b: RowTable) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def _tables(run: RunContents) -> list[object]:
    columns = [*vars(run.checkpoints).values(), *vars(run.blocks).values()]
    return [c.tolist() if isinstance(c, np.ndarray) else c for c in columns]
