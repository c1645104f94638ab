"""Probes and files of examples that the operator of a service registered: a request names them, and never a module or a path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from storage_schema.files.regular import open_file
from trajsvc.errors import Cancelled, NotFound, UsageError
from trajsvc.gradients.options import GradientChoices, GradientOptions
from trajsvc.jobs.data_roots import ID
from trajsvc.settings import RegisteredProbe
from trajsvc.sources.base import never

_PIECE: Final = 2**20


class Registered:
    """What the settings register. Raises UsageError (``bad-root``) for an id that is none, NotFound (``file-missing``)."""

    def __init__(
        self, probes: Mapping[str, RegisteredProbe] | None = None, data: Mapping[str, Path] | None = None
    ) -> None:
        self.probes: Final = dict(probes or {})
        self.data: Final = {name: Path(path).resolve() for name, path in (data or {}).items()}
        for name in (*self.probes, *self.data):
            if not ID.fullmatch(name):
                raise UsageError(
                    "bad-root", f"{name!r} is no id for a probe or for data", hint="Use a-z, 0-9, - and _."
                )
        for name, path in self.data.items():
            if not path.is_file():
                raise NotFound("file-missing", f"the data {name} ({path}) is no file", hint="Name an existing file.")
        self._digests: dict[str, str] = {}

    def probe(self, name: str) -> RegisteredProbe:
        """Return a registered probe. Raises NotFound (``probe-not-registered``)."""
        if name not in self.probes:
            raise _unknown("probe-not-registered", "probe", name, self.probes)
        return self.probes[name]

    def file(self, name: str) -> Path:
        """Return the path of a registered file of data. Raises NotFound (``data-not-registered``)."""
        if name not in self.data:
            raise _unknown("data-not-registered", "data", name, self.data)
        return self.data[name]

    def options(self, work: GradientChoices, memory: int) -> GradientOptions:
        """Return the options of a job, with registered names replaced by what they stand for.

        Raises as ``probe`` and ``file``.
        """
        probe = self.probe(work.probe)
        chosen: dict[str, Any] = {name: getattr(work, name) for name in GradientChoices.model_fields}
        chosen |= {"probe": probe.probe, "data": str(self.file(work.data)), "memory": memory}
        return GradientOptions(**chosen, tokenizer=None if probe.tokenizer is None else str(probe.tokenizer.resolve()))

    def digests(
        self, work: GradientChoices, known: Mapping[str, str] | None = None, stop: Callable[[], bool] = never
    ) -> dict[str, str]:
        """Return digests of what a job depends on beside its run, as SHA-256: the registered ``probe``, the bytes of
        the ``data``. ``known`` is what ``known()`` returned elsewhere.

        Raises as ``probe`` and ``file``, and Cancelled.
        """
        probe = hashlib.sha256(self.probe(work.probe).model_dump_json().encode()).hexdigest()
        return {"probe": probe, "data": self._digest(self.file(work.data), known or {}, stop)}

    def known(self) -> dict[str, str]:
        """Return for the state of every file of data its digest, empty where it is not known yet."""
        found = {}
        for path in self.data.values():
            with suppress(OSError):
                stamp = _stamp(path)
                found[stamp] = self._digests.get(stamp, "")
        return found

    def learn(self, before: Mapping[str, str], work: GradientChoices | None, uses: Mapping[str, str]) -> None:
        """Keep the digest of a job's data that another process computed since ``before``, if the file is as it was then."""
        if work is None or work.data not in self.data or "data" not in uses:
            return
        with suppress(OSError):
            stamp = _stamp(self.data[work.data])
            if stamp in before:
                self._digests[stamp] = uses["data"]

    def _digest(self, path: Path, known: Mapping[str, str], stop: Callable[[], bool]) -> str:
        """Return the SHA-256 of a file, read once for every size and time that it has."""
        try:
            stamp = _stamp(path)
            found = known.get(stamp) or self._digests.get(stamp)
            if not found:
                found = self._digests[stamp] = _sha256(path, stop)
        except FileNotFoundError:
            raise NotFound("file-missing", f"{path} is gone", file=str(path), hint="Restore it.") from None
        return found


def _stamp(path: Path) -> str:
    """Return what is different once a file was written: its path, size and time."""
    status = path.stat()
    return json.dumps([str(path), status.st_size, status.st_mtime_ns])


def _sha256(path: Path, stop: Callable[[], bool]) -> str:
    hasher = hashlib.sha256()
    with open_file(path) as file:
        while piece := file.read(_PIECE):
            if stop():
                raise Cancelled
            hasher.update(piece)
    return hasher.hexdigest()


def _unknown(kind: str, what: str, name: str, known: Mapping[str, object]) -> NotFound:
    there = (
        f"It has {', '.join(sorted(known))}." if known else "It has none: its operator registers them in the settings."
    )
    return NotFound(kind, f"the server has no {what} {name!r} registered", hint=there)
