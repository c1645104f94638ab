"""What sets of gradients and their measures cost, in time and memory, against the size of the network.

Every set is computed in a process of its own, so that its memory is its own; what they import is imported once, by the process that
they are forked from. Source: *Conditioning* (Nelson, thesis), figure 4.10.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trajsvc.anatomy.dissect import dissect
from trajsvc.errors import LimitExceeded
from trajsvc.experiments.data import digits
from trajsvc.experiments.networks import deep
from trajsvc.experiments.probe import SplitProbe
from trajsvc.gradients.network import Network
from trajsvc.gradients.options import SET_KINDS, GradientOptions, SetKind
from trajsvc.gradients.set_grams import SetGrams
from trajsvc.gradients.sets.base import SetJob
from trajsvc.measures.gradients.registry import measures_of
from trajsvc.measures.gradients.sample import GroupSample
from trajsvc.sources.base import never

if TYPE_CHECKING:
    import torch

DEPTH: Final = 24
_IMPORTED: Final = ("torch", "sklearn.datasets", "trajsvc.experiments.cost", "trajsvc.gradients.sets.choose")
_INTERVAL: Final = 0.002
_LONG: Final = 20.0
"""seconds of a set after which it is not repeated: what else the machine does matters little beside them"""
_STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True)
class Load:
    """How much is computed: examples, examples of a batch, directions of perturbed sets, and the bytes that may be held."""

    examples: int = 16
    batch: int = 4
    directions: int = 4
    memory: int = 2**30
    repeats: int = 1


@dataclass(frozen=True)
class Cost:
    """The cost of one set: processor seconds of one core, the least of the repeats; and the largest memory above that of the
    network and the data, in bytes. ``measures`` are seconds of each measure of it, from its Gram. ``refused`` says why there are none.
    """

    kind: SetKind
    parameters: int
    vectors: int = 0
    seconds: float = float("nan")
    bytes: int = 0
    measures: Mapping[str, float] | None = None
    refused: str = ""


def costs(
    parameters: Sequence[int],
    kinds: Sequence[SetKind] = SET_KINDS,
    load: Load = Load(),
    stop: Callable[[], bool] = never,
) -> Iterator[Cost]:
    """Measure every set of ``kinds`` for networks of about so many ``parameters``, each in a new process."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    for count in parameters:
        for kind in kinds:
            if stop():
                return
            with ProcessPoolExecutor(1, mp_context=context) as alone:
                yield alone.submit(cost_of, kind, count, load).result()


def cost_of(kind: SetKind, parameters: int, load: Load) -> Cost:
    """Measure one set in this process, which had better be new."""
    import torch

    torch.set_num_threads(1)
    computed(kind, network_of(2000, 0), replace(load, memory=2**29))  # what libraries do when they are first called
    network = network_of(parameters, 0)
    size = sum(p.numel() for p in network.parameters())
    seconds = []
    with peak_memory() as peak:
        for _ in range(load.repeats):
            begun = time.process_time()
            try:
                found = computed(kind, network, load)
            except LimitExceeded as error:
                return Cost(kind, size, refused=error.message)
            seconds.append(time.process_time() - begun)
            if sum(seconds) > _LONG:
                break
    beside = found if kind == "example" else computed("example", network, load) if kind == "batch" else None
    return Cost(kind, size, found.n, min(seconds), peak(), _measured(found, beside))


def network_of(parameters: int, seed: int) -> torch.nn.Module:
    """Make a perceptron of 24 layers of equal width on the digits, of about so many parameters, in float64."""
    import torch

    torch.manual_seed(seed)
    linear = 75 + DEPTH - 1  # per unit: 64 inputs and a bias, 10 outputs, biases of the layers between
    width = max(1, round(((linear**2 + 4 * (DEPTH - 1) * parameters) ** 0.5 - linear) / (2 * (DEPTH - 1))))
    return deep("plain", DEPTH, width).double().eval()


def computed(kind: SetKind, network: torch.nn.Module, load: Load) -> SetGrams:
    """Compute one set; sets of several checkpoints take another initialisation as the other one."""
    blocks = dissect({n: (tuple(p.shape), "float64") for n, p in network.named_parameters()}).blocks
    choices: dict[str, Any] = {"anchor": 1} if kind == "anchored" else {}
    options = GradientOptions(
        probe="memory", data="memory", sets=(kind,), examples=load.examples, batch=load.batch, directions=load.directions,
        memory=load.memory, **choices,
    )  # fmt: skip

    def elsewhere(step: int) -> Network:
        return Network(network_of(sum(p.numel() for p in network.parameters()), step), blocks, blocks, step)

    job = SetJob(
        Network(network, blocks, blocks, 0), SplitProbe(digits()[0]), options, elsewhere=elsewhere, steps=(0, 1)
    )
    from trajsvc.gradients.sets.choose import compute_sets  # imports torch

    return compute_sets(job, [kind])[kind]


def sample_of(found: SetGrams, beside: SetGrams | None = None) -> GroupSample:
    """Return what measures of the whole network are computed from; ``beside`` is the set ``example`` of the same network."""
    sums = {name: values.sum(axis=0) for name, values in found.scalars.items()}
    others = {} if beside is None else {beside.kind: beside.group(range(len(beside.blocks)))}
    return GroupSample(found.group(range(len(found.blocks))), sums, sums, found.facts, others)


def _measured(found: SetGrams, beside: SetGrams | None) -> dict[str, float]:
    """Seconds of every measure of a set, the least of three, each from a Gram of which nothing is known yet."""
    rows = [m for m in measures_of(found.kind) if set(m.scalars) <= set(found.scalars)]
    return {row.name: min(_seconds(row.compute, sample_of(found, beside)) for _ in range(3)) for row in rows}


def _seconds(function: Callable[[GroupSample], Any], sample: GroupSample) -> float:
    begun = time.perf_counter()
    function(sample)
    return time.perf_counter() - begun


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Watch this process's anonymous memory; afterwards what is given returns its peak above the beginning, in bytes (Linux; else 0)."""
    before, done = anonymous_memory(), threading.Event()
    most = [before]

    def watch() -> None:
        while not done.wait(_INTERVAL):
            most[0] = max(most[0], anonymous_memory())  # never empty: it is read meanwhile

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: most[0] - before
    finally:
        done.set()
        watcher.join()


def anonymous_memory() -> int:
    """Bytes of memory of this process that are no file's."""
    if not _STATUS.exists():
        return 0
    lines = (line for line in _STATUS.read_text().splitlines() if line.startswith("RssAnon:"))
    return next((int(line.split()[1]) * 1024 for line in lines), 0)
