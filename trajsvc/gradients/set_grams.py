"""What one set of vectors at one checkpoint comes to: the Gram of every block, and the scalars that some measures need beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.measures.base import DOUBLE_ERROR, Array
from trajsvc.measures.gradients.vector_gram import VectorGram

_SCALAR: Final = "scalar "


@dataclass(frozen=True)
class SetGrams:
    """The Grams K^b of n vectors, (blocks, n, n) float64, by the blocks of the network that the probe built.

    ``same`` is (blocks, n): equal numbers in a row for vectors that are equal in that block. ``scalars`` are float64 arrays whose
    first axis is the block, or of length 1 (squared norms of parameters and perturbations, sums over coordinates); ``facts`` is
    JSON: seeds, zero gradients, batch normalisation, noise floor, mask. Sets of the input (``input_gradients``) have one block, ``input``.
    """

    kind: str
    blocks: tuple[Block, ...]
    gram: Array
    labels: tuple[str, ...] = ()
    error: float = DOUBLE_ERROR
    same: NDArray[np.int64] | None = None
    scalars: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return int(self.gram.shape[-1])

    def group(self, blocks: Sequence[int], name: str = "network") -> VectorGram:
        """Return the Gram of some blocks together."""
        chosen = list(blocks)
        size = sum(self.blocks[b].size for b in chosen)
        same = None if self.same is None else self.same[chosen]
        return VectorGram.of_blocks(self.gram[chosen], size, self.labels, name, self.error, same)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays without objects, for a file; ``of_arrays`` reads them. The rest is one JSON text as bytes."""
        words = {"kind": self.kind, "labels": self.labels, "error": self.error, "facts": dict(self.facts)}
        text = json.dumps({**words, "blocks": [asdict(block) for block in self.blocks]}).encode()
        found: dict[str, NDArray[Any]] = {"gram": self.gram, "words": np.frombuffer(text, dtype=np.uint8)}
        if self.same is not None:
            found["same"] = self.same
        return {**found, **{f"{_SCALAR}{name}": values for name, values in self.scalars.items()}}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what ``arrays`` gave."""
        words = json.loads(arrays["words"].tobytes())
        blocks = tuple(Block(**{**block, "extent": Extent(**block["extent"])}) for block in words["blocks"])
        scalars = {n.removeprefix(_SCALAR): np.asarray(v) for n, v in arrays.items() if n.startswith(_SCALAR)}
        return cls(
            kind=words["kind"], blocks=blocks, gram=np.asarray(arrays["gram"]), labels=tuple(words["labels"]),
            error=words["error"], same=arrays.get("same"), scalars=scalars, facts=words["facts"],
        )  # fmt: skip
