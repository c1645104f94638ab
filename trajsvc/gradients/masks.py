"""Random masks: a sample of the coordinates of every block, the same for all vectors of a run, and what it costs in certainty.

Of a block of P coordinates ceil(share · P) are kept, drawn without replacement; its Gram times P / kept is unbiased (*Conditioning* 1.6).
Standard errors are those of the jackknife over R disjoint parts of the kept coordinates, as for the estimate of a run, times
sqrt(1 − share), as the coordinates are finitely many.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Block
from trajsvc.measures.base import Array
from trajsvc.measures.gradients.registry import measures_of
from trajsvc.measures.gradients.sample import GroupSample
from trajsvc.measures.gradients.vector_gram import VectorGram
from trajsvc.measures.jackknife import standard_error

PARTS: Final = 10


@dataclass(frozen=True)
class Mask:
    """Which coordinates are kept, by ``share`` and ``seed`` and the name of the block alone."""

    share: float
    seed: int
    parts: int = PARTS
    _kept: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def count(self, block: Block) -> int:
        """How many coordinates of a block are kept."""
        return ceil(self.share * block.size)

    def kept(self, block: Block) -> NDArray[np.int64]:
        """Places of the kept coordinates among the block's elements, in random order."""
        if block.name not in self._kept:
            numbers = np.random.default_rng([self.seed, zlib.crc32(block.name.encode())])
            self._kept[block.name] = numbers.permutation(block.size)[: self.count(block)]
        return self._kept[block.name]

    def scale(self, block: Block) -> float:
        """P / kept."""
        return block.size / self.count(block)

    def of_parts(self, block: Block, values: Array) -> Array:
        """Return the scaled Grams (R, n, n) of parts of a block's kept values (n, kept); they add to the block's own."""
        split = np.array_split(values, self.parts, axis=1)
        return self.scale(block) * np.stack([part @ part.T for part in split])

    def facts(self, kind: str, parts: Array, parameters: int) -> dict[str, Any]:
        """Return the share, and the standard error of every scalar measure of the whole network that is of the Gram alone."""
        left_out = (parts.sum(axis=0) - parts) * (self.parts / (self.parts - 1))
        samples = [GroupSample(VectorGram(gram, parameters)) for gram in left_out]
        errors = {}
        for measure in measures_of(kind):
            if not (measure.dims or measure.scalars or measure.beside):
                found = np.array([float(measure.compute(sample)) for sample in samples])
                if np.isfinite(found).all():
                    errors[measure.name] = sqrt(1.0 - self.share) * float(standard_error(found))
        return {"mask": self.share, "parts": self.parts, "standard_errors": errors}
