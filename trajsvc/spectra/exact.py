"""All singular values of a matrix, by LAPACK in float64: of the matrix itself, or of the R of a streamed QR where it is tall.

Both are backward stable: what is computed are the singular values of W + E with ‖E‖_2 ≤ p(m, n) ε σ_1, p a modest polynomial, and so every
one is off by at most that (Weyl). max(m, n) is taken for p. Singular values from the eigenvalues of WᵀW would be off by up to √ε σ_1.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trajsvc.measures.base import Array
from trajsvc.measures.spectra.spectrum import EPSILON, Spectrum, undefined
from trajsvc.spectra.matrices import Matrix

TALL = 3
"""rows for each column from which R is formed by panels where the whole does not fit"""


def whole_bytes(matrix: Matrix) -> int:
    """Bytes for the matrix, the copy that LAPACK destroys, and its workspace."""
    return 8 * (2 * matrix.size + 16 * (matrix.rows + matrix.columns) + matrix.values**2)


def streamed_bytes(matrix: Matrix) -> int:
    """Bytes for R, two panels of as many rows, and LAPACK's copies of them."""
    return 8 * 8 * matrix.columns**2


def assembled(matrix: Matrix, panels: Iterable[tuple[int, Array]]) -> Array:
    """Return the whole matrix from its panels."""
    out = np.empty((matrix.rows, matrix.columns))
    for lo, values in panels:
        out[lo : lo + len(values)] = values
    return out


def whole_spectrum(values: Array, device: str = "cpu") -> Spectrum:
    """Decompose a matrix, (m, n) float64. ``device`` is ``cpu`` (LAPACK's gesdd by numpy), ``torch:cpu``, ``cuda``, …"""
    rows, columns = values.shape
    if not np.isfinite(values).all():
        return undefined(rows, columns)
    norm = frobenius_norm([values])
    return _spectrum(_singular_values(values, device), rows, columns, norm)


def streamed_spectrum(matrix: Matrix, panels: Iterable[tuple[int, Array]]) -> Spectrum:
    """Decompose a tall matrix from its panels: R ← QR of [R; panel], and the singular values of the last R."""
    n = matrix.columns
    triangle: Array = np.empty((0, n))
    norms = []
    for _, panel in panels:
        if not np.isfinite(panel).all():
            return undefined(matrix.rows, n)
        norms.append(frobenius_norm([panel]))
        for lo in range(0, len(panel), 2 * n):
            triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, panel[lo : lo + 2 * n]]), mode="r"))
    return _spectrum(_singular_values(triangle, "cpu"), matrix.rows, n, float(np.hypot.reduce(norms)))


def frobenius_norm(parts: Iterable[Array]) -> float:
    """Return √Σ x², scaled by the largest element so that no square overflows or vanishes."""
    held = [part for part in parts if part.size]
    largest = max((float(np.abs(part).max()) for part in held), default=0.0)
    if largest == 0:
        return 0.0
    return largest * float(np.sqrt(sum(float(np.square(part / largest).sum()) for part in held)))


def _singular_values(values: Array, device: str) -> Array:
    if device == "cpu":
        return np.asarray(np.linalg.svd(values, compute_uv=False))
    import torch

    on_device = torch.from_numpy(values).to(device.removeprefix("torch:"))
    return np.asarray(torch.linalg.svdvals(on_device).cpu().numpy())


def _spectrum(values: Array, rows: int, columns: int, norm: float) -> Spectrum:
    bound = np.full(len(values), max(rows, columns) * EPSILON * float(values[0]))
    return Spectrum(values, rows, columns, norm, True, bound)
