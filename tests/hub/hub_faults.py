"""What can be made to go wrong at the tests' Hub, how often, and where."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, overload

V = TypeVar("V")


@dataclass
class Fault(Generic[V]):
    """A fault's value; it strikes requests whose path contains ``path``, a share ``rate`` of them, ``limit`` times at most."""

    value: V
    limit: int | None = None
    rate: float = 1.0
    path: str = ""
    times: int = 0
    """how often it struck"""


class _Slot(Generic[V]):
    """An attribute that takes a plain value, a ``Fault`` or None (off), and gives the ``Fault`` or None."""

    def __init__(self, about: str) -> None:
        self.about = about

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, holder: None, owner: type) -> _Slot[V]: ...
    @overload
    def __get__(self, holder: Faults, owner: type) -> Fault[V] | None: ...
    def __get__(self, holder: Faults | None, owner: type) -> _Slot[V] | Fault[V] | None:
        return self if holder is None else holder.active.get(self.name)

    def __set__(self, holder: Faults, value: V | Fault[V] | None) -> None:
        holder.put(self.name, value)


class Faults:
    """The faults of one server. ``faults.cut_at = 0.5`` cuts every body; ``faults.cut_at = Fault(0.5, limit=3, path="step1")``
    cuts three of some; None (or False, 0) switches it off. A path is that of the request: ``/api/models/...``, ``/org/name/resolve/...``.
    """

    latency_ms = _Slot[float]("wait so many milliseconds before an answer")
    fail_rate = _Slot[float]("share of requests answered 500 or 503 by turns")
    rate_limit = _Slot[int](
        "requests a window; more are answered 429. API and files are counted apart, signed addresses never"
    )
    rate_limited = _Slot[bool]("answer 429")
    require_token = _Slot[str]("401 without this token; signed addresses do not ask for it")
    gone = _Slot[bool]("404 for a file that the listing names")
    redirect_loop = _Slot[bool]("a file's address redirects to itself")
    expire_signed = _Slot[int]("a signed address answers 403 after so many uses")
    cut_at = _Slot[float]("send this fraction of a file's body, then close")
    cut_json = _Slot[float]("send this fraction of an API answer, then close")
    stall_s = _Slot[float]("stop half-way in a file's body for so many seconds, then go on")
    trickle = _Slot[float]("bytes a second of a file's body")
    corrupt = _Slot[int]("True: the byte in the middle of the file is flipped; a number: the byte at that offset")
    ignore_range = _Slot[bool]("200 with the whole body to a request for a range")
    wrong_range = _Slot[bool | str]("True: 206 with another range than asked; 'total': with another size of the file")
    short_range = _Slot[bool]("206 with half of what was asked, and headers that say so")

    STYLES: Final = ("both", "seconds", "date", "ratelimit", "none")

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self.clear()

    def clear(self) -> None:
        """Switch everything off."""
        self.active: dict[str, Fault[Any]] = {}
        self.retry_after = "both"
        """what a 429 carries: Retry-After in ``seconds`` or as a ``date``, the ``ratelimit`` header, ``both`` (seconds), ``none``"""
        self.retry_s = 1
        """seconds that a 429 of ``rate_limited`` asks to wait for"""
        self.rate_window = 1
        """seconds of a window of ``rate_limit``"""

    def put(self, name: str, value: Any) -> None:
        """Set a fault by its name; raises KeyError for one that there is not."""
        if not isinstance(vars(Faults).get(name), _Slot):
            raise KeyError(name)
        with self._lock:
            self.active.pop(name, None)
            if isinstance(value, Fault):
                self.active[name] = value
            elif value is not None and value is not False and value != 0:
                self.active[name] = Fault(value)

    def take(self, name: str, path: str) -> Any:
        """The value of a fault that strikes this request now, else None."""
        with self._lock:
            fault = self.active.get(name)
            if fault is None or fault.path not in path or (fault.limit is not None and fault.times >= fault.limit):
                return None
            rate = fault.value * fault.rate if name == "fail_rate" else fault.rate
            if rate < 1 and self._random.random() >= rate:
                return None
            fault.times += 1
            return fault.value

    def peek(self, name: str, path: str) -> Any:
        """The value of a fault for this path, without counting it as one that struck."""
        fault = self.active.get(name)
        return fault.value if fault is not None and fault.path in path else None

    def as_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {n: None for n, slot in vars(Faults).items() if isinstance(slot, _Slot)}
        out |= {name: vars(fault) for name, fault in self.active.items()}
        return out | {name: getattr(self, name) for name in ("retry_after", "retry_s", "rate_window")}

    def update(self, wanted: dict[str, Any]) -> None:
        """Set from JSON: name → value, or name → {value, limit, rate, path}; raises KeyError or TypeError, and then sets nothing."""
        plain = {n: v for n, v in wanted.items() if n in ("retry_after", "retry_s", "rate_window")}
        rest = {n: Fault(**v) if isinstance(v, dict) else v for n, v in wanted.items() if n not in plain}
        unknown = [n for n in rest if not isinstance(vars(Faults).get(n), _Slot)]
        if unknown or plain.get("retry_after", "none") not in self.STYLES:
            raise KeyError(", ".join(unknown) or "retry_after")
        for name, value in rest.items():
            self.put(name, value)
        for name, value in plain.items():
            setattr(self, name, value)
