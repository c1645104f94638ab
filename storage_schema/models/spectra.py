"""The shapes of machine output about spectra, the same from the command line and over HTTP (pydantic models)."""

from __future__ import annotations

from typing import Final, Literal, get_args

from storage_schema.models.results import Answer

Of = Literal["weights", "displacement", "updates"]
OF: Final[tuple[Of, ...]] = get_args(Of)


class SpectrumRow(Answer):
    """One line of the list of a run's spectra: what they are of."""

    run: str
    of: Of
    """``weights`` W_t; ``displacement`` W_t − W_0 from the first checkpoint; ``updates`` W_t − W_(t−1) from the one before"""
    matrices: int
    """that are decomposed at some step"""
    heads: int
    """of these, heads of Q, K and V"""
    steps: list[int]
    stale: list[int]
    """steps whose record is of other checkpoints than the run has now: computed before, not answered with"""


class SpectrumMatrixRow(Answer):
    """A matrix: a tensor, a part of one, or a head of Q, K or V."""

    name: str
    tensor: str
    part: str
    layer: str
    component: str
    rows: int
    columns: int


class SpectrumSetAnswer(SpectrumRow):
    """The spectra of one kind, and the matrices that they are of."""

    digest: str
    """changes whenever anything of them does"""
    matrix_table: list[SpectrumMatrixRow]


class SpectrumMeasuresAnswer(Answer):
    """Measures of one matrix over training; undefined values are null."""

    run: str
    tensor: str
    of: Of
    rows: int
    columns: int
    steps: list[int]
    base: list[int | None]
    """of a difference, the step that is subtracted"""
    method: list[str]
    """``svd``: all singular values; ``qr``: all, from a streamed QR; ``lanczos``: the largest, with bounds; ``not-finite``"""
    measures: dict[str, list[float | None]]


class SpectrumValuesAnswer(Answer):
    """Singular values of one matrix over training, descending: all, or the largest that are kept."""

    run: str
    tensor: str
    of: Of
    rows: int
    columns: int
    steps: list[int]
    values: list[list[float]]
    """of each step; none where the matrix is not finite"""


class SpectrumLayerRow(SpectrumMatrixRow):
    """One matrix: each measure, one value a step."""

    depth: float | None
    """of its layer, from 0, the first, to 1, the last; null around the layers"""
    measures: dict[str, list[float | None]]


class SpectrumLayersAnswer(Answer):
    """Measures of every matrix over training, in the order of the network."""

    run: str
    of: Of
    steps: list[int]
    matrices: list[SpectrumLayerRow]
