"""One try of a request for a part of a file: from the question, along the redirects, to the last byte that comes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from trajsvc.sources.base import Sink
from trajsvc.sources.hub import problems
from trajsvc.sources.hub.connections import Answer, Connections
from trajsvc.sources.hub.counts import Tally
from trajsvc.sources.hub.interrupt import Stop
from trajsvc.sources.hub.limiter import Limiter
from trajsvc.sources.hub.places import Place, Way
from trajsvc.sources.hub.remote_file import RemoteFile, check_hub_answer, part_answered
from trajsvc.sources.hub.sockets import Broken
from trajsvc.sources.hub.troubles import Trouble
from trajsvc.version import __version__

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 5
EXPIRED: Final = frozenset({400, 401, 403, 404, 410})
"""How a storage refuses an address whose time is over."""


@dataclass(slots=True)
class Task:
    """The bytes [at, hi) of a file that are still to come."""

    file: RemoteFile
    at: int
    hi: int
    sink: Sink
    stop: Stop
    place: Place
    way: Way | None = None
    """where it was asked for last"""


class Attempts:
    """Makes single tries. Thread-safe."""

    def __init__(self, token: str | None, connections: Connections, limiter: Limiter, tally: Tally) -> None:
        self._token, self._connections, self._limiter, self._tally = token, connections, limiter, tally

    def make(self, task: Task) -> Trouble | None:
        """Ask once and take what comes; None when that is what was asked for, or the beginning of it.

        Raises errors of ``problems`` that will not pass, Interrupted, and whatever the task's sink raises.
        """
        with task.place.turn(task.stop) as turn:
            if turn.trouble is not None:
                return turn.trouble
            try:
                turn.trouble = self._follow(task, turn.way)
                return turn.trouble
            except Broken as broken:
                why, final = broken.why, broken.final
            if final:
                raise problems.unreachable(task.file.where, why)
            turn.trouble = Trouble("failed", partial(problems.unreachable, task.file.where, why))
            return turn.trouble

    def _follow(self, task: Task, way: Way) -> Trouble | None:
        for _ in range(MOST_REDIRECTS + 1):
            task.way = way
            with self._ask(task, way) as answer:
                if way.hub and answer.status < 400:
                    check_hub_answer(task.file, answer.headers)
                if answer.status not in REDIRECTS:
                    return self._use(task, way, answer)
                way = _leads(task, way, answer)
                task.place.learn(way)
                answer.discard()
        task.place.forget(way)
        raise Broken("the Hub's redirects lead in a circle", final=True)

    def _ask(self, task: Task, way: Way) -> Answer:
        resource = "resolvers" if way.hub else "storage"
        headers = {
            "User-Agent": f"trajsvc/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Range": f"bytes={task.at}-{task.hi - 1}",
        }
        if way.hub and self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        self._limiter.wait(resource, task.stop)
        answer = self._connections.get(way.location, headers, task.stop)
        self._tally.add(requests=1, resolves=way.hub)
        self._limiter.note(resource, answer.status, dict(answer.headers.items()))
        return answer

    def _use(self, task: Task, way: Way, answer: Answer) -> Trouble | None:
        """What an answer that is no redirect brings."""
        file = task.file
        if answer.status in (200, 206):
            if way.hub:
                task.place.learn(way)
            return self._take_part(task, answer)
        if answer.status == 416:
            raise problems.changed(file.where, "is shorter than its listing says")
        answer.discard()
        if not way.hub and answer.status in EXPIRED:
            task.place.forget(way)
            return Trouble(
                "expired", partial(problems.unreachable, file.where, "the Hub's addresses for it are refused")
            )
        code, signed_in = answer.headers.get("X-Error-Code"), self._token is not None
        error = partial(problems.of_status, answer.status, code, file.where, signed_in=signed_in)
        if answer.status == 429:
            return Trouble("limited", error)
        if answer.status in problems.RETRIED or answer.status >= 500:
            return Trouble("failed", error)
        raise error()

    def _take_part(self, task: Task, answer: Answer) -> Trouble | None:
        """The body of a 200 or 206, if it is about the bytes that are missing."""
        file = task.file
        part = part_answered(file, task.at, task.hi, answer.status, answer.headers, answer.length)
        if part == "ignored":
            return Trouble("ignored", partial(problems.range_ignored, file.where))
        if part == "other":
            what = "is answered with another part than was asked for"
            return Trouble("other", partial(problems.changed, file.where, what))
        begin = task.at
        end = begin + part
        try:
            while task.at < end:
                count = answer.readinto(task.sink.room()[: end - task.at])
                if not count:
                    raise Broken("the body was cut")
                task.sink.take(count)
                task.at += count
            answer.discard()  # the end of a body in chunks
        finally:
            self._tally.add(served=1, bytes=task.at - begin)
        return None


def _leads(task: Task, way: Way, answer: Answer) -> Way:
    """Where a redirect sends on to."""
    try:
        leads = way.follow(answer.headers.get("Location") or "")
    except ValueError:
        raise Broken("the Hub's redirect leads nowhere", final=True) from None
    if way.location.origin.scheme == "https" != leads.location.origin.scheme:
        raise problems.insecure(task.file.where)
    return leads
