"""Time and memory of every set of gradients, and time of every measure, against the number of parameters; the table and a figure.

Run it as ``python benchmarks/gradient_cost.py -o docs/images/gradient-cost.png``. Opacus and BackPACK, which are no dependencies of this
project, are measured where they give the same number, and must agree; ``--libraries DIR`` names the folder that has them: ``pip install
--target DIR --no-deps opacus backpack-for-pytorch opt_einsum einops unfoldNd``. Every row is measured in a process of its own, on one core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import nn

from trajsvc.experiments.cost import Cost, Load, computed, costs, network_of, peak_memory, sample_of
from trajsvc.experiments.data import digits
from trajsvc.gradients.options import SET_KINDS
from trajsvc.measures.gradients.estimators import average_variance

TOLERANCE = 1e-9
Number = Callable[[nn.Module, Load], np.ndarray]


def examples(load: Load) -> tuple[torch.Tensor, torch.Tensor]:
    split = digits()[0]
    return split.x[: load.examples].double(), split.y[: load.examples]


def ours_gram(network: nn.Module, load: Load) -> np.ndarray:
    return sample_of(computed("example", network, load)).gram.gram


def ours_norms(network: nn.Module, load: Load) -> np.ndarray:
    return np.diag(ours_gram(network, load))


def ours_variance(network: nn.Module, load: Load) -> np.ndarray:
    gram = sample_of(computed("example", network, load)).gram
    return np.array([average_variance(gram, 1) * gram.parameters])


def backpack_gradients(network: nn.Module, load: Load, extension: Any) -> list[nn.Parameter]:
    import backpack

    x, y = examples(load)
    backpack.extend(network)
    loss = backpack.extend(nn.CrossEntropyLoss(reduction="sum"))
    with backpack.backpack(extension):
        loss(network(x), y).backward()
    return list(network.parameters())


def gram_of(rows: Any) -> np.ndarray:
    total = 0.0
    for tensor in rows:
        flat = tensor.detach().reshape(len(tensor), -1)
        total = total + flat @ flat.T
    return total.numpy()


def backpack_gram(network: nn.Module, load: Load) -> np.ndarray:
    from backpack.extensions import BatchGrad

    return gram_of(p.grad_batch for p in backpack_gradients(network, load, BatchGrad()))


def backpack_norms(network: nn.Module, load: Load) -> np.ndarray:
    from backpack.extensions import BatchL2Grad

    return sum(p.batch_l2 for p in backpack_gradients(network, load, BatchL2Grad())).numpy()


def backpack_variance(network: nn.Module, load: Load) -> np.ndarray:
    """BackPACK's ``Variance``, summed over coordinates: of the examples' terms of a mean loss, so N² of what it is of a sum."""
    from backpack.extensions import SumGradSquared

    n = load.examples
    found = backpack_gradients(network, load, SumGradSquared())
    squares = sum(float(p.sum_grad_squared.sum()) for p in found)
    mean = sum(float((p.grad / n).pow(2).sum()) for p in found)
    return np.array([squares / n - mean])


def opacus_gram(network: nn.Module, load: Load) -> np.ndarray:
    from opacus.grad_sample import GradSampleModule

    x, y = examples(load)
    sampled = GradSampleModule(network.train(), loss_reduction="sum")
    nn.functional.cross_entropy(sampled(x), y, reduction="sum").backward()
    return gram_of(p.grad_sample for p in sampled.parameters())


NUMBERS: dict[str, tuple[Number, dict[str, Number]]] = {
    "Gram of the examples": (ours_gram, {"BackPACK BatchGrad": backpack_gram, "Opacus grad_sample": opacus_gram}),
    "squared norms": (ours_norms, {"BackPACK BatchL2Grad": backpack_norms}),
    "variance V₁": (ours_variance, {"BackPACK SumGradSquared": backpack_variance}),
}


def measured(what: str, name: str, parameters: int, load: Load) -> dict[str, Any]:
    """Seconds, peak memory and the number itself, of one contender in this process."""
    torch.set_num_threads(1)
    ours, others = NUMBERS[what]
    function = {"trajsvc": ours, **others}[name]
    function(network_of(2000, 0), load)
    seconds = []
    for _ in range(load.repeats):
        network = network_of(parameters, 0)
        with peak_memory() as peak:
            begun = time.process_time()
            found = function(network, load)
            seconds.append(time.process_time() - begun)
    return {"seconds": min(seconds), "bytes": peak(), "found": found.tolist()}


def contenders(options: argparse.Namespace, sizes: list[int], load: Load) -> Iterator[dict[str, Any]]:
    """Yield a row for every number, contender and size, with the difference from ours."""
    for what, (_, others) in NUMBERS.items():
        for size in sizes:
            ours: np.ndarray | None = None
            for name in ("trajsvc", *others):
                row = _apart(options, what, name, size)
                found = np.asarray(row.pop("found", np.nan))
                ours = found if ours is None else ours
                row["difference"] = float(np.abs(found - ours).max() / np.abs(ours).max())
                if row["difference"] > TOLERANCE:
                    raise SystemExit(f"{what} of {name} differs by {row['difference']:.1e}")
                yield {"what": what, "name": name, "parameters": size, **row}


def _apart(options: argparse.Namespace, what: str, name: str, size: int) -> dict[str, Any]:
    words = [
        sys.executable,
        __file__,
        "--one",
        what,
        name,
        "--parameters",
        str(size),
        "--repeats",
        str(options.repeats),
    ]
    words += ["--libraries", options.libraries] if options.libraries else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table_of_sets(found: list[Cost]) -> str:
    sizes = sorted({cost.parameters for cost in found})
    lines = ["| set | vectors | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---|---|" + "---|" * len(sizes)]
    for kind in dict.fromkeys(cost.kind for cost in found):
        row = {cost.parameters: cost for cost in found if cost.kind == kind}
        cells = [_cell(row[size]) if size in row else "" for size in sizes]
        lines.append(f"| `{kind}` | {max(cost.vectors for cost in row.values())} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(cost: Cost) -> str:
    return "refused" if cost.refused else f"{cost.seconds:.3g} s, {cost.bytes / 2**20:.0f} MiB"


def table_of_measures(found: list[Cost]) -> str:
    """Milliseconds at the smallest and the largest network, of the set for which a measure takes longest."""
    sizes = [min(c.parameters for c in found), max(c.parameters for c in found)]
    slowest: dict[str, tuple[float, str]] = {}
    for cost in found:
        for name, seconds in (cost.measures or {}).items():
            slowest[name] = max(slowest.get(name, (0.0, "")), (seconds, cost.kind))
    lines = ["| measure | set | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---|---|---|---|"]
    for name, (_, kind) in sorted(slowest.items()):
        at = {c.parameters: (c.measures or {}).get(name, float("nan")) for c in found if c.kind == kind}
        lines.append(f"| `{name}` | `{kind}` | " + " | ".join(f"{1e3 * at[size]:.3f}" for size in sizes) + " |")
    return "\n".join(lines)


def table_of_contenders(rows: list[dict[str, Any]]) -> str:
    lines = ["| number | parameters | contender | seconds | MiB | difference |", "|---|---|---|---|---|---|"]
    for row in rows:
        difference = "" if row["name"] == "trajsvc" else f"{row['difference']:.0e}"
        lines.append(
            f"| {row['what']} | {row['parameters']:,} | {row['name']} | {row['seconds']:.3g} | {row['bytes'] / 2**20:.0f} | {difference} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="1e4,1e5,1e6,1e7")
    parser.add_argument("--sets", default=",".join(SET_KINDS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--libraries", help="a folder that has opacus and backpack")
    parser.add_argument("-o", "--output", type=Path, help="write the figure: .png, .pdf, .svg")
    parser.add_argument("--keep", type=Path, help="write what was measured as JSON")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.libraries:
        sys.path.append(str(Path(options.libraries).resolve()))
    sizes, load = [int(float(p)) for p in options.parameters.split(",")], Load(repeats=options.repeats)
    if options.one:
        print(json.dumps(measured(*options.one, sizes[0], load)))
        return
    found = []
    for cost in costs(sizes, options.sets.split(","), load):
        print(f"{cost.kind} {cost.parameters:,}: {_cell(cost)}", file=sys.stderr, flush=True)
        found.append(cost)
    rows = list(contenders(options, sizes, load)) if options.libraries else []
    for text in (table_of_sets(found), table_of_measures(found), table_of_contenders(rows) if rows else ""):
        print(text, end="\n\n")
    if options.keep:
        options.keep.write_text(json.dumps({"sets": [vars(c) for c in found], "contenders": rows}, indent=1), "utf-8")
    if options.output:
        from trajsvc.experiments.cost_figure import cost_figure

        print(cost_figure(found, options.output))


if __name__ == "__main__":
    main()
