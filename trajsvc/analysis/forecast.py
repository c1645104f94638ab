"""Forecast what an analysis reads, needs and stores, from headers alone; for a run on the Hub also what is missing and
the network's rate.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from trajsvc.analysis.selected import row_bytes, widths_of
from trajsvc.gram.plan import Plan
from trajsvc.sources.base import ReadRequest, RemoteReading
from trajsvc.sources.ranges import MergedRange
from trajsvc.trajectory.download import contents
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.tables import axis_of, block_table
from trajsvc.trajectory.windows import Cost, reading_cost

if TYPE_CHECKING:
    from trajsvc.analysis.options import Options
    from trajsvc.gram.engine import Progress

DISK_RATE = 1e9
"""Bytes a second that a good disk gives; from the page cache the arithmetic is the limit."""
OVERHEAD = 1.5
"""Reading and fingerprints take about half as long again as the products."""
DEVICE_RATE = 5e12
"""What a data-centre GPU does in float64 when the bus keeps up."""
PROBE: Final = 2**25
"""Bytes that are read to measure a rate."""
PROBES: Final = 16


def describe(trajectory: Trajectory, plan: Plan, options: Options, name: str | None) -> dict[str, Any]:
    """Describe the plan as plain values."""
    from trajsvc.anatomy.groups import groups

    rows, blocks = trajectory.rows, trajectory.anatomy.blocks
    rate = DEVICE_RATE if options.device != "cpu" else kernel_rate(len(rows), plan.threads, plan.precision) / OVERHEAD
    flops = 2.0 * len(rows) ** 2 * trajectory.parameters
    learnt = trajectory.source.training_log([r.checkpoint for r in rows]).learning_rate
    facts = {
        "source": trajectory.source.uri,
        "name": name or trajectory.source.name,
        "formats": dict(Counter(r.checkpoint.format for r in rows)),
        "dtypes": dict(Counter(r.dtype for r in rows)),
        "axis": axis_of(trajectory),
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
        "learning_rate": None if learnt is None else learnt.model_dump(),
        "bytes": trajectory.bytes,
        "slabs": len(plan.slabs),
        "preview_bytes": sum(plan.slab_read_bytes(s) for s in plan.slabs[: plan.sample_slabs]),
        "threads": plan.threads,
        "memory": plan.projected_memory,
        "disk_meanwhile": plan.file_bytes,
        "seconds": flops / rate,
        "seconds_from_disk": max(flops / rate, trajectory.bytes / DISK_RATE),
        "rows": sum(block.size // width for block, width in zip(blocks, widths_of(trajectory), strict=True) if width),
        "row_bytes": row_bytes(trajectory),
        "keeps_rows": bool(plan.row_widths),
        "gram_bytes": len(blocks) * len(rows) * len(rows) * 8,
        "store_bytes": len(blocks) * len(rows) * len(rows) * 8
        + len(block_table(trajectory).name) * len(rows) * 16
        + (row_bytes(trajectory) if plan.row_widths else 0),
        "copy_bytes": trajectory.bytes,
    }
    if (remote := trajectory.source.remote) is not None:
        facts |= _network(trajectory, plan, remote, flops / rate)
    return facts


def _network(trajectory: Trajectory, plan: Plan, source: RemoteReading, seconds: float) -> dict[str, Any]:
    """Describe what a run on the Hub has, and what reading it takes in both modes."""
    asked = source.asked()
    whole = contents(trajectory, source)
    files = [f for r in trajectory.rows for f in r.checkpoint.files if not f.path.endswith(".json")]
    room = source.cache.room if source.cache is not None else 0
    ranges, sample = reading_cost(trajectory, plan, room), reading_cost(trajectory, plan, room, sample=True)
    once = Cost(sum(len(MergedRange(c.file, 0, c.size, ()).requests()) for c in whole), sum(c.size for c in whole))
    rate = measured_rate(trajectory)
    largest = max((c.size for c in whole), default=0)
    return {
        "revisions": source.outline(),
        "files": len(files),
        "file_bytes": sum(f.size for f in files),
        "duplicate_files": len(files) - len({f.sha256 for f in files}),
        "duplicate_bytes": sum(f.size for f in files) - sum(c.size for c in whole),
        "headers": {"requests": asked.requests, "bytes": asked.bytes},
        "bytes_a_second": rate,
        "no_copy": _mode(ranges, rate, seconds, disk=min(room, ranges.bytes))
        | {"preview": _mode(sample, rate, 0.0, disk=min(room, sample.bytes))},
        "copy": _mode(once, rate, 0.0, disk=trajectory.bytes + max(min(room, once.bytes), largest)),
    }


def _mode(cost: Cost, rate: float, computing: float, *, disk: int) -> dict[str, Any]:
    seconds = max(computing, cost.bytes / rate) if rate else None
    return {"requests": cost.requests, "bytes": cost.bytes, "seconds": seconds, "disk": disk}


def measured_rate(trajectory: Trajectory) -> float:
    """Measure bytes a second over the network by reading the beginning of the largest tensor of some checkpoints,
    several at once.

    ``PROBE`` bytes are read, or a fiftieth of a small run.
    """
    probe = min(PROBE, max(2**18, trajectory.bytes // 50))
    column = max(range(len(trajectory.columns)), key=lambda c: trajectory.columns[c].size)
    places = [r.entries[column] for r in trajectory.rows[:: max(1, len(trajectory.rows) // PROBES)]][:PROBES]
    share = [min(probe // len(places), e.storage_nbytes or 0) for e in places]
    wanted = [
        ReadRequest(e.file, e.offset, (memoryview(bytearray(n)),)) for e, n in zip(places, share, strict=True) if n
    ]
    begun = time.perf_counter()
    trajectory.source.read_many(wanted)
    took = time.perf_counter() - begun
    return sum(w.nbytes for w in wanted) / took if wanted and took > 0 else 0.0


def _components(trajectory: Trajectory) -> dict[str, int]:
    count: Counter[str] = Counter()
    for block in trajectory.anatomy.blocks:
        count[block.component or "other"] += block.size
    return dict(count.most_common())


def kernel_rate(rows: int, threads: int, precision: str = "float64") -> float:
    """Measure the flops a second (2 T² P for a run) of this machine's kernel by a tenth of a second of multiplying."""
    import numpy as np

    from trajsvc.anatomy.blocks import Extent
    from trajsvc.gram.kernels.base import RowGroup
    from trajsvc.gram.kernels.fused import WINDOW, FusedKernel
    from trajsvc.gram.pairs import pair_count

    values = np.random.default_rng(0).standard_normal((rows, WINDOW), dtype=np.float32)
    stored = [RowGroup(0, "float32", values.view(np.uint8))]
    kernel, extent = FusedKernel(rows, rows, precision), Extent(1, WINDOW, 0, WINDOW)
    sums, nonfinite = np.zeros((2, pair_count(rows, rows))), np.zeros(rows, np.int64)
    kernel.multiply(stored, extent, 0, WINDOW, sums, nonfinite)
    begun, rounds = time.perf_counter(), 0
    while time.perf_counter() - begun < 0.1:
        kernel.multiply(stored, extent, 0, WINDOW, sums, nonfinite)
        rounds += 1
    took = time.perf_counter() - begun
    return 2.0 * rows**2 * WINDOW * rounds / took * min(threads, os.cpu_count() or 1)


def network_mds(progress: Progress) -> tuple[float | None, float | None]:
    """Return the network's MDS from the sums so far and its standard error.

    None if undefined, while checkpoints are appended, and where the sums lie on disk.
    """
    import math

    import numpy as np
    from numpy.typing import NDArray

    from trajsvc.gram.estimate import group_replicates
    from trajsvc.measures.base import GroupGram
    from trajsvc.measures.jackknife import with_error
    from trajsvc.measures.maps import mds

    plan = progress.state.plan
    if plan.new < plan.rows or plan.on_disk:
        return None, None
    steps, unknown = np.arange(plan.rows), np.full(plan.rows, np.nan)

    def network(gram: NDArray[np.float64]) -> float:
        return float(mds(GroupGram("network", steps, gram, 1, unknown)))

    value, error = (float(v) for v in with_error(network, *group_replicates(progress.state, range(plan.blocks))))
    return value if math.isfinite(value) else None, error if math.isfinite(error) else None
