"""A dask cluster: processes of this machine, or a scheduler anywhere. Connects again when the scheduler comes back.

A scheduler unpickles what it is sent: the embedded one listens on the loopback address; another belongs on a private network or behind TLS
(dask's own settings: ``DASK_DISTRIBUTED__COMM__TLS__…`` and an address ``tls://``).
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import Any, Final

import dask
import structlog
from distributed import Client, LocalCluster

from trajsvc.errors import TryAgain

CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 10.0
"""seconds in which the workers of an embedded cluster may end by themselves"""
REVIVE: Final = 20.0
"""seconds without a worker after which an embedded cluster is made anew"""
SETTINGS: Final = {
    "distributed.scheduler.allowed-failures": 10,  # workers may come and go; a task's own failure raises at once
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.comm.timeouts.connect": "10s",
    "distributed.comm.timeouts.tcp": "30s",
    "distributed.worker.daemon": True,
    # What dask watches of itself takes a tenth of a core while nothing is computed.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}

log = structlog.get_logger()


class Cluster:
    """``address`` of a scheduler, or ``workers`` processes here. ``client()`` gives a connected client."""

    def __init__(self, address: str | None = None, *, workers: int = 2) -> None:
        self.address, self.workers = address, workers
        self._lock = threading.Lock()
        self._local: LocalCluster | None = None
        self._client: Client | None = None
        self._empty_since: float | None = None

    @property
    def embedded(self) -> bool:
        return self.address is None

    def client(self) -> Client:
        """Return a client that is connected now. Raises TryAgain (``no-scheduler``)."""
        with self._lock, dask.config.set(SETTINGS):
            if self._client is not None and self._client.status == "running":
                return self._client
            self._drop()
            try:
                self._client = Client(
                    self._address(),
                    timeout=CONNECT_SECONDS,
                    set_as_default=False,
                    name="trajsvc",
                    heartbeat_interval=2000,
                )
            except (OSError, TimeoutError) as error:
                raise TryAgain(
                    "no-scheduler", f"no dask scheduler answers at {self.address}", hint="Is it running?"
                ) from error
            return self._client

    def _address(self) -> Any:
        if self.address is not None:
            return self.address
        if self._local is None:
            self._local = LocalCluster(
                n_workers=self.workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                memory_limit=0, silence_logs=40,
            )  # fmt: skip
        return self._local

    def count(self, device: str = "cpu") -> int:
        """Count the workers that can compute on ``device`` now. Raises TryAgain (``no-scheduler``)."""
        try:
            found = self.client().scheduler_info(n_workers=-1)["workers"].values()
        except TryAgain:
            raise
        except (OSError, TimeoutError) as error:
            raise TryAgain("no-scheduler", "the dask scheduler went away", hint="Is it running?") from error
        self._revive(len(found))
        if device.startswith("cuda"):
            return sum(1 for w in found if w.get("resources", {}).get("GPU"))
        return len(found)

    def _revive(self, workers: int) -> None:
        """Restart an embedded cluster whose workers died and were not restarted in time."""
        at = time.monotonic()
        with self._lock:
            if workers or self._local is None:
                self._empty_since = None
            elif self._empty_since is None:
                self._empty_since = at
            elif at - self._empty_since > REVIVE:
                log.warning("cluster-made-anew", why="its workers did not come back")
                self._end()

    def _end(self) -> None:
        self._drop()
        local, self._local, self._empty_since = self._local, None, None
        if local is not None:
            try:
                local.close(timeout=CLOSE_SECONDS)
            except TimeoutError:
                log.warning("cluster-not-closed", why=f"its workers did not end within {CLOSE_SECONDS:g} s")
                local.shutdown_on_close = False  # or dask waits for them again when Python ends
                for child in multiprocessing.active_children():  # Python waits for each too, for a stopped one for ever
                    child.kill()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close(timeout=1)
            self._client = None

    def close(self) -> None:
        """Leave the scheduler; an embedded cluster ends."""
        with self._lock:
            self._end()
