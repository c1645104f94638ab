"""Limit the work of requests that takes long: planning, auditing, pinning a source, results and figures.

It is done by processes of its own (``work_processes``), for each of which a thread waits here.

Work that waits for a network, work that reads a folder's headers, submissions of folders, results and figures have a limit each; beyond
it a request waits a little and is answered 503 with Retry-After. Work is told to stop when its client has gone or the
server ends, and is abandoned if it does not.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar

from starlette.requests import Request

from trajsvc.errors import Cancelled, TryAgain
from trajsvc.settings import ServiceSettings
from trajsvc.sources.transport.cancel import Stop

T = TypeVar("T")

LOOK: Final = 0.5
"""Seconds between two checks whether the client is still connected."""
SUBMISSIONS: Final = 8
"""Submissions of folders that are listed at once."""


class Limiter:
    """Run at most ``most`` pieces of work at once, each in a thread of its own; others wait up to ``patience`` seconds
    for their turn.
    """

    def __init__(self, what: str, most: int, patience: float, setting: str, stopping: threading.Event) -> None:
        self._what, self._most, self._patience, self._setting = what, most, patience, setting
        self._slots, self._stopping = asyncio.Semaphore(most), stopping

    async def run(self, request: Request, work: Callable[[Stop], T]) -> T:
        """Return the result of ``work``, called with a function that says whether to stop.

        Raises what it raises, and TryAgain (``too-busy``).
        """
        try:
            await asyncio.wait_for(self._slots.acquire(), self._patience)
        except TimeoutError:
            raise TryAgain(
                "too-busy", f"the server does {self._most} {self._what} at once, and all of them go on",
                hint=f"Ask again in a while; the setting {self._setting} says how many there may be.",
            ) from None  # fmt: skip
        over = threading.Event()
        future = self._begin(lambda: work(lambda: over.is_set() or self._stopping.is_set()))
        try:
            while not (await asyncio.wait([future], timeout=LOOK))[0]:
                if await request.is_disconnected():
                    over.set()
            return future.result()
        except Cancelled:
            raise TryAgain(
                "too-busy", "the request was given up: its client has gone, or the server is ending", hint="Ask again."
            ) from None
        finally:
            over.set()

    def _begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do ``work`` in a thread that neither the loop nor the interpreter waits for; its slot is free when it is done."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            self._slots.release()
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)
                future.exception()  # mark the exception as retrieved: the client may have gone

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:
                error = caught
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(settle, result, error)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="trajsvc-long-work", daemon=True).start()
        return future


@dataclass
class LongWork:
    """The limiters of a server, and the event that says that it is ending."""

    network: Limiter
    plans: Limiter
    submissions: Limiter
    answers: Limiter
    drawings: Limiter
    stopping: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, settings: ServiceSettings) -> Self:
        stopping = threading.Event()
        return cls(
            Limiter("requests that wait for a Hub", settings.hub_requests, 2.0, "hub_requests", stopping),
            Limiter("plans of folders", settings.plans, 20.0, "plans", stopping),
            Limiter("submissions of folders", SUBMISSIONS, 30.0, "plans", stopping),
            Limiter("results", settings.answers, 20.0, "answers", stopping),
            Limiter("figures and exports", settings.drawings, 30.0, "drawings", stopping),
            stopping,
        )
