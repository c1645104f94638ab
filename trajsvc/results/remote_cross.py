"""Two runs of a server against each other: the server computes, once, and its answers are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.models.cross import CrossAnswer, CrossStart
from trajsvc.client import Client
from trajsvc.errors import NotFound
from trajsvc.results.cross import CrossMethods
from trajsvc.results.measure_methods import Steps


class RemoteCross(CrossMethods):
    """The runs ``a`` and ``b`` of a server against each other."""

    def __init__(self, client: Client, a: str, b: str, rename: Sequence[str] = (), common: bool = False) -> None:
        self.client, self.runs = client, (a, b)
        self._given: dict[str, Any] = {"rename": list(rename) or None, "common": True if common else None}
        self._asked = lru_cache(32)(self._ask)

    def __repr__(self) -> str:
        return f"<trajsvc.RemoteCross {self.runs[0]} × {self.runs[1]}, at {self.client.address}>"

    def answer(self, group: str = "network", origin: str = "first", steps: Steps = None) -> CrossAnswer:
        """See ``CrossMethods.answer``. Raises NotFound (``cross-not-found``) where the server has not computed it."""
        chosen = steps if steps is None or isinstance(steps, str) else ",".join(map(str, steps))
        return self._asked(group, origin, chosen)

    def _ask(self, group: str, origin: str, steps: str | None) -> CrossAnswer:
        a, b = self.runs
        found = self.client.get("cross", a=a, b=b, group=group, origin=origin, steps=steps, **self._given)
        return CrossAnswer.model_validate(found)

    @cached_property
    def _whole(self) -> CrossAnswer:
        return self.answer()

    @property
    def steps_a(self) -> NDArray[np.int64]:
        """Steps of the first run's checkpoints."""
        return np.array(self._whole.steps_a, dtype=np.int64)

    @property
    def steps_b(self) -> NDArray[np.int64]:
        """Steps of the second run's checkpoints."""
        return np.array(self._whole.steps_b, dtype=np.int64)

    @property
    def same_start(self) -> bool:
        """Whether the runs begin at one point."""
        return self._whole.same_start

    @property
    def start(self) -> CrossStart:
        """Where the runs begin."""
        return self._whole.start

    @property
    def warnings(self) -> list[str]:
        """What to bear in mind when the numbers are read."""
        return self._whole.warnings


def computed_there(
    crossed: RemoteCross,
    rename: Sequence[str] = (),
    common: bool = False,
    told: Callable[[dict[str, Any]], None] | None = None,
    **choices: Any,
) -> RemoteCross:
    """Return ``crossed`` once its server has it: submit the comparison where it has not, and wait for the job.

    ``told`` is called with the job's events. Raises TrajsvcError of the job's kind where it fails.
    """
    try:
        crossed.answer()
    except NotFound as error:
        if error.kind != "cross-not-found":
            raise
    else:
        return crossed
    a, b = crossed.runs
    crossed.client.succeeded(crossed.client.submit_cross(a, b, rename=list(rename), common=common, **choices), told)
    return crossed
