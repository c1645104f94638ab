"""The manifest of a run: which files a generation consists of, and the SHA-256 of each.

``manifest.json`` is the run's only file that is rewritten: renaming a new one into place is the commit. It is one JSON
object whose first line carries the SHA-256 of all that follows it, so that ``tail -n +2 manifest.json | sha256sum``
checks it with ordinary tools::

    {"sha256": "…",
    "format": "trajsvc-run", "format_version": 1, "generation": 3, …}

The first line keeps this form in every later format, so that a manifest's checksum is verified before its version is
read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from storage_schema.errors import RunMissing, StoreDamaged, StoreVersion
from storage_schema.files.regular import NotRegular, read_file
from storage_schema.format.arrays import FORMAT, FORMAT_VERSION
from storage_schema.format.theta import ThetaLayout

MANIFEST: Final = "manifest.json"
PENDING: Final = ".pending-"
_SEAL: Final = re.compile(rb'\{"sha256": "([0-9a-f]{64})",')


class FileEntry(NamedTuple):
    """What a committed file is."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    generation: int
    checkpoints: int
    blocks: int
    parameters: int
    gram_span: int
    """blocks in one file of the gram"""
    theta: ThetaLayout | None
    archive: ThetaLayout | None
    files: Mapping[str, FileEntry]
    digest: str = field(default="", compare=False)
    """the seal it was read under: equal for equal manifests"""

    def pending(self) -> str:
        """Return the name of the folder in which this generation's files lie until they are settled."""
        return f"{PENDING}{self.generation}"

    def to_bytes(self) -> bytes:
        words = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "generation": self.generation,
            "checkpoints": self.checkpoints,
            "blocks": self.blocks,
            "parameters": self.parameters,
            "gram_span": self.gram_span,
            "theta": None if self.theta is None else self.theta.to_json(),
            "archive": None if self.archive is None else self.archive.to_json(),
            "files": {key: list(self.files[key]) for key in sorted(self.files)},
        }
        body = json.dumps(words, separators=(",", ": "))[1:].encode() + b"\n"
        return b'{"sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'",\n' + body


def parse(raw: bytes, path: Path) -> Manifest:
    """Parse a manifest.

    Raises StoreDamaged if its checksum is wrong, StoreVersion if the format is not this program's.
    """
    first, _, body = raw.partition(b"\n")
    seal = _SEAL.fullmatch(first)
    if seal is None or hashlib.sha256(body).hexdigest().encode() != seal[1]:
        raise StoreDamaged(
            path, "the run's manifest is damaged", "Restore the run from a copy, or remove it and analyze again."
        )
    words = json.loads(b"{" + body)
    if words.get("format") != FORMAT or words.get("format_version") != FORMAT_VERSION:
        raise StoreVersion(
            path,
            f"the run is of format {words.get('format')} {words.get('format_version')}; "
            f"this program knows {FORMAT} {FORMAT_VERSION}",
            "Upgrade trajsvc, or analyze the source again with this version.",
        )
    return _from_json(words, seal[1].decode())


def _from_json(words: Mapping[str, Any], digest: str) -> Manifest:
    return Manifest(
        generation=words["generation"],
        checkpoints=words["checkpoints"],
        blocks=words["blocks"],
        parameters=words["parameters"],
        gram_span=words["gram_span"],
        theta=None if words["theta"] is None else ThetaLayout(**words["theta"]),
        archive=None if words["archive"] is None else ThetaLayout(**words["archive"]),
        files={key: FileEntry(*entry) for key, entry in words["files"].items()},
        digest=digest,
    )


def read_manifest(run: Path) -> Manifest:
    """Read the committed manifest of a run's folder. Raises RunMissing if nothing was ever committed there."""
    path = run / MANIFEST
    try:
        raw = read_file(path)
    except NotRegular:
        raise StoreDamaged(
            path, f"{path} is not a regular file", "Restore it from a copy, or remove it and analyze the source again."
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise RunMissing(run, "no such run", "`trajsvc ls` lists the runs of a store.") from None
    return parse(raw, path)
