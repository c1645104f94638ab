"""``trajsvc plan``: what an analysis would read, cost and keep, said from headers alone."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from trajsvc.cli.analyze import (
    DeviceOption,
    HeadsOption,
    MemoryOption,
    NameOption,
    RulesOption,
    SelectOption,
    SkipOption,
    SourceArgument,
    ThreadsOption,
    make_options,
)
from trajsvc.cli.options import FormatOption, QuietOption, StoreOption
from trajsvc.cli.output import choose, emit, json_text, results_console, safe
from trajsvc.cli.progress import size
from trajsvc.errors import EXIT_PARTLY

if TYPE_CHECKING:
    from trajsvc.analysis import Options
    from trajsvc.gram.plan import Plan
    from trajsvc.trajectory import Trajectory

SHOWN = 8
DISK_RATE = 1e9
"""Bytes a second that a good disk gives; from the page cache the arithmetic is the limit."""
OVERHEAD = 1.5
"""Reading, widening and differencing take about half as long again as the products."""
DEVICE_RATE = 5e12
"""What a data-centre GPU does in float64 when the bus keeps up."""


def register(app: typer.Typer) -> None:
    """Add ``plan`` to ``app``."""
    app.command("plan", epilog="Example:  trajsvc plan checkpoints/my-run --memory 256MiB")(plan)


def plan(
    source: SourceArgument,
    store: StoreOption = None,
    name: NameOption = None,
    steps: SelectOption = None,
    memory: MemoryOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    rules: RulesOption = None,
    heads: HeadsOption = None,
    skip_damaged: SkipOption = False,
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Say what would be read, how long it takes, what it needs, and what was recognised. Reads no tensor."""
    from trajsvc.analysis import plan_of
    from trajsvc.sources.resolve import open_source
    from trajsvc.trajectory import open_trajectory

    kind = choose(form, None, ())
    options = make_options(
        memory=memory, preview=None, rules=rules, steps=steps, threads=threads, device=device, heads=heads,
        skip_damaged=skip_damaged,
    )  # fmt: skip
    opened = open_source(source)
    try:
        trajectory = open_trajectory(
            opened, steps=options.steps, rules=options.rules, heads=options.heads, skip_damaged=skip_damaged
        )
        facts = describe(trajectory, plan_of(trajectory, options), options, name)
    finally:
        opened.close()
    if kind == "json":
        emit(json_text(facts), None)
    else:
        render(facts)
    if trajectory.excluded:
        raise typer.Exit(EXIT_PARTLY)


def describe(trajectory: Trajectory, plan: Plan, options: Options, name: str | None) -> dict[str, Any]:
    """The plan as plain values."""
    from trajsvc.anatomy.groups import groups
    from trajsvc.assemble import block_table

    rows, blocks = trajectory.rows, trajectory.anatomy.blocks
    rate = DEVICE_RATE if options.device != "cpu" else kernel_rate(len(rows), plan.threads) / OVERHEAD
    flops = 2.0 * len(rows) ** 2 * trajectory.parameters
    return {
        "source": trajectory.source.uri,
        "name": name or trajectory.source.name,
        "formats": dict(Counter(r.checkpoint.format for r in rows)),
        "dtypes": dict(Counter(r.dtype for r in rows)),
        "steps": [r.step for r in rows],
        "architecture": trajectory.anatomy.architecture,
        "parameters": trajectory.parameters,
        "tensors": len(trajectory.columns),
        "blocks": len(blocks),
        "groups": len(groups(trajectory.anatomy)),
        "components": _components(trajectory),
        "left_out": dict(trajectory.anatomy.left_out),
        "excluded": [{"step": e.step, "label": e.label, "reason": e.reason} for e in trajectory.excluded],
        "findings": [f.model_dump() for f in trajectory.findings],
        "bytes": trajectory.bytes,
        "slabs": len(plan.slabs),
        "preview_bytes": sum(plan.slab_read_bytes(s) for s in plan.slabs[: plan.sample_slabs]),
        "threads": plan.threads,
        "memory": plan.projected_memory,
        "seconds": flops / rate,
        "seconds_from_disk": max(flops / rate, trajectory.bytes / DISK_RATE),
        "store_bytes": len(blocks) * len(rows) * len(rows) * 8 + len(block_table(trajectory).name) * len(rows) * 16,
        "copy_bytes": trajectory.bytes,
    }


def _components(trajectory: Trajectory) -> dict[str, int]:
    count: Counter[str] = Counter()
    for block in trajectory.anatomy.blocks:
        count[block.component or "other"] += block.size
    return dict(count.most_common())


def kernel_rate(rows: int, threads: int) -> float:
    """2 T² P flops a second that this machine's kernel does, from a tenth of a second of multiplying."""
    import time

    import numpy as np

    from trajsvc.gram.engine import one_blas_thread
    from trajsvc.gram.kernel import inner_products
    from trajsvc.gram.plan import chunk_width

    width = chunk_width(rows)
    work = np.random.default_rng(0).standard_normal((rows, width), dtype=np.float32)
    with one_blas_thread():
        inner_products(work, rows)
        begun, rounds = time.perf_counter(), 0
        while time.perf_counter() - begun < 0.1:
            inner_products(work, rows)
            rounds += 1
        took = time.perf_counter() - begun
    return 2.0 * rows**2 * width * rounds / took * min(threads, os.cpu_count() or 1)


def render(facts: dict[str, Any]) -> None:
    """The plan for a person."""
    console = results_console()

    def line(label: str, text: str) -> None:
        console.print(f"[bold]{label:<13}[/bold]{text}")

    line("source", safe(facts["source"]))
    steps = facts["steps"]
    kinds = ", ".join(f"{n} {k}" for k, n in facts["formats"].items())
    line("checkpoints", f"{len(steps)}, steps {steps[0]} … {steps[-1]} ({kinds}; {', '.join(facts['dtypes'])})")
    line("recognised", f"{facts['architecture']}: {facts['parameters']:,} parameters in {facts['tensors']} tensors, "
         f"{facts['blocks']} blocks, {facts['groups']} groups")  # fmt: skip
    total = max(1, facts["parameters"])
    line("components", " · ".join(f"{safe(k)} {n / total:.0%}" for k, n in list(facts["components"].items())[:10]))
    if facts["left_out"]:
        names = [f"{safe(n)} ({safe(why)})" for n, why in list(facts["left_out"].items())[:SHOWN]]
        more = len(facts["left_out"]) - len(names)
        line("left out", "\n             ".join(names) + (f"\n             and {more} more" if more > 0 else ""))
    line("would read", f"{size(facts['bytes'])}, each byte once, in {facts['slabs']} slabs "
         f"(a preview: {size(facts['preview_bytes'])})")  # fmt: skip
    line("time", f"about {duration(facts['seconds'])} from the page cache, {duration(facts['seconds_from_disk'])} "
         f"from a disk at 1 GB/s, {facts['threads']} threads")  # fmt: skip
    line("memory", f"{size(facts['memory'])} beside the interpreter")
    line("disk", f"{size(facts['store_bytes'])}; with --copy {size(facts['store_bytes'] + facts['copy_bytes'])}")
    for left in facts["excluded"]:
        console.print(f"[yellow]left out[/yellow]     step {left['step']}: {safe(left['reason'])}")
    for finding in facts["findings"][: 2 * SHOWN]:
        console.print(f"[yellow]{safe(finding['kind'])}[/yellow]  {safe(finding['message'])}")
    console.print(f"\n[dim]trajsvc analyze {safe(facts['source'])}[/dim]")


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``2.5 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
