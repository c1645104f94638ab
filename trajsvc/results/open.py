"""``trajsvc.open``: a run of a store on this machine, or of a server."""

from __future__ import annotations

import os

from trajsvc.errors import UsageError
from trajsvc.results.run import Run
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
