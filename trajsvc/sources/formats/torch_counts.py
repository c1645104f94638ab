"""Find when a torch file was saved, by the keys of what a training script saved with the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from trajsvc.sources.formats.torch_zip import mapping
from trajsvc.steps import STEP_LIMIT

STEP_KEYS: Final = (
    "global_step", "global_steps", "step", "steps", "iter_num", "iteration", "iterations", "iter", "num_updates", "step_count",
    "num_steps", "current_step", "cur_step", "train_step", "train_steps", "trainer_step", "completed_steps", "n_iter", "update",
    "updates", "it", "niter", "batch_idx_train", "global_iter", "cur_iter", "n_updates", "steps_done",
)  # fmt: skip
"""In the order in which they are believed where nothing else tells."""
EPOCH_KEYS: Final = ("epoch", "epochs", "current_epoch", "cur_epoch", "epoch_idx", "epoch_num", "num_epochs", "n_epoch")
_DEPTH: Final = 3
_VISITS: Final = 4000


def counts_of(top: Mapping[Any, Any]) -> dict[str, int]:
    """Return the numbers under keys that count steps or epochs, by their dotted path, the outermost first.

    The optimizer's are left out, except a history of its updates.
    """
    found: dict[str, int] = {}
    for path, key, value in _walk(top):
        if key in STEP_KEYS or key in EPOCH_KEYS:
            number = whole(value)
            if number is not None:
                found.setdefault(path, number)
    return found


def whole(value: object) -> int | None:
    """Return ``value`` if it is a valid step or epoch number, else None; a float that is a whole number counts."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= STEP_LIMIT else None


def is_epoch(path: str) -> bool:
    """Return whether the number at a path of ``counts_of`` counts epochs."""
    return path.rpartition(".")[2] in EPOCH_KEYS


def first_step(counts: Mapping[str, int]) -> int | None:
    """Return the step that a file names, if nothing tells which of its counts is meant: the outermost, by the order of
    ``STEP_KEYS``.
    """
    order = {key: place for place, key in enumerate(STEP_KEYS)}
    paths = sorted((p for p in counts if not is_epoch(p)), key=lambda p: (p.count("."), order[p.rpartition(".")[2]]))
    return counts[paths[0]] if paths else None


def first_epoch(counts: Mapping[str, int]) -> int | None:
    """Return the epoch that a file names: the outermost."""
    return next((n for path, n in sorted(counts.items(), key=lambda item: item[0].count(".")) if is_epoch(path)), None)


def _walk(top: Mapping[Any, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (path, key, value) of mappings within mappings, level by level; of a list the last entry."""
    level: list[tuple[str, Mapping[Any, Any]]] = [("", top)]
    visits = 0
    for _ in range(_DEPTH):
        following: list[tuple[str, Mapping[Any, Any]]] = []
        for prefix, state in level:
            for key, value in state.items():
                visits += 1
                if visits > _VISITS:
                    return
                if not isinstance(key, str):
                    continue
                path = f"{prefix}{key}"
                yield path, key, value
                optimizer = "optim" in key.lower() and "history" not in key.lower()
                inner = mapping(value[-1]) if isinstance(value, list) and value else mapping(value)
                if inner is not None and not optimizer:
                    following.append((f"{path}.", inner))
        level = following


def companion(top: Mapping[Any, Any], key: object, count: int) -> tuple[str, Sequence[int]] | None:
    """Return the name and values of a list beside the entry ``key`` that says when each of its ``count`` members was
    saved.

    It is a list of ``count`` rising numbers; None if there is none.
    """
    lists = {
        name: numbers
        for name, value in top.items()
        if isinstance(name, str) and (numbers := _rising(value)) is not None and len(numbers) == count and name != key
    }
    word = str(key).lower().rstrip("s")
    named = sorted(lists, key=lambda name: (word not in name.lower(), name))
    for name in named:
        if any(w in name.lower() for w in ("epoch", "step", "iter", "token", "update")):
            return name, lists[name]
    return None


def _rising(value: object) -> list[int] | None:
    if not isinstance(value, list | tuple) or len(value) < 2:
        return None
    numbers = [whole(v) for v in value]
    if any(n is None for n in numbers):
        return None
    found = [n for n in numbers if n is not None]
    return found if all(a < b for a, b in pairwise(found)) else None
