"""One matrix at one checkpoint: how it is decomposed within a budget, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from threadpoolctl import threadpool_limits

from storage_schema.models.spectra import Of
from trajsvc.measures.base import Array
from trajsvc.measures.spectra.registry import measure_all
from trajsvc.measures.spectra.spectrum import Spectrum
from trajsvc.measures.spectra.stored import METHODS, NOT_FINITE, Method
from trajsvc.spectra.exact import TALL, assembled, streamed_bytes, streamed_spectrum, whole_bytes, whole_spectrum
from trajsvc.spectra.lanczos import lanczos_bytes, largest_spectrum
from trajsvc.spectra.matrices import Matrix
from trajsvc.spectra.reading import PANEL, MatrixReader


@dataclass(frozen=True)
class Kept:
    """What is kept of a matrix at a checkpoint: ``numbers`` as ``NUMBERS``, and its first singular values."""

    numbers: Array
    values: Array


def panel_bytes(matrix: Matrix) -> int:
    """Bytes of two panels, as stored and in float64."""
    return 32 * min(matrix.rows * matrix.width, max(PANEL, matrix.width))


def method_for(matrix: Matrix, budget: int) -> Method:
    """Return how a matrix is decomposed: exactly where that fits the budget."""
    reading = panel_bytes(matrix)
    if whole_bytes(matrix) + reading <= budget:
        return "svd"
    if matrix.rows >= TALL * matrix.columns and streamed_bytes(matrix) + reading <= budget:
        return "qr"
    return "lanczos"


def needed_bytes(matrix: Matrix, budget: int) -> int:
    """Return the bytes that a matrix takes by the method that is chosen for it."""
    sizes = {"svd": whole_bytes, "qr": streamed_bytes, "lanczos": lanczos_bytes}
    needed: int = sizes[method_for(matrix, budget)](matrix) + panel_bytes(matrix)
    return needed


def decompose(
    matrix: Matrix, panels: Callable[[], Iterable[tuple[int, Array]]], budget: int, device: str = "cpu"
) -> tuple[Spectrum, Method]:
    """Compute the singular values of a matrix from passes over its ``panels``.

    Raises LimitExceeded (``memory-budget``), and what reading raises.
    """
    method = method_for(matrix, budget)
    if method == "svd":
        return whole_spectrum(assembled(matrix, panels()), device), method
    if method == "qr":
        return streamed_spectrum(matrix, panels()), method
    return largest_spectrum(matrix, panels, budget - panel_bytes(matrix)), method


def keep(spectrum: Spectrum, matrix: Matrix, method: Method) -> Kept:
    """Return what is kept of a spectrum."""
    status = METHODS[method] if spectrum.defined else NOT_FINITE
    head = np.array([status, matrix.rows, matrix.columns], dtype=np.float64)
    return Kept(np.concatenate([head, measure_all(spectrum)]), spectrum.values[: matrix.kept])


def kept_of(
    reader: MatrixReader,
    matrix: Matrix,
    pairs: Mapping[Of, tuple[int, int | None]],
    budget: int,
    threads: int | None = None,
    device: str = "cpu",
) -> dict[Of, Kept]:
    """Decompose a matrix at a checkpoint: for each of ``pairs`` W_step − W_base, or W_step where there is no base."""
    found: dict[Of, Kept] = {}
    with threadpool_limits(threads) if threads else nullcontext():
        for of, (step, base) in pairs.items():

            def panels(step: int = step, base: int | None = base) -> Iterable[tuple[int, Array]]:
                return reader.panels(matrix, step, base)

            spectrum, method = decompose(matrix, panels, budget, device)
            found[of] = keep(spectrum, matrix, method)
    return found


def arrays_of(found: Sequence[tuple[Matrix, Mapping[Of, Kept]]]) -> dict[str, Any]:
    """Turn what is kept into arrays for a file; ``kept_in`` reads them."""
    return {
        f"{of}/{matrix.name}/{what}": getattr(kept, what)
        for matrix, by_kind in found
        for of, kept in by_kind.items()
        for what in ("numbers", "values")
    }


def kept_in(arrays: Mapping[str, Array]) -> dict[tuple[Of, str], Kept]:
    """Return (of, matrix) → what is kept."""
    found: dict[tuple[Of, str], Kept] = {}
    for name in arrays:
        of, _, rest = name.partition("/")
        matrix, _, what = rest.rpartition("/")
        if what == "numbers":
            found[cast(Of, of), matrix] = Kept(np.asarray(arrays[name]), np.asarray(arrays[f"{of}/{matrix}/values"]))
    return found
