"""What is kept beside a run in folders of its own: gradients, spectra. One layout, reader and writer serve them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage_schema.errors import NotFound


@dataclass(frozen=True)
class Beside:
    """One kind of what is kept in ``<run>.zarr/<folder>/<set>/``, with the words and the kinds of its errors."""

    folder: str
    a_set: str
    """what messages call one set"""
    absent: str
    """the error kind of a set that is not there"""
    exists: str
    """the error kind of a set that is there with other options"""
    command: str
    """what computes the set ``{name}``"""
    apart: str = ""
    """how two sets of different options are kept, where they can be"""

    def no_such(self, name: str, names: Sequence[str]) -> NotFound:
        """Return the error for a set that a run does not have; it names those that it has."""
        have = f"It has {', '.join(names)}." if names else "It has none yet."
        hint = f"{have} `{self.command.format(name=name)}` computes it."
        return NotFound(self.absent, f"the run has no {self.a_set} {name!r}", hint=hint)


GRADIENTS: Final = Beside(
    "gradients",
    "set of gradients",
    "gradients-not-found",
    "gradients-exist",
    "trajsvc gradients compute RUN --sets {name} …",
    " --as NAME keeps both, this one under another name.",
)
SPECTRA: Final = Beside(
    "spectra", "spectra of", "spectra-not-found", "spectra-exist", "trajsvc spectra compute RUN --of {name}"
)
ALL: Final = (GRADIENTS, SPECTRA)
