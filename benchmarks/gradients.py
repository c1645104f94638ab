"""Per-example Grams of gradients: layerwise, beside forming gradients by torch.func, autograd, Opacus and BackPACK.

Run it as ``python benchmarks/gradients.py``; ``--python PATH`` names an interpreter that has ``opacus`` and ``backpack-for-pytorch``,
which are no dependencies of this project. Every contender runs in a process of its own, in float64, on the same network and examples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EXAMPLES, TOKENS, VOCABULARY, IMAGE = 32, 64, 256, 16
Contender = Callable[[nn.Module, "Losses", list[Any]], np.ndarray]
Losses = Callable[[nn.Module, Sequence[Any]], torch.Tensor]


class Layer(nn.Module):
    """One layer of a transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.first(x)).chunk(3, dim=-1)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        hidden = torch.full_like(scores, -1e9).triu(1)
        x = x + self.out(torch.softmax(scores + hidden, dim=-1) @ v)
        return x + self.down(functional.gelu(self.up(self.second(x))))


def mlp(parameters: int) -> nn.Module:
    width = int((parameters + 1369) ** 0.5 - 37)
    return nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))


def convolutional(parameters: int) -> nn.Module:
    c = max(1, int((parameters / 90) ** 0.5))
    return nn.Sequential(
        nn.Conv2d(3, c, 3, padding=1), nn.Tanh(), nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), nn.Tanh(),
        nn.Conv2d(2 * c, 4 * c, 3, stride=2, padding=1), nn.Tanh(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4 * c, 10),
    )  # fmt: skip


def transformer(parameters: int) -> nn.Module:
    width = max(4, int((parameters / 48) ** 0.5) if parameters > 1e5 else int((parameters / 48 + 28) ** 0.5 - 5.3))
    layers = [Layer(width) for _ in range(4)]
    return nn.Sequential(nn.Embedding(VOCABULARY, width), *layers, nn.LayerNorm(width), nn.Linear(width, VOCABULARY))


def class_losses(network: nn.Module, examples: Sequence[Any]) -> torch.Tensor:
    x, y = (torch.stack(part) for part in zip(*examples, strict=True))
    return functional.cross_entropy(network(x), y, reduction="none")


def token_losses(network: nn.Module, examples: Sequence[Any]) -> torch.Tensor:
    tokens = torch.stack(list(examples))
    scores = network(tokens[:, :-1]).transpose(1, 2)
    return functional.cross_entropy(scores, tokens[:, 1:], reduction="none").mean(dim=1)


def made(network: str, parameters: int) -> tuple[nn.Module, Losses, list[Any]]:
    torch.manual_seed(0)
    if network == "transformer":
        return (
            transformer(parameters).double().eval(),
            token_losses,
            list(torch.randint(VOCABULARY, (EXAMPLES, TOKENS + 1))),
        )
    shape = (64,) if network == "mlp" else (3, IMAGE, IMAGE)
    pairs = zip(torch.randn(EXAMPLES, *shape, dtype=torch.float64), torch.randint(10, (EXAMPLES,)), strict=True)
    return (mlp if network == "mlp" else convolutional)(parameters).double().eval(), class_losses, list(pairs)


def layerwise(network: nn.Module, losses: Losses, examples: list[Any]) -> np.ndarray:
    """trajsvc, a Gram for every tensor, within 512 MiB."""
    from trajsvc.gradients.layerwise import layerwise_grams, whole_tensors

    return layerwise_grams(network, losses, examples, whole_tensors(network)).gram.sum(axis=0)


def func(network: nn.Module, losses: Losses, examples: list[Any]) -> np.ndarray:
    """``vmap(grad)`` of all examples at once."""
    from torch.func import functional_call, grad, vmap
    from torch.utils import _pytree

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, example: Any) -> torch.Tensor:
            return losses(self.network, [example])[0]

    whole = Whole()
    named = {n: p.detach() for n, p in whole.named_parameters()}
    stacked = _pytree.tree_map(lambda *leaves: torch.stack(leaves), *examples)
    found = vmap(grad(lambda values, example: functional_call(whole, values, (example,))), in_dims=(None, 0))(
        named, stacked
    )
    return gram(found.values())


def autograd(network: nn.Module, losses: Losses, examples: list[Any]) -> np.ndarray:
    """One backward pass an example."""
    parameters = list(network.parameters())
    rows = [torch.autograd.grad(losses(network, [example])[0], parameters) for example in examples]
    return gram(torch.stack(part) for part in zip(*rows, strict=True))


def opacus(network: nn.Module, losses: Losses, examples: list[Any]) -> np.ndarray:
    """Opacus' ``grad_sample``."""
    from opacus.grad_sample import GradSampleModule

    sampled = GradSampleModule(network.train(), loss_reduction="sum")
    losses(sampled, examples).sum().backward()
    return gram(p.grad_sample for p in sampled.parameters())


def backpack(network: nn.Module, losses: Losses, examples: list[Any]) -> np.ndarray:
    """BackPACK's ``BatchGrad``."""
    import backpack as library
    from backpack.extensions import BatchGrad

    library.extend(network)
    loss = library.extend(nn.CrossEntropyLoss(reduction="sum"))
    x, y = (torch.stack(part) for part in zip(*examples, strict=True))
    with library.backpack(BatchGrad()):
        loss(network(x), y).backward()
    return gram(p.grad_batch for p in network.parameters())


def gram(gradients: Any) -> np.ndarray:
    """Sum the Grams of tensors (n, …) to the network's."""
    total = torch.zeros(EXAMPLES, EXAMPLES, dtype=torch.float64)
    for tensor in gradients:
        rows = tensor.detach().reshape(EXAMPLES, -1)
        total += rows @ rows.T
    return total.numpy()


CONTENDERS: dict[str, Contender] = {
    "layerwise": layerwise, "func": func, "autograd": autograd, "opacus": opacus, "backpack": backpack,
}  # fmt: skip
ELSEWHERE = ("opacus", "backpack")
MISSING = {("transformer", "backpack"): "BackPACK does not know attention"}


def anonymous_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def measured(name: str, network: str, parameters: int, repeats: int) -> dict[str, Any]:
    """Seconds of one core (the least of some), the largest memory above that of the network and the examples, and the Gram."""
    torch.set_num_threads(1)
    CONTENDERS[name](*made(network, 3000))  # imports, and what libraries do first
    module, losses, examples = made(network, parameters)
    before, peak, done = anonymous_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        found = CONTENDERS[name](module, losses, examples)
        seconds.append(time.process_time() - begun)
        module, losses, examples = made(network, parameters)
    done.set()
    watcher.join()
    count = sum(p.numel() for p in module.parameters())
    return {"seconds": min(seconds), "mib": max(0, peak - before) >> 20, "parameters": count, "gram": found.tolist()}


def run(python: str, name: str, network: str, parameters: int, repeats: int) -> dict[str, Any] | str:
    words = [
        python,
        __file__,
        "--one",
        name,
        "--networks",
        network,
        "--parameters",
        str(parameters),
        "--repeats",
        str(repeats),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines()
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else (lines[-1] if lines else "killed")


def table(options: argparse.Namespace) -> None:
    print("| network | parameters | contender | seconds | × layerwise | peak MiB | difference |")
    print("|---|---|---|---|---|---|---|")
    for network in options.networks.split(","):
        for parameters in (int(float(p)) for p in options.parameters.split(",")):
            found = {}
            for name in options.only.split(","):
                python = options.python if name in ELSEWHERE else sys.executable
                missing = MISSING.get((network, name))
                found[name] = missing or run(python, name, network, parameters, options.repeats)
            rows(network, found)


def rows(network: str, found: dict[str, Any]) -> None:
    """One row a contender; the difference from torch.func of an inner product, relative to the product of the norms."""
    reference = np.array(found["func"]["gram"]) if isinstance(found.get("func"), dict) else None
    ours = found["layerwise"]["seconds"] if isinstance(found.get("layerwise"), dict) else float("nan")
    for name, result in found.items():
        if isinstance(result, str):
            print(f"| {network} | | {name} | {result} | | | |", flush=True)
            continue
        difference = ""
        if reference is not None:
            norms = np.sqrt(np.diag(reference))
            difference = f"{(np.abs(np.array(result['gram']) - reference) / np.outer(norms, norms)).max():.1e}"
        seconds, mib = result["seconds"], result["mib"]
        print(
            f"| {network} | {result['parameters']:,} | {name} | {seconds:.3f} | {seconds / ours:.2f} | {mib} | {difference} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="mlp,convolutional,transformer")
    parser.add_argument("--parameters", default="1e4,1e5,1e6,1e7")
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has opacus and backpack-for-pytorch")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.networks, int(float(options.parameters)), options.repeats)))
    else:
        table(options)


if __name__ == "__main__":
    main()
