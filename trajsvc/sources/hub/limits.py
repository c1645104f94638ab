"""Bounds on the Hub's answers, which are settings, and the error that names the bound that was exceeded."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final, NoReturn

from trajsvc.errors import LimitExceeded, TryAgain
from trajsvc.settings import Settings

ROW: Final = 256
"""Bytes of memory that a row takes beside its texts."""


@dataclass(frozen=True, slots=True)
class HubLimits:
    """Bounds of listings; each field is the setting ``hub_<name>``, which says what it bounds."""

    pages: int = 1000
    rows: int = 150_000
    memory: int = 48 * 2**20
    received: int = 4 * 2**20
    unpacked: int = 4 * 2**20
    values: int = 200_000
    depth: int = 16
    header: int = 32 * 2**10
    seconds: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> HubLimits:
        return cls(**{f.name: getattr(settings, f"hub_{f.name}") for f in fields(cls)})

    def exceeded(self, name: str, where: str, what: str) -> NoReturn:
        """Raise the error for an answer about ``where`` that goes beyond the bound ``name``; ``what`` is what there was too much of."""
        most, setting = getattr(self, name), f"TRAJSVC_HUB_{name.upper()}"
        hint = f"Raise {setting} ({most:,} now) if the repository is really that large."
        if name == "seconds":
            raise TryAgain(
                "hub-slow", f"{where}: the Hub's answer took more than {most:g} s, the bound of the setting hub_seconds",
                hint=f"Ask again in a while, or raise {setting}.",
            )  # fmt: skip
        raise LimitExceeded(
            "hub-limit", f"{where}: the Hub's answer has {what}, more than the {most:,} of the setting hub_{name}", hint=hint
        )  # fmt: skip


class Budget:
    """A bound on the rows of one task, over all listings that it makes. Thread-safe."""

    def __init__(self, limits: HubLimits) -> None:
        self._limits, self._lock = limits, threading.Lock()
        self._rows = self._memory = 0

    def take(self, where: str, texts: Iterable[str]) -> None:
        """Count one row that consists of ``texts``. Raises LimitExceeded (``hub-limit``)."""
        size = _size(texts)
        with self._lock:
            self._rows += 1
            self._memory += size
            if self._rows > self._limits.rows:
                self._limits.exceeded("rows", where, "too many rows")
            if self._memory > self._limits.memory:
                self._limits.exceeded("memory", where, f"rows of at least {self._memory:,} bytes")

    def give_back(self, rows: Iterable[Iterable[str]]) -> None:
        """Forget rows of an attempt that is made again."""
        sizes = [_size(texts) for texts in rows]
        with self._lock:
            self._rows -= len(sizes)
            self._memory -= sum(sizes)


def _size(texts: Iterable[str]) -> int:
    return ROW + sum(map(sys.getsizeof, texts))
