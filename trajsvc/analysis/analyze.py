"""Everything on this machine: ``trajsvc.analyze``, which puts a source, a pool of threads and a store together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trajsvc.analysis.options import Options, check_dtype
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.results.run import Run
from trajsvc.results.run import open as open_run
from trajsvc.settings import Settings, parse_bytes, parse_share
from trajsvc.sources.base import CheckpointSource
from trajsvc.sources.resolve import open_named

if TYPE_CHECKING:
    from trajsvc.anatomy.architectures import Rules


def analyze(
    source: str | Path | CheckpointSource,
    *,
    store: str | Path | None = None,
    name: str | None = None,
    steps: str | Sequence[int] | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: str = "float32",
    dtype: str | None = None,
    rules: str | Path | Rules | None = None,
    heads: int | None = None,
    copy: bool | None = None,
    archive: bool = False,
    preview: str | float | None = None,
    recompute: bool = False,
    skip_damaged: bool = False,
    revisions: str | Sequence[str] = (),
    commits: str | None = None,
    cache: str | int | None = None,
    connections: int | None = None,
) -> Run:
    """Analyse a sequence of checkpoints and return the run, whose measures are labelled xarray objects.

    ``source`` is a folder, a glob, ``hf://org/name`` or a CheckpointSource; ``store`` and ``name`` say where the result is kept (default:
    ``TRAJSVC_STORE`` or ``./trajsvc-store``, and the folder's name); ``memory`` is the engine's budget (``"512MiB"``). ``dtype``
    rounds values to float16, bfloat16 or float32 first, as if the run had been stored so. Called again
    it resumes an interrupted analysis, appends new checkpoints, or returns what is there. ``preview="1%"`` stops at an
    estimate. On the Hub, ``revisions`` (globs, or regular expressions with named groups) or ``commits`` (a branch) say which
    revisions are the run, ``copy=False`` keeps nothing but the Grams, ``cache`` is the disk for what is read ahead. Raises TrajsvcError.
    """
    settings = Settings()
    options = Options(
        steps=steps,
        memory=parse_bytes(memory) if isinstance(memory, str) else memory or settings.memory,
        threads=threads or settings.threads,
        device=device or settings.device,
        precision=precision,
        dtype=check_dtype(dtype),
        rules=load_rules_of(rules),
        heads=heads,
        copy=copy,
        archive=archive,
        preview=parse_share(preview) if isinstance(preview, str) else preview,
        recompute=recompute,
        skip_damaged=skip_damaged,
    )
    place = Path(store or settings.store)
    opened = (
        open_named(source, place, revisions, commits, cache, connections) if isinstance(source, str | Path) else source
    )
    try:
        outcome = run_analysis(opened, place, name, options, ThreadPool(options.threads))
    finally:
        opened.close()
    return open_run(outcome.store, outcome.name)


def load_rules_of(rules: str | Path | Rules | None) -> Rules | None:
    """Rules read from a file; rules that are rules already."""
    if isinstance(rules, str | Path):
        from trajsvc.anatomy.rules_toml import load_rules

        return load_rules(rules)
    return rules
