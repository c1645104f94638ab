"""What a runner may use, and what one job may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trajsvc.jobs.data_roots import Roots
from trajsvc.jobs.queue import HEARTBEAT, LEASE
from trajsvc.jobs.records import Quota
from workers.dask_pool import PATIENCE


@dataclass(frozen=True)
class Limits:
    """What one job may take; 0: as much as it likes."""

    checkpoints: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class RunnerSettings:
    """What one runner may use."""

    store: Path
    roots: Roots
    memory: int = 2**30
    """jobs that ask for more are left to others"""
    quota: Quota = field(default_factory=Quota)
    patience: float = PATIENCE
    lease: float = LEASE
    heartbeat: float = HEARTBEAT
    limits: Limits = field(default_factory=Limits)
