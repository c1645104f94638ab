"""The data of experiments: scikit-learn's digits, which its wheel ships, split once and for all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from trajsvc.errors import UsageError

if TYPE_CHECKING:
    import torch

TRAIN: Final = 1400
CLASSES: Final = 10


@dataclass(frozen=True)
class Split:
    """Images (N, 1, 8, 8) of 0 … 1 in float32, and their labels (N)."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)


@lru_cache(maxsize=1)
def digits() -> tuple[Split, Split]:
    """1,400 digits to train on and 397 to test. Raises UsageError (``extra-missing``) without scikit-learn."""
    import torch

    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        hint = "Install it: pip install 'trajsvc[experiments]'"
        raise UsageError("extra-missing", "this experiment needs the digits of scikit-learn", hint=hint) from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.from_numpy((images[order] / 16.0).astype(np.float32).reshape(-1, 1, 8, 8))
    y = torch.from_numpy(labels[order].astype(np.int64))
    return Split(x[:TRAIN], y[:TRAIN]), Split(x[TRAIN:], y[TRAIN:])


def noisy(split: Split, share: float, seed: int) -> Split:
    """Return the split with a share of its labels replaced by random ones."""
    import torch

    rng = np.random.default_rng(seed)
    wrong = rng.random(len(split)) < share
    drawn = torch.from_numpy(rng.integers(0, CLASSES, len(split)))
    return Split(split.x, torch.where(torch.from_numpy(wrong), drawn, split.y))
