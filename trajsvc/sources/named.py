"""Names of a source's files: their paths, or, for a remote user, a data root's id and a path within.

Everything above this module knows files by their names alone, so that no error, finding or stored fact can tell where a
data root lies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Naming:
    """Files below ``folder`` are called ``prefix`` and the path within; without a prefix files are called by their paths."""

    prefix: str = ""
    folder: str = ""

    def path(self, name: str) -> str:
        """Return the path of the file that is called ``name``. Raises ValueError for a name of another place."""
        if not self.prefix:
            return name
        if not name.startswith(self.prefix):
            raise ValueError(f"{name!r} is no name in {self.prefix}")
        place = os.path.normpath(f"{self.folder}/{name[len(self.prefix) :]}")
        if place != self.folder and not place.startswith(f"{self.folder}/"):
            raise ValueError(f"{name!r} leads out of {self.prefix}")
        return place

    def name(self, path: str) -> str:
        """Return the name of the file at ``path``; only "another place" if it lies outside."""
        if not self.prefix:
            return path
        if path == self.folder:
            return self.prefix
        return self.prefix + path[len(self.folder) + 1 :] if path.startswith(f"{self.folder}/") else "another place"

    def split(self, name: str) -> tuple[str, str]:
        """Split a name into folder and last part."""
        if self.prefix and "/" not in name:
            return self.prefix, name[len(self.prefix) :]
        return os.path.split(name)


PATHS: Final = Naming()
