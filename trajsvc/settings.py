"""Settings of one process, from the environment (``TRAJSVC_…``) or a TOML file (``TRAJSVC_CONFIG`` or ``./trajsvc.toml``)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from trajsvc.errors import UsageError

_UNITS = {"": 1, "b": 1, "k": 2**10, "kib": 2**10, "kb": 10**3, "m": 2**20, "mib": 2**20, "mb": 10**6,
          "g": 2**30, "gib": 2**30, "gb": 10**9, "t": 2**40, "tib": 2**40, "tb": 10**12}  # fmt: skip


class Settings(BaseSettings):
    """What a run of trajsvc does unless told otherwise."""

    model_config = SettingsConfigDict(env_prefix="TRAJSVC_", extra="ignore")

    store: Path = Path("trajsvc-store")
    memory: int = Field(default=512 * 2**20, description="bytes the engine may hold, beside the interpreter")
    threads: int = Field(
        default_factory=lambda: (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
    )
    device: str = "cpu"

    @field_validator("memory", mode="before")
    @classmethod
    def _memory(cls, value: object) -> object:
        return parse_bytes(value) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = Path(os.environ.get("TRAJSVC_CONFIG", "trajsvc.toml"))
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml))


def parse_bytes(text: str) -> int:
    """``512MiB``, ``2 GB``, ``1e9`` → bytes. Raises UsageError (``bad-size``)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise UsageError("bad-size", f"{text!r} is not a size", hint="Write a number and a unit: 512MiB, 2GiB, 1.5GB.")
    return int(float(match.group(1)) * unit)


def parse_share(text: str) -> float:
    """``1%``, ``0.01`` → 0.01. Raises UsageError (``bad-share``)."""
    try:
        value = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise UsageError("bad-share", f"{text!r} is not a share", hint="Write a percentage or a fraction: 1%, 0.05.")
    return value
