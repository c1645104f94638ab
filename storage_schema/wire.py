"""The shapes of machine output, the same from the command line and over HTTP (pydantic models)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """One line of the integrity report."""

    model_config = ConfigDict(frozen=True)

    kind: str
    """``identical``, ``zero-update``, ``non-finite``, ``shape-change``, ``name-change``, ``missing-shard``, ``stale-shard``,
    ``unreadable``, ``step-order``, ``outlier``, ``mostly-zero``, ``growing``, ``ignored-file`` …"""
    severity: Literal["info", "warning", "error"] = "warning"
    message: str
    steps: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    details: dict[str, Any] = {}
