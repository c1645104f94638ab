"""Keep bytes from the network on disk for a while, in a file that is filled by requests; finished requests are
recorded.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xxhash import xxh3_64

from storage_schema.files.durable import make_dir, read_all, write_all, writing
from storage_schema.files.regular import open_regular, read_file
from trajsvc.sources.base import FetchRequest, RemoteReading, never

SCRATCH: Final = 2**17


@dataclass(frozen=True, slots=True)
class SpoolRequest:
    """Bytes [lo, hi) of ``file``, to lie at ``at`` of the spool."""

    file: str
    lo: int
    hi: int
    at: int


class Spool:
    """A file of ``size`` bytes and the list of what is in it.

    Bytes that an earlier process fetched are used if they are unchanged.

    ``spare`` is a file that was ``retire``d, which becomes this one if there is none yet: overwriting pages that are in
    memory costs half of what new pages cost.
    """

    def __init__(self, path: Path, size: int, spare: Path | None = None) -> None:
        self.path, self.size = path, size
        self._log = path.with_name(f"{path.name}.done")
        with writing(path.parent):
            make_dir(path.parent)
            if spare is not None and not path.exists():
                self._log.unlink(missing_ok=True)
                with suppress(FileNotFoundError):
                    spare.rename(path)
            self.descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fresh = os.fstat(self.descriptor).st_size != size
            os.ftruncate(self.descriptor, size)
        if fresh:
            self._log.unlink(missing_ok=True)
        self._lock = threading.Lock()
        self._noting = -1

    def missing(self, requests: Sequence[SpoolRequest]) -> list[SpoolRequest]:
        """Return those of ``requests`` that are not done, or whose bytes are no longer what came."""
        done = _noted(self._log)
        return [r for r in requests if done.get(r) is None or done[r] != self._digest(r)]

    def forget(self) -> None:
        """Forget all finished requests."""
        with self._lock:
            if self._noting >= 0:
                os.close(self._noting)
                self._noting = -1
            self._log.unlink(missing_ok=True)

    def read(self, out: memoryview, at: int) -> None:
        """Fill ``out`` from ``at``."""
        read_all(self.descriptor, out, at)

    def note(self, request: SpoolRequest, digest: str) -> None:
        """Record that ``request`` is done and its bytes have ``digest``."""
        line = json.dumps([request.file, request.lo, request.hi, request.at, digest]) + "\n"
        with self._lock, writing(self.path.parent):
            if self._noting < 0:
                self._noting = open_regular(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            os.write(self._noting, line.encode())

    def close(self) -> None:
        """Close the file and leave it on disk."""
        for descriptor in (self.descriptor, self._noting):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._noting = -1

    def retire(self, spare: Path) -> None:
        """Close the file and move it to ``spare``, to be overwritten by a later one."""
        self.close()
        self._log.unlink(missing_ok=True)
        self.path.replace(spare)

    def remove(self) -> None:
        """Close the file and delete it."""
        self.close()
        for path in (self._log, self.path):
            path.unlink(missing_ok=True)

    def _digest(self, request: SpoolRequest) -> str:
        hasher = xxh3_64()
        buffer = memoryview(bytearray(SCRATCH))
        at, end = request.at, request.at + request.hi - request.lo
        while at < end:
            piece = buffer[: min(SCRATCH, end - at)]
            read_all(self.descriptor, piece, at)
            hasher.update(piece)
            at += len(piece)
        return hasher.hexdigest()


def _noted(log: Path) -> dict[SpoolRequest, str]:
    """Read the requests that are done, and the digests of what they brought; lines that are damaged are skipped."""
    try:
        lines = read_file(log).splitlines()
    except OSError:
        return {}
    return dict(found for line in lines if (found := _note_in(line)) is not None)


def _note_in(line: bytes) -> tuple[SpoolRequest, str] | None:
    """Parse one line of the list; None for what ``note`` did not write, or wrote in part."""
    try:
        file, lo, hi, at, digest = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = all(type(n) is int and 0 <= n < 2**62 for n in (lo, hi, at))
    if not (numbers and lo < hi and isinstance(file, str) and isinstance(digest, str)):
        return None
    return SpoolRequest(file, lo, hi, at), digest


class Kept:
    """Bytes of files that earlier spools in ``folder`` and below hold, so that those of an estimate are not requested
    again.
    """

    def __init__(self, folder: Path) -> None:
        self._of: dict[str, list[tuple[Path, SpoolRequest, str]]] = {}
        for log in sorted(folder.glob("*/*.done")):
            for request, digest in _noted(log).items():
                self._of.setdefault(request.file, []).append((log.with_suffix(""), request, digest))

    def fill(self, spool: Spool, files: Sequence[str]) -> list[tuple[int, int]]:
        """Copy what is known of ``files``, whose contents are those of ``spool`` from its beginning; the ranges [lo, hi) that are there
        now, in order."""
        found = []
        for path, request, digest in (k for f in files for k in self._of.get(f, ())):
            with suppress(OSError, EOFError):
                size = request.hi - request.lo
                if request.at + size > path.stat().st_size:
                    continue
                data = memoryview(bytearray(size))
                fd = open_regular(path)
                try:
                    read_all(fd, data, request.at)
                finally:
                    os.close(fd)
                if xxh3_64(data).hexdigest() == digest:
                    with writing(spool.path.parent):
                        write_all(spool.descriptor, data, request.lo)
                    found.append((request.lo, request.hi))
        return sorted(found)


def fetch_into(
    source: RemoteReading, wanted: Sequence[tuple[Spool, Sequence[SpoolRequest]]], stop: Callable[[], bool] = never
) -> None:
    """Make the requests of all spools concurrently, except those that are done.

    Raises what the source raises, and DiskFull.
    """
    todo = [
        FetchRequest(r.file, r.lo, r.hi, _Writer(spool, r))
        for spool, requests in wanted
        for r in spool.missing(requests)
    ]
    source.fetch(todo, stop)


class _Writer:
    """A ``Sink`` that writes to a spool."""

    def __init__(self, spool: Spool, request: SpoolRequest) -> None:
        self._spool, self._request = spool, request
        self._at, self._end = request.at, request.at + request.hi - request.lo
        self._scratch: memoryview | None = None
        self._hasher = xxh3_64()

    def room(self) -> memoryview:
        if self._scratch is None:  # thousands of requests wait, few are being answered
            self._scratch = memoryview(bytearray(min(SCRATCH, self._end - self._at)))
        return self._scratch[: self._end - self._at]

    def take(self, count: int) -> None:
        if self._scratch is None:
            return
        piece = self._scratch[:count]
        with writing(self._spool.path.parent):
            write_all(self._spool.descriptor, piece, self._at)
        self._hasher.update(piece)
        self._at += count
        if self._at == self._end:
            self._scratch = None
            self._spool.note(self._request, self._hasher.hexdigest())
