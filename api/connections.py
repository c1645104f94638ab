"""Bound the open connections of a server, so that neither idle nor slow clients take the descriptors that answers need."""

from __future__ import annotations

import asyncio
import resource
from typing import Any, Final, Protocol

from api.protocol import ProblemProtocol

PATIENCE: Final = 15
"""Seconds that a connection may be idle, and that the head of a request may take."""
FEWEST: Final = 8


def allowed(wanted: int) -> int:
    """Return how many connections may be open: ``wanted``, and at most half of the descriptors that the process may have.

    The other half is for the store, the database and the processes that make answers, and for connections that are being opened and closed.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(FEWEST, min(wanted, soft // 2))


def answered(connections: int) -> int:
    """Return how many requests may be answered at once on so many connections: a quarter of them stays for others."""
    return connections - connections // 4


class Closable(Protocol):
    """What ``Connections`` closes."""

    def abort(self) -> None: ...


class Connections:
    """The open connections of one server, at most ``most``: a further one closes the one that has been idle for longest.

    Idle is a connection none of whose requests is being answered. Where none is, the new one is closed.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Closable] = set()
        self._idle: dict[Closable, None] = {}  # in the order in which they became idle

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, one: Closable) -> None:
        """Count a new connection, which is idle, and close another if there are too many."""
        self._open.add(one)
        self._idle[one] = None
        if len(self._open) > self.most:
            oldest = next(iter(self._idle))
            self.leave(oldest)
            oldest.abort()

    def busy(self, one: Closable) -> None:
        """Say that a request of the connection is being answered."""
        self._idle.pop(one, None)

    def idle(self, one: Closable) -> None:
        """Say that no request of the connection is being answered any more."""
        if one in self._open:
            self._idle.setdefault(one)

    def leave(self, one: Closable) -> None:
        """Forget a connection that is closed."""
        self._open.discard(one)
        self._idle.pop(one, None)


class BoundedProtocol(ProblemProtocol):
    """The protocol of a connection of ``connections``, which is closed when it is idle for long or its request does not come.

    uvicorn's time limit begins with the first answer, and ends with the first byte of the next request.
    """

    def __init__(self, *args: Any, connections: Connections, **more: Any) -> None:
        super().__init__(*args, **more)
        self._all = connections
        self._late: asyncio.TimerHandle | None = None
        self._begun = False
        """whether a part of the next request has come"""

    def abort(self) -> None:
        """Close the connection without waiting for what is still to be sent."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and wait for its first request."""
        super().connection_made(transport)
        self._wait()
        self._all.enter(self)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        if not self._answering() and not self._begun:
            self._begun = True
            self._wait()
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has come already."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._stop_waiting()
        self._all.leave(self)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        if self._answering():
            self._begun = False
            self._stop_waiting()
            self._all.busy(self)
        else:
            if self._late is None:
                self._wait()
            self._all.idle(self)

    def _wait(self) -> None:
        """Close the connection unless a request begins to be answered in time."""
        self._stop_waiting()
        if not self.transport.is_closing():
            self._late = self.loop.call_later(PATIENCE, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
