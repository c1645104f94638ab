"""States of a job and the kinds of work. Final states never change."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    ACCEPTED = "accepted"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in FINAL


class Kind(StrEnum):
    INGEST = "ingest"
    """copy a source's checkpoints into the store; its Grams come with it, from a sample"""
    TRAJECTORY = "trajectory"
    RECOMPUTE = "recompute"
    GRADIENTS = "gradients"
    """sets of gradients at the checkpoints of a stored run"""
    SPECTRA = "spectra"
    """singular values of a stored run's matrices at its checkpoints"""
    CROSS = "cross"
    """two stored runs against each other"""


BESIDE: Final = frozenset({Kind.GRADIENTS, Kind.SPECTRA, Kind.CROSS})
"""kinds whose results are kept beside a run that is stored already"""


FINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
OPEN: Final = tuple(s for s in State if s not in FINAL)
