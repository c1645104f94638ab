"""``trajsvc doctor``: check whether this machine has what trajsvc uses, and how fast it is."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from trajsvc.cli.options import FormatOption, StoreOption
from trajsvc.cli.output import choose, emit, json_text, results_console, safe
from trajsvc.errors import EXIT_FAILED

LIBRARIES = ("numpy", "torch", "zarr", "xarray", "safetensors", "matplotlib", "xxhash", "isal")


def register(app: typer.Typer) -> None:
    """Add ``doctor`` to ``app``."""
    app.command("doctor")(doctor)


def doctor(store: StoreOption = None, form: FormatOption = None) -> None:
    """Check libraries, devices, threads, arithmetic and the store; exit code 1 when something is wrong."""
    from trajsvc.results.run import default_store

    kind = choose(form, None, ())
    facts = examine(store or default_store())
    if kind == "json":
        emit(json_text(facts), None)
    else:
        console = results_console()
        for name, value in facts.items():
            if name != "problems":
                console.print(f"[bold]{name:<12}[/bold]{safe(str(value))}")
        for problem in facts["problems"]:
            console.print(f"[red]problem[/red]     {safe(problem)}")
        if not facts["problems"]:
            console.print("[green]all is well[/green]")
    if facts["problems"]:
        raise typer.Exit(EXIT_FAILED)


def examine(store: Path) -> dict[str, Any]:
    """Examine this machine and return what was found, as plain values."""
    from trajsvc.settings import Settings

    problems: list[str] = []
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            problems.append(f"{library} is not installed: pip install trajsvc")
    settings = Settings()
    facts: dict[str, Any] = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "libraries": ", ".join(f"{k} {v}" for k, v in versions.items()),
        "threads": settings.threads,
        "memory": f"{settings.memory // 2**20} MiB",
        "blas": _blas(),
        "devices": _devices(),
        "store": str(store),
    }
    facts["multiplies"] = f"{_rate(settings.threads) / 1e9:.0f} GFLOP/s at 64 checkpoints"
    existing = next(p for p in [store, *store.absolute().parents] if p.exists())
    facts["free"] = f"{shutil.disk_usage(existing).free / 1e9:.0f} GB at {existing}"
    if not _writable(existing):
        problems.append(f"{existing} cannot be written: choose another store with --store or TRAJSVC_STORE")
    return facts | {"problems": problems}


def _blas() -> str:
    import numpy  # noqa: F401  (loads the library that is asked about)
    from threadpoolctl import threadpool_info

    return ", ".join(sorted({f"{i['internal_api']} {i.get('version')}" for i in threadpool_info()})) or "unknown"


def _devices() -> str:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ", ".join(["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))])


def _rate(threads: int) -> float:
    from trajsvc.analysis.forecast import kernel_rate

    return kernel_rate(64, threads)


def _writable(folder: Path) -> bool:
    import os

    return os.access(folder, os.W_OK)
