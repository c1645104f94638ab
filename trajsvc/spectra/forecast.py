"""What a computation of spectra will take, before a weight is read: method, memory, arithmetic and bytes for every matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trajsvc.measures.spectra.stored import NUMBERS, Method
from trajsvc.spectra.decompose import method_for, needed_bytes, panel_bytes
from trajsvc.spectra.lanczos import BLOCK, STEPS, steps_within
from trajsvc.spectra.matrices import Matrix


@dataclass(frozen=True)
class MatrixForecast:
    """One matrix: the ``method`` for it, the bytes of ``memory`` and the ``flops`` that it takes each time, and the bytes that are
    ``kept``; ``note`` says how a tensor of more axes was made a matrix."""

    matrix: str
    rows: int
    columns: int
    method: Method
    memory: int
    flops: int
    kept: int
    note: str


def forecast(matrix: Matrix, budget: int) -> MatrixForecast:
    """Forecast one matrix."""
    method = method_for(matrix, budget)
    small, large = sorted((matrix.rows, matrix.columns))
    flops = 2 * STEPS * BLOCK * 2 * matrix.size if method == "lanczos" else 4 * small * small * large
    return MatrixForecast(
        matrix.name, matrix.rows, matrix.columns, method, needed_bytes(matrix, budget), flops,
        8 * (len(NUMBERS) + 1 + matrix.kept), matrix.note,
    )  # fmt: skip


def check_budget(matrices: Sequence[Matrix], budget: int) -> None:
    """Raise LimitExceeded (``memory-budget``) where a matrix cannot be decomposed within the budget."""
    for matrix in matrices:
        if method_for(matrix, budget) == "lanczos":
            steps_within(matrix, budget - panel_bytes(matrix))
