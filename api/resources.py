"""The objects that the work of a request needs, in the server and in the processes that do what takes long."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from api.open_runs import RunCache
from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.database import attach
from trajsvc.jobs.queue import JobQueue
from trajsvc.jobs.registered import Registered
from trajsvc.settings import ServiceSettings


@dataclass
class Resources:
    """The store's runs, the jobs, the data roots, and what the operator registered."""

    settings: ServiceSettings
    runs: RunCache
    queue: JobQueue
    roots: Roots

    @cached_property
    def registered(self) -> Registered:
        """The probes and data that the operator registered. Raises as ``Registered`` does."""
        return Registered(self.settings.probes, self.settings.gradient_data)

    @classmethod
    def attached(cls, settings: ServiceSettings) -> Self:
        """Return the resources of a server that has made its store and database already."""
        queue = JobQueue(attach(settings.database_url))
        return cls(settings, RunCache(settings.store), queue, Roots(settings.roots))
