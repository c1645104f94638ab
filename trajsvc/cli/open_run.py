"""Open a run by the name or address that a user gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trajsvc.cli.output import close_at_end, errors_console

if TYPE_CHECKING:
    from trajsvc.results.run import Run


def open_run(store: Path | None, name: str) -> Run:
    """Open the run ``name`` of ``store``, of the default store, at the path of a ``.zarr`` folder, or of a server:
    ``http://…/NAME``.
    """
    from trajsvc.results.run import default_store
    from trajsvc.results.run import open as open_stored

    if name.startswith(("http://", "https://")):
        from trajsvc.results.remote_run import open_remote

        address, _, run_name = name.rstrip("/").rpartition("/")
        remote = open_remote(address, run_name)
        close_at_end(remote.client.close)
        return remote
    if name.rstrip("/").endswith(".zarr"):
        return open_stored(name)
    run = open_stored(store or default_store(), name)
    if run.estimate is not None:
        share = run.estimate.get("fraction")
        seen = f" from {share:.1%} of the values" if isinstance(share, float) else ""
        errors_console().print(f"{name} is an estimate{seen}; `trajsvc analyze` makes it exact", markup=False)
    return run
