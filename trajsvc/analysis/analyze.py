"""``trajsvc.analyze``: analyse a source with a pool of threads into a store of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajsvc.analysis.job import AnalysisJob
from trajsvc.analysis.options import Options, rules_text
from trajsvc.analysis.pipeline import run_analysis
from trajsvc.analysis.selected import source_of
from trajsvc.errors import UsageError
from trajsvc.gram.thread_pool import ThreadPool
from trajsvc.results.run import Run
from trajsvc.results.run import open as open_run
from trajsvc.settings import Settings
from trajsvc.sources.base import CheckpointSource

if TYPE_CHECKING:
    from storage_schema.models.audit import AuditAnswer
    from trajsvc.anatomy.architectures import Rules


def analyze(
    source: str | Path | CheckpointSource,
    *,
    store: str | Path | None = None,
    name: str | None = None,
    steps: str | Sequence[int] | None = None,
    state: str | None = None,
    step_pattern: str | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    dtype: str | None = None,
    rules: str | Path | Rules | None = None,
    exclude: str | Sequence[str] = (),
    rename: str | Sequence[str] = (),
    heads: int | None = None,
    copy: bool | None = None,
    archive: bool = False,
    rows: bool | None = None,
    preview: str | float | None = None,
    recompute: bool = False,
    replace: bool = False,
    skip_damaged: bool = False,
    revisions: str | Sequence[str] = (),
    commits: str | None = None,
    cache: str | int | None = None,
    connections: int | None = None,
) -> Run:
    """Analyse a sequence of checkpoints and return the run, whose measures are labelled xarray objects.

    Args:
        source: a folder, a glob, ``hf://org/name``, or a CheckpointSource.
        store, name: where the result is kept; by default ``TRAJSVC_STORE`` or ``./trajsvc-store``, and the folder's name.
            Another run that is stored under the name is an error (``run-exists``) unless ``replace`` is set.
        rules: a rules file, or rules that ``load_rules`` has read.
        others: the fields of ``trajsvc.analysis.options.Options``, which describe themselves. Sizes may be written ``"512MiB"``,
            shares ``"1%"``; None is the default.

    Called again it resumes an interrupted analysis, appends new checkpoints, or returns what is there. ``preview="1%"`` stops at an
    estimate. On the Hub, ``copy=False`` keeps nothing but the Grams.

    Raises:
        TrajsvcError: of one of its kinds (``trajsvc.errors``), with what to do next.
    """
    options = Options.of(
        steps=steps, memory=memory, threads=threads, device=device, precision=precision, dtype=dtype, rules=_text(rules),
        heads=heads, copy_parameters=copy, archive=archive, rows=rows, preview=preview, recompute=recompute, replace=replace,
        skip_damaged=skip_damaged, revisions=revisions, commits=commits, cache=cache, connections=connections,
        exclude=exclude, rename=rename, state=state, step_pattern=step_pattern,
    )  # fmt: skip
    place = Path(store or Settings().store)
    opened = source_of(source, options, place) if isinstance(source, str | Path) else source
    try:
        outcome = run_analysis(AnalysisJob(opened, place, name, options, ThreadPool(options.threads)))
    finally:
        opened.close()
    return open_run(outcome.store, outcome.name)


def audit(
    source: str | Path | CheckpointSource,
    *,
    store: str | Path | None = None,
    **choices: Any,
) -> AuditAnswer:
    """Report what is wrong with a published run, from listings, digests and headers alone.

    Found are copies, stray shards, missing, empty or unreadable revisions, and names, shapes and stored types that
    change.

    ``choices`` are the fields of ``trajsvc.analysis.options.Options`` that say what the run is (``steps``,
    ``revisions``, ``commits``, ``heads`` …). Raises TrajsvcError if the source cannot be listed.
    """
    from trajsvc.analysis.audit import audit as examine

    options = Options.of({**choices, "rules": _text(choices.get("rules"))})
    place = Path(store or Settings().store)
    opened = source_of(source, options, place) if isinstance(source, str | Path) else source
    try:
        return examine(opened, options)
    finally:
        opened.close()


def _text(rules: str | Path | Rules | None) -> str | None:
    if rules is None:
        return None
    if isinstance(rules, str | Path):
        return rules_text(rules)
    if not rules.text:
        raise UsageError(
            "bad-rules", "rules that were not read from TOML", hint="Give a file, or what load_rules returns."
        )
    return rules.text
