"""``trajsvc.open`` and ``trajsvc.runs``: runs of a store on this machine, or of a server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from trajsvc.errors import UsageError
from trajsvc.results.run import Run, default_store, names
from trajsvc.results.run import open as open_stored


def open(path: str | os.PathLike[str], name: str | None = None) -> Run:
    """Open a run: ``open(store, name)``, ``open("…/runs/NAME.zarr")``, ``open(name)`` in the default store (``TRAJSVC_STORE``, else
    ``./trajsvc-store``), or ``open("http://server:8000", name)``. The answers are the same labelled objects.

    Raises NotFound (``run-not-found``), TryAgain (``server-unreachable``), and what reading a damaged store raises.
    """
    address = os.fspath(path)
    if not address.startswith(("http://", "https://")):
        return open_stored(path, name)
    if name is None:
        raise UsageError("run-needed", f"{address} is a server", hint=f'Name a run: trajsvc.open("{address}", "NAME").')
    from trajsvc.results.remote_run import open_remote

    return open_remote(address, name)


def runs(
    store: str | os.PathLike[str] | None = None,
    where: Sequence[str] = (),
    tags: Sequence[str] = (),
    sort: str | None = None,
) -> list[Run]:
    """Open the runs of a store (by default ``TRAJSVC_STORE``, else ``./trajsvc-store``) or of a server that meet all conditions
    ``where`` and have all ``tags``, by name or sorted by the field ``sort`` (``-field``: the largest first)::

        trajsvc.runs(where=["lr>0.01", "optimizer=adamw"], sort="-mds")

    A field is a fact of a run (``name``, ``steps``, ``parameters``, ``tag`` …), a measure of its network that is one number, or a
    hyperparameter. Raises UsageError (``bad-condition``, ``bad-field``, ``bad-tag``).
    """
    from trajsvc.results import listing

    place = os.fspath(default_store() if store is None else store)
    if place.startswith(("http://", "https://")):
        return [open(place, name) for name in _names_at(place, where, tags, sort)]
    every = listing.listed(open_stored(place, name) for name in names(place))
    return [one.run for one in listing.select(every, where, sort, tags)]


def _names_at(address: str, where: Sequence[str], tags: Sequence[str], sort: str | None) -> list[str]:
    """Return the names of a server's runs that are asked for, in order, from all pages of its list."""
    from trajsvc.client import Client

    found: list[str] = []
    cursor: str | None = None
    with contextlib.closing(Client(address)) as client:
        while True:
            page = client.get("runs", where=list(where), tag=list(tags), sort=sort, limit=200, cursor=cursor)
            found += [row["run"] for row in page["items"]]
            cursor = page["next"]
            if cursor is None:
                return found
