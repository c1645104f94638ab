"""uvicorn's server as this service runs it: bounded connections, and a say in its end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import uvicorn

from api.connections import PATIENCE, BoundedProtocol, Connections

QUEUE: Final = 1024
"""Connections that the kernel keeps until they are accepted."""
GRACEFUL: Final = 10
"""Seconds that open answers have when the server ends."""


class Server(uvicorn.Server):
    """A server of ``app`` with at most ``connections`` at a time; ``ending`` is called when it begins to end."""

    def __init__(self, app: Any, host: str, port: int, connections: int, ending: Callable[[], None]) -> None:
        protocol: Any = partial(BoundedProtocol, connections=Connections(connections))
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                loop="asyncio",  # not uvloop where that is installed: it accepts and bounds otherwise
                ws="none",
                host=host,
                port=port,
                # asyncio accepts so many at once, before any of them is counted.
                backlog=max(1, connections // 8),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=GRACEFUL,
                timeout_keep_alive=PATIENCE,
                server_header=False,
                date_header=True,
                h11_max_incomplete_event_size=2**15,
            )
        )
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, with a queue longer than what is accepted at once."""
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
                    same.listen(QUEUE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, and say so first."""
        self._ending()
        await super().shutdown(sockets)
