"""What may go wrong with one try of a request, and after how much of it the request has failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from trajsvc.errors import TrajsvcError

Kind = Literal["failed", "limited", "expired", "ignored", "other"]
"""No answer, or one that may pass; too many requests; an address whose time is over; the whole instead of a part; another part."""

IN_A_ROW: Final[dict[Kind, int]] = {"expired": 4, "ignored": 2, "other": 2}
"""Tries without a byte that end in an error, where they are fewer than those of any kind."""
LITTLE: Final = 2**16
"""Bytes that a try should bring on average: a server that gives less each time does not go on for ever."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a try failed that may be repeated, and the error to raise if that does not help: each thread raises one of its own."""

    kind: Kind
    error: Callable[[], TrajsvcError]


class Tries:
    """Counts the tries of a request for ``size`` bytes, of which ``attempts`` in a row may bring nothing."""

    def __init__(self, attempts: int, size: int) -> None:
        self._attempts, self._left = attempts, attempts + size // LITTLE + size.bit_length()
        self._row: Counter[Kind] = Counter()

    @property
    def failures(self) -> int:
        """Tries in a row that brought nothing."""
        return self._row.total()

    @property
    def too_many(self) -> bool:
        """Whether they were more than the size of the request accounts for, though each may have brought something."""
        return self._left < 0

    def count(self, trouble: Trouble | None, *, progress: bool, crowded: bool) -> None:
        """A try is over. ``progress``: it brought bytes; ``crowded``: others were served meanwhile, so that its turn will come."""
        turned_away = crowded and trouble is not None and trouble.kind in ("limited", "expired")
        self._left -= not turned_away
        if progress:
            self._row.clear()
        elif trouble is not None and not turned_away:
            self._row[trouble.kind] += 1

    def hopeless(self, trouble: Trouble) -> bool:
        """Whether ``trouble``, which was counted, is to be raised instead of tried again."""
        few = IN_A_ROW.get(trouble.kind, self._attempts)
        return self.failures >= self._attempts or self._row[trouble.kind] >= few
