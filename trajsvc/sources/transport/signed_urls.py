"""Signed URLs of files: one thread learns a URL from a service's redirect, and all threads use it until it is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from trajsvc.sources.transport.cancel import SLICE, Stop, check
from trajsvc.sources.transport.retry import FailedAttempt
from trajsvc.sources.transport.service import RemoteFile
from trajsvc.sources.transport.url import Url


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL of a file. ``trusted``: it belongs to the service itself, to which alone the token is sent."""

    url: Url
    trusted: bool

    def follow(self, location: str) -> SignedUrl:
        """Return the URL that a redirect's ``Location`` leads to. Raises ValueError if it is not a URL.

        A path alone (a file that was renamed) stays with the service; a complete URL is signed, and needs no token
        wherever it is.
        """
        parts = urlsplit(location)
        return SignedUrl(self.url.follow(location), self.trusted and not parts.scheme and not parts.netloc)


@dataclass(eq=False, slots=True)
class Turn:
    """One attempt of a thread: the URL to request, or the failure of another thread.

    The thread that makes the request records its failure.
    """

    url: SignedUrl
    failure: FailedAttempt | None = None


class FileUrl:
    """The URL at which one file can be read now. Thread-safe."""

    def __init__(self, home: Url) -> None:
        self._home = SignedUrl(home, True)
        self._known: SignedUrl | None = None
        self._changed = threading.Condition()
        self._asking: Turn | None = None
        self._failures = 0
        self._failure: FailedAttempt | None = None

    @contextmanager
    def turn(self, stop: Stop) -> Iterator[Turn]:
        """Make one attempt.

        While the file's URL is unknown, one thread asks the service and the others wait for what it learns; if it
        fails, all of them fail with it, so that a service that does not answer is not asked by each of them in turn.
        Raises Interrupted.
        """
        turn = self._begin(stop)
        try:
            yield turn
        finally:
            with self._changed:
                if self._asking is turn:
                    self._asking = None
                    if turn.failure is not None:
                        self._failures += 1
                        self._failure = turn.failure
                    self._changed.notify_all()

    def learn(self, url: SignedUrl) -> None:
        """Record that the file can be read at ``url``."""
        with self._changed:
            self._known, self._asking = url, None
            self._changed.notify_all()

    def forget(self, url: SignedUrl) -> None:
        """Record that the file can no longer be read at ``url``."""
        with self._changed:
            if self._known == url:  # not what another thread has learnt since
                self._known = None

    def _begin(self, stop: Stop) -> Turn:
        seen = self._failures
        while True:
            with self._changed:
                if self._known is not None:
                    return Turn(self._known)
                if self._failures != seen:
                    return Turn(self._home, self._failure)
                if self._asking is None:
                    self._asking = Turn(self._home)
                    return self._asking
                self._changed.wait(SLICE)
            check(stop)


class FileUrls:
    """The ``FileUrl`` of every file, made when first asked for. Thread-safe."""

    def __init__(self, home_of: Callable[[RemoteFile], Url]) -> None:
        self._home_of = home_of
        self._lock = threading.Lock()
        self._urls: dict[RemoteFile, FileUrl] = {}

    def of(self, file: RemoteFile) -> FileUrl:
        with self._lock:
            if file not in self._urls:
                self._urls[file] = FileUrl(self._home_of(file))
            return self._urls[file]
