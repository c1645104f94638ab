"""``trajsvc.against``: many runs of a store or a server against a hyperparameter, from Python."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage_schema.models.against import AgainstAnswer
from trajsvc.errors import UsageError
from trajsvc.families.against import USUAL, csv_of
from trajsvc.families.against import against as set_against
from trajsvc.results import listing
from trajsvc.results.run import default_store, names
from trajsvc.results.run import open as open_stored

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Against:
    """Runs against one of their hyperparameters: the ``answer`` as the command line and HTTP give it, and as tables."""

    answer: AgainstAnswer

    def to_dataframe(self) -> DataFrame:
        """Return a row a run: its place on the axis, its line, its seed, what the runs differ in, and the measures."""
        from pandas import DataFrame

        header, rows = csv_of(self.answer)
        return DataFrame(rows, columns=header).set_index("run")

    def spread(self) -> DataFrame:
        """Return a row for every place and measure of runs that are equal in all but their seed: count, mean, low, high, deviation."""
        from pandas import DataFrame

        rows = [
            {"line": row.line, "place": row.place, "measure": name, **found.model_dump()}
            for row in self.answer.spreads
            for name, found in row.measures.items()
        ]
        return DataFrame(rows, columns=["line", "place", "measure", "count", "mean", "low", "high", "deviation"])


def against(
    by: str | None = None,
    runs: Sequence[str] = (),
    store: str | os.PathLike[str] | None = None,
    where: Sequence[str] = (),
    tags: Sequence[str] = (),
    measures: Sequence[str] = USUAL,
    group: str = "network",
    steps: str | None = None,
    ignore: Sequence[str] = (),
) -> Against:
    """Set runs of a store (by default ``TRAJSVC_STORE``, else ``./trajsvc-store``) or of a server against ``by``: ``size``, ``seed``, a
    hyperparameter, or a measure that is one number; by default the first hyperparameter in which they differ::

        trajsvc.against("lr", where=["tag=sweep"], measures=["mds", "tortuosity"]).to_dataframe()

    ``runs`` names them (by default all), ``where`` and ``tags`` choose among them. Lines join runs that are equal in all else but their
    seed and what ``ignore`` names. Raises UsageError (``runs-needed``, ``bad-field``, ``bad-by``, ``bad-condition``), NotFound.
    """
    place = os.fspath(default_store() if store is None else store)
    if place.startswith(("http://", "https://")):
        from trajsvc.client import Client

        asked = {"run": list(runs), "where": list(where), "tag": list(tags), "by": by, "names": ",".join(measures)}
        with contextlib.closing(Client(place)) as client:
            found = client.get("against", **asked, group=group, steps=steps, ignore=",".join(ignore) or None)
        return Against(AgainstAnswer.model_validate(found))
    every = listing.listed(open_stored(place, name) for name in (runs or names(place)))
    chosen = listing.select(every, where, None, tags)
    if not chosen:
        raise UsageError("runs-needed", f"no run of {place} meets all of this", hint="trajsvc.runs() lists them.")
    return Against(set_against(chosen, by, measures, group, steps, ignore))
