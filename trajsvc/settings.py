"""Settings of one process, from the environment (``TRAJSVC_…``) or a TOML file (``TRAJSVC_CONFIG`` or ``./trajsvc.toml``)."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from trajsvc.errors import UsageError

LONGEST: Final = 64
"""characters of a size"""
_UNITS = {"": 1, "b": 1, "k": 2**10, "kib": 2**10, "kb": 10**3, "m": 2**20, "mib": 2**20, "mb": 10**6,
          "g": 2**30, "gib": 2**30, "gb": 10**9, "t": 2**40, "tib": 2**40, "tb": 10**12}  # fmt: skip

VARIABLES: Final = {
    "TRAJSVC_CONFIG": "the settings file; by default `trajsvc.toml` in the current folder, where there is one",
    "TRAJSVC_KERNEL_CACHE": "folder that compiled kernels are kept in; by default one of the user's cache folder",
    "TRAJSVC_DEBUG": "`1`: show tracebacks of expected errors too",
    "TRAJSVC_SERVER": "address of the server that `submit`, `jobs`, `wait`, `cancel`, `retry` and `batch` use",
    "TRAJSVC_PARENT": "set by `trajsvc serve` for the processes that it starts: they end when that process ends",
    "HF_TOKEN": "token for the Hugging Face Hub; else the one that `hf auth login` stored",
    "HF_ENDPOINT": "address of the Hub; by default https://huggingface.co",
    "HF_HUB_OFFLINE": "`1`: never ask the Hub",
    "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY": "proxies for requests to the Hub",
    "REQUESTS_CA_BUNDLE": "file of certificates to trust instead of the system's",
    "NO_COLOR": "`1`: no colours in the terminal",
}
"""Environment variables that are not settings, and what each does."""


class Settings(BaseSettings):
    """Defaults of every command."""

    model_config = SettingsConfigDict(env_prefix="TRAJSVC_", extra="ignore")

    store: Path = Field(default=Path("trajsvc-store"), description="folder of the stored runs")
    memory: int = Field(default=512 * 2**20, description="bytes of memory for a computation, beside the interpreter's")
    threads: int = Field(
        default_factory=lambda: (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ),
        description="computing threads; by default one for each core that the process may use",
    )
    device: str = Field(default="cpu", description="where Grams are computed: cpu, cuda, cuda:1")
    cache: int = Field(default=2**31, description="bytes of disk for data that are read ahead over a network")
    connections: int = Field(default=16, ge=1, le=256, description="simultaneous connections to the Hub")
    timeout: float = Field(default=20.0, gt=0, description="seconds without data after which a request is repeated")
    hub_pages: int = Field(default=1000, ge=1, description="pages of one listing of the Hub")
    hub_rows: int = Field(
        default=150_000, ge=1, description="rows (files, branches, commits) of the Hub's listings for one run"
    )
    hub_memory: int = Field(default=48 * 2**20, ge=2**16, description="bytes of memory for those rows")
    hub_received: int = Field(default=4 * 2**20, ge=2**10, description="bytes of one page of a listing as received")
    hub_unpacked: int = Field(default=4 * 2**20, ge=2**10, description="bytes of one page after decompression")
    hub_values: int = Field(default=200_000, ge=1, description="values (commas and brackets) of the JSON of one page")
    hub_depth: int = Field(default=16, ge=1, le=500, description="depth of nested brackets in the JSON of one page")
    hub_header: int = Field(
        default=32 * 2**10, ge=2**10, le=2**16, description="bytes of the headers of one answer of the Hub"
    )
    hub_seconds: float = Field(
        default=60.0,
        gt=0,
        description="seconds that one listing may take, and its waits for a rate limit (300, the Hub's window, if that is more)",
    )

    @field_validator("memory", "cache", "hub_memory", "hub_received", "hub_unpacked", "hub_header", mode="before")
    @classmethod
    def _bytes(cls, value: object) -> object:
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


class RegisteredProbe(BaseModel):
    """A probe that requests may name, with the options that the operator chose for it. A plain text is the probe's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probe: str = Field(min_length=1, description="causal-lm, image-classifier, an installed probe, or module:object")
    tokenizer: Path | None = Field(default=None, description="folder of a tokenizer")

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return {"probe": value} if isinstance(value, str) else value


class ServiceSettings(Settings):
    """Settings that all processes of the service share."""

    database: str = Field(
        default="", description="`sqlite:///FILE` or `postgresql://…`; by default `jobs.db` in the store"
    )
    roots: dict[str, Path] = Field(default={}, description="data roots: folders that submissions may name by an id")
    rules_files: dict[str, Path] = Field(default={}, description="rules files that submissions may name by an id")
    probes: dict[str, RegisteredProbe] = Field(
        default={},
        description="probes for gradients, by an id: `causal-lm`, `module:object`, or a table with `probe` and `tokenizer`",
    )
    gradient_data: dict[str, Path] = Field(
        default={}, description="files of examples that jobs of gradients may name by an id"
    )
    scheduler: str | None = Field(default=None, description="address of a dask scheduler; else one is started here")
    workers: int = Field(default=0, ge=0, description="dask workers of an embedded cluster; 0: one a core")
    job_memory: int = Field(default=2**30, description="bytes of memory that one job may ask for")
    job_checkpoints: int = Field(default=10_000, ge=0, description="checkpoints that one job may have; 0: no limit")
    job_bytes: int = Field(default=2**46, ge=0, description="bytes that one job may read; 0: no limit")
    job_seconds: float = Field(default=7 * 86400.0, ge=0, description="seconds that one attempt may take; 0: no limit")
    token: str | None = Field(default=None, description="secret of a first token, with all scopes")
    auth: bool | None = Field(default=None, description="require tokens; by default on any but the loopback address")
    hosts: tuple[str, ...] = Field(
        default=(), description="host names by which clients reach the server, beside its address"
    )
    http_connections: int = Field(
        default=1024,
        ge=8,
        le=2**16,
        description="open connections to the server, at most half of its descriptors (`ulimit -n`); beyond them the longest idle one is "
        "closed, and three quarters of them may be answered at once",
    )
    quota_running: int = Field(default=4, ge=0, description="simultaneously running jobs of one token")
    quota_queued: int = Field(default=1000, ge=0, description="waiting jobs of one token")
    quota_per_minute: int = Field(default=600, ge=0, description="submissions of one token within a minute")
    hub_requests: int = Field(
        default=4, ge=1, le=1000, description="submissions, plans and audits that use the Hub simultaneously"
    )
    plans: int = Field(default=2, ge=1, le=100, description="simultaneous plans and audits of folders")
    plan_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86400.0,
        description="seconds that a plan, an audit or the check of a submission may take before it is ended",
    )
    answers: int = Field(default=4, ge=1, le=100, description="results (JSON, csv, arrays) made simultaneously")
    drawings: int = Field(default=2, ge=1, le=100, description="figures and exports made simultaneously")
    answer_seconds: float = Field(
        default=300.0,
        gt=0,
        le=86400.0,
        description="seconds that a result, a figure or an export may take before it is ended",
    )
    answer_memory: int = Field(
        default=2**31, ge=2**26, description="bytes of memory that a result, a figure or an export may take"
    )
    patience: float = Field(default=600.0, gt=0, description="seconds that a job waits for a scheduler or for workers")

    @field_validator("job_memory", "job_bytes", "answer_memory", mode="before")
    @classmethod
    def _memory(cls, value: object) -> object:
        return parse_bytes(value) if isinstance(value, str) else value

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.store.resolve() / 'jobs.db'}"


def parse_bytes(text: str) -> int:
    """Parse a size with an optional unit into bytes. Raises UsageError (``bad-size``).

    >>> parse_bytes("512MiB"), parse_bytes("2 GB"), parse_bytes("1e9")
    (536870912, 2000000000, 1000000000)
    """
    # The pattern takes time quadratic in the text.
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([a-zA-Z]*)\s*", text) if len(text) <= LONGEST else None
    unit = _UNITS.get(match.group(2).lower()) if match else None
    value = math.inf if match is None or unit is None else float(match.group(1)) * unit
    if not math.isfinite(value):
        hint = "Write a number and a unit: 512MiB, 2GiB, 1.5GB."
        raise UsageError("bad-size", f"{text[:LONGEST]!r} is not a size", hint=hint)
    return int(value)


def parse_share(text: str) -> float:
    """Parse a percentage or a fraction in (0, 1]. Raises UsageError (``bad-share``).

    >>> parse_share("1%"), parse_share("0.05")
    (0.01, 0.05)
    """
    try:
        value = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise UsageError("bad-share", f"{text!r} is not a share", hint="Write a percentage or a fraction: 1%, 0.05.")
    return value
