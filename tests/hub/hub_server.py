"""A local server that clients take for the Hugging Face Hub (read side, models only), with faults on demand.

In a test::

    with HubServer([Repo("org/run", {"main": Revision({"config.json": b"{}"})})]) as hub:
        HfApi(endpoint=hub.endpoint).list_repo_refs("org/run")
        hub.faults.cut_at = Fault(0.5, limit=1)

As a process, to be killed or measured apart (``/_stats``, ``/_stats/reset``, ``/_faults`` in JSON, ``/_health``)::

    python tests/hub/hub_server.py --root FOLDER_OF_RUNS --port 0
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from hub_exchange import Listener
from hub_faults import Fault, Faults
from hub_handler import HubHandler
from hub_record import Seen
from hub_repos import Data, Files, Layout, Repo, Revision, files_of, repo_of, repos_under
from hub_state import Cdn, HubState

__all__ = [
    "Data",
    "Fault",
    "Faults",
    "Files",
    "HubServer",
    "Repo",
    "Revision",
    "Seen",
    "files_of",
    "repo_of",
    "repos_under",
]

Repos = Iterable[Repo] | Mapping[str, Repo | Revision | Path]


class HubServer:
    """A Hub on a free port of 127.0.0.1.

    ``repos``: repositories, or id → repository, revision of ``main``, or folder (its step folders are branches); ``root``: a folder
    whose sub-folders are repositories ``local/<name>``. ``cdn``: whether large files lie at another host (``localhost``), the
    same one, or (``off``) at their own address. ``tokens``: the tokens that the Hub knows; None: it takes any.
    """

    def __init__(
        self, repos: Repos = (), *, root: Path | None = None, layout: Layout = "auto", cdn: Cdn = "other",
        tokens: Collection[str] | None = None, page_size: int = 0, port: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        served = [_repo(i, r) for i, r in repos.items()] if isinstance(repos, Mapping) else list(repos)
        served += repos_under(root, layout=layout) if root else []
        self.state = HubState(served, cdn=cdn, tokens=tokens, page_size=page_size, seed=seed)
        self._listener = Listener(("127.0.0.1", port), HubHandler, self.state)
        self.port: int = self._listener.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread: threading.Thread | None = None

    @property
    def repos(self) -> dict[str, Repo]:
        return self.state.repos

    @property
    def faults(self) -> Faults:
        return self.state.faults

    @property
    def seen(self) -> list[Seen]:
        """Every request since the last reset, in order of arrival."""
        return list(self.state.record.seen)

    def stats(self) -> dict[str, Any]:
        """``requests``, ``bytes`` (of bodies), ``by_status``, ``kinds``, ``in_flight``, ``most_in_flight`` and, per path, ``paths``."""
        return self.state.record.as_json()

    def reset_stats(self) -> None:
        self.state.record.reset()

    def add(self, repo: Repo) -> None:
        """Serve one more repository, or another one under the same id."""
        self.state.repos[repo.id] = repo

    def move_branch(self, repo: str, branch: str, revision: Revision) -> str:
        """Put a new commit on a branch; older ones stay reachable by their ids. Gives its id."""
        return self.state.repos[repo].move(branch, revision)

    def drop_connections(self) -> None:
        """Close all connections, as a server does with those that were idle for long."""
        self._listener.drop_connections()

    def start(self) -> HubServer:
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop and close all connections; raises what went wrong in the server itself."""
        self.state.stopping.set()
        if self._thread is not None:
            self._listener.shutdown()
            self._thread.join()
            self._thread = None
        self._listener.drop_connections()
        self._listener.server_close()
        if self.state.errors:
            raise ExceptionGroup("the tests' Hub failed", [e for e in self.state.errors if isinstance(e, Exception)])

    def serve(self) -> None:
        """Serve in this thread, until interrupted."""
        try:
            self._listener.serve_forever()
        except KeyboardInterrupt:
            self._listener.server_close()

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _repo(repo_id: str, what: Repo | Revision | Path) -> Repo:
    if isinstance(what, Path):
        return repo_of(repo_id, what)
    return Repo(repo_id, {"main": what}) if isinstance(what, Revision) else what


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Serve folders of checkpoints as the Hub would.")
    parser.add_argument("--root", type=Path, required=True, help="folder whose sub-folders are the repositories")
    parser.add_argument("--port", type=int, default=0, help="0: any free port, which is printed")
    parser.add_argument("--layout", choices=get_args(Layout), default="auto")
    parser.add_argument("--cdn", choices=get_args(Cdn), default="other")
    parser.add_argument("--page-size", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME=NUMBER", help="as latency_ms=20; POST /_faults for more"
    )
    args = parser.parse_args(argv)
    hub = HubServer(
        root=args.root, layout=args.layout, cdn=args.cdn, page_size=args.page_size, port=args.port, seed=args.seed
    )
    for fault in args.fault:
        name, _, value = fault.partition("=")
        hub.faults.update({name: float(value)})
    for repo in hub.repos.values():
        print(f"{repo.id}: {len(repo.heads)} branch(es)")
    print(f"listening on {hub.endpoint}", flush=True)
    hub.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
