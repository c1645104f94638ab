"""The update basis [θ_0, U_1, …, U_{T−1}], U_t = θ_t − θ_{t−1}: how it grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def appended(old: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gram of T vectors from that of the first T − k (block, T−k, T−k) and the last k rows (block, k, T)."""
    b, k, t = rows.shape
    gram = np.empty((b, t, t))
    gram[:, : t - k, : t - k] = old
    gram[:, t - k :, :] = rows
    gram[:, : t - k, t - k :] = rows[:, :, : t - k].transpose(0, 2, 1)
    return gram
