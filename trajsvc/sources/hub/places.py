"""Where files lie: learnt from the Hub's answer about each, by one thread, and used by all until it is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from trajsvc.sources.hub.interrupt import SLICE, Stop, check
from trajsvc.sources.hub.location import Location
from trajsvc.sources.hub.remote_file import RemoteFile
from trajsvc.sources.hub.troubles import Trouble


@dataclass(frozen=True, slots=True)
class Way:
    """How a file is asked for. ``hub``: the Hub itself answers, and is shown the token; no one else is."""

    location: Location
    hub: bool

    def follow(self, leads: str) -> Way:
        """Where a redirect's ``Location`` leads. A path alone (a repository that was renamed) stays with the Hub; an address is
        signed, and needs no token wherever it is. Raises ValueError for what is no address."""
        parts = urlsplit(leads)
        return Way(self.location.follow(leads), self.hub and not parts.scheme and not parts.netloc)


@dataclass(eq=False, slots=True)
class Turn:
    """One try of a thread: how to ask, or else what another thread met that asked meanwhile. Whoever asks notes its own trouble."""

    way: Way
    trouble: Trouble | None = None


class Place:
    """What is known of one file's whereabouts. Thread-safe."""

    def __init__(self, home: Location) -> None:
        self._home = Way(home, True)
        self._way: Way | None = None
        self._changed = threading.Condition()
        self._asker: Turn | None = None
        self._failures = 0
        self._trouble: Trouble | None = None

    @contextmanager
    def turn(self, stop: Stop) -> Iterator[Turn]:
        """A try. While it is unknown where the file lies, one thread asks the Hub, and the others wait until it has learnt that; if it
        fails, its trouble is theirs as well: a Hub that does not answer is not asked by each of them in turn. Raises Interrupted."""
        turn = self._begin(stop)
        try:
            yield turn
        finally:
            with self._changed:
                if self._asker is turn:
                    self._asker = None
                    if turn.trouble is not None:
                        self._failures += 1
                        self._trouble = turn.trouble
                    self._changed.notify_all()

    def learn(self, way: Way) -> None:
        """The file is to be had by ``way``."""
        with self._changed:
            self._way, self._asker = way, None
            self._changed.notify_all()

    def forget(self, way: Way) -> None:
        """``way`` leads nowhere (any more)."""
        with self._changed:
            if self._way == way:  # not what another thread has learnt since
                self._way = None

    def _begin(self, stop: Stop) -> Turn:
        seen = self._failures
        while True:
            with self._changed:
                if self._way is not None:
                    return Turn(self._way)
                if self._failures != seen:
                    return Turn(self._home, self._trouble)
                if self._asker is None:
                    self._asker = Turn(self._home)
                    return self._asker
                self._changed.wait(SLICE)
            check(stop)


class Places:
    """The place of each file, made when first asked for. Thread-safe."""

    def __init__(self, home_of: Callable[[RemoteFile], Location]) -> None:
        self._home_of = home_of
        self._lock = threading.Lock()
        self._places: dict[tuple[str, str, str], Place] = {}

    def of(self, file: RemoteFile) -> Place:
        key = file.repo, file.commit, file.path
        with self._lock:
            if key not in self._places:
                self._places[key] = Place(self._home_of(file))
            return self._places[key]
