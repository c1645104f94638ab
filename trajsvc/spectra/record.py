"""The record of a run's spectra at one checkpoint, in the layout that sets of gradients are kept in.

One vector, the matrix itself: its Gram is ‖W‖_F². Beside it ``numbers`` (matrix, what ``NUMBERS`` says) and ``sigma`` (1, all kept singular
values, matrix after matrix). What was not computed has the status 0 and NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.measures.base import DOUBLE_ERROR, Array
from trajsvc.measures.spectra.stored import NUMBERS, ROWS, STATUS, WIDTH
from trajsvc.spectra.decompose import Kept
from trajsvc.spectra.matrices import Matrices, Matrix

FROBENIUS: Final = NUMBERS.index("frobenius")


@dataclass
class SpectrumRecord:
    """The spectra of one kind at one checkpoint; ``put`` fills it in. ``facts`` says of which checkpoints a difference is."""

    kind: str
    matrices: Matrices
    numbers: Array
    sigma: Array
    facts: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    error: float = DOUBLE_ERROR
    same: NDArray[np.int64] | None = None

    @classmethod
    def empty(cls, kind: str, matrices: Matrices, facts: Mapping[str, Any]) -> SpectrumRecord:
        """Return a record in which nothing is computed."""
        numbers = np.full((len(matrices.found), len(NUMBERS)), np.nan)
        numbers[:, STATUS] = 0
        numbers[:, [ROWS, WIDTH]] = [(m.rows, m.columns) for m in matrices.found]
        return cls(kind, matrices, numbers, np.full((1, int(matrices.places()[-1])), np.nan), facts)

    @property
    def blocks(self) -> tuple[Matrix, ...]:
        return self.matrices.found

    @property
    def gram(self) -> Array:
        squares = np.square(self.numbers[:, FROBENIUS])
        return np.where(np.isfinite(squares), squares, 0.0).reshape(-1, 1, 1)

    @property
    def scalars(self) -> dict[str, Array]:
        return {"numbers": self.numbers, "sigma": self.sigma}

    def put(self, index: int, kept: Kept) -> None:
        """Fill in the matrix with the number ``index``."""
        lo = int(self.matrices.places()[index])
        self.numbers[index] = kept.numbers
        self.sigma[0, lo : lo + self.matrices.found[index].kept] = np.nan
        self.sigma[0, lo : lo + len(kept.values)] = kept.values
