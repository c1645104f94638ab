"""The trainings behind most experiments: LeNet-s with batch normalisation on digits, a checkpoint an epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage_schema.files.regular import read_text
from trajsvc.experiments.base import Setting
from trajsvc.experiments.data import Split, digits, noisy
from trajsvc.experiments.networks import lenet
from trajsvc.experiments.weights import save_weights

if TYPE_CHECKING:
    import torch

DONE = "training.json"


@dataclass(frozen=True)
class Training:
    """One training. Rates drop tenfold at two parts of the epochs, by default at half and at three quarters."""

    epochs: int = 40
    batch: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    width: float = 1.0
    label_noise: float = 0.0
    sharpness: float = 0.0
    """ρ of sharpness-aware minimisation; 0: plain descent"""
    only: str | None = None
    """``norm`` or ``last``: what alone is trained from ``only_from`` on"""
    only_from: int = 0
    seed: int = 0
    first_drop: float = 0.5
    second_drop: float = 0.75
    data: str = "digits"
    """``digits``, ``cifar10`` or ``imagenet``"""
    network: str = "lenet"
    """``lenet``, ``resnet18`` or ``resnet50``"""


Trainer = Callable[[Training, Path, Setting], dict[str, Any]]
"""writes the checkpoints of a training into a folder and returns {accuracy, loss}"""


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small are slower with several threads, and their sums then depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(training: Training, folder: Path, setting: Setting, trainer: Trainer) -> dict[str, Any]:
    """Train, a checkpoint an epoch in ``folder``, and return {accuracy, loss}; a training that is there is not repeated."""
    done = folder / DONE
    facts = asdict(training)
    if done.is_file() and (found := json.loads(read_text(done)))["training"] == facts:
        return dict(found["result"])
    folder.mkdir(parents=True, exist_ok=True)
    result = trainer(training, folder, setting)
    done.write_text(json.dumps({"training": facts, "result": result}))
    return result


def trained_on_digits(training: Training, folder: Path, setting: Setting) -> dict[str, Any]:
    """Train LeNet-s on one thread."""
    with one_thread():
        return _trained(training, folder, setting)


def _trained(training: Training, folder: Path, setting: Setting) -> dict[str, Any]:
    import torch

    torch.manual_seed(training.seed)
    train_split, test_split = digits()
    if training.label_noise:
        train_split = noisy(train_split, training.label_noise, training.seed + 1000)
    network = lenet(training.width, norm=True)
    optimizer = optimizer_of(training, network)
    rng = np.random.default_rng(training.seed)
    save(network, folder, 0)
    for epoch in range(training.epochs):
        setting.note(f"{folder.name}: epoch {epoch + 1} of {training.epochs}")
        if training.only is not None and epoch == training.only_from:
            freeze(network, training.only)
        set_rate(optimizer, training, epoch)
        network.train()
        for batch in batches(len(train_split), training.batch, rng):
            step(network, optimizer, train_split.x[batch], train_split.y[batch], training.sharpness)
        save(network, folder, epoch + 1)
    return evaluate(network, test_split)


def optimizer_of(training: Training, network: torch.nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of a training."""
    import torch

    if training.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        network.parameters(), training.learning_rate, training.momentum, weight_decay=training.weight_decay
    )


def freeze(network: torch.nn.Module, only: str) -> None:
    """Train nothing from now on but scales and shifts of normalisation (``norm``) or the ``last`` module."""
    from torch import nn

    modules = list(network.modules())
    kept: list[nn.Module] = [m for m in modules if isinstance(m, nn.BatchNorm2d)] if only == "norm" else modules[-1:]
    trained = {id(p) for module in kept for p in module.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
        if id(parameter) not in trained:
            parameter.grad = None  # neither momentum nor weight decay moves what has no gradient


def set_rate(optimizer: torch.optim.Optimizer, training: Training, epoch: int) -> None:
    """Set the learning rate of an epoch."""
    drops = (epoch >= training.epochs * training.first_drop) + (epoch >= training.epochs * training.second_drop)
    for group in optimizer.param_groups:
        group["lr"] = training.learning_rate * 0.1**drops


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Whole batches of a new order of ``count`` examples."""
    import torch

    order = torch.from_numpy(rng.permutation(count))
    for at in range(0, count - size + 1, size):
        yield order[at : at + size]


def endless(count: int, size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Whole batches of one new order after the other."""
    while True:
        yield from batches(count, size, rng)


def step(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, sharpness: float
) -> None:
    """Make one step on a batch, of sharpness-aware minimisation where ``sharpness`` is not 0."""
    import torch

    def loss() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]

    loss()
    if sharpness:
        learnt = [p for p in network.parameters() if p.grad is not None]
        norm = torch.sqrt(sum((p.grad.pow(2).sum() for p in learnt if p.grad is not None), torch.zeros(())))
        moves = [sharpness * p.grad / (norm + 1e-12) for p in learnt if p.grad is not None]
        with torch.no_grad():
            for parameter, move in zip(learnt, moves, strict=True):
                parameter.add_(move)
        loss()
        with torch.no_grad():
            for parameter, move in zip(learnt, moves, strict=True):
                parameter.sub_(move)
    optimizer.step()


def save(network: torch.nn.Module, folder: Path, epoch: int) -> None:
    """Write a checkpoint, of an epoch."""
    save_weights(network, folder / f"epoch_{epoch}.safetensors")


def evaluate(network: torch.nn.Module, split: Split) -> dict[str, float]:
    """Loss and accuracy on a split, in evaluation mode."""
    import torch

    network.eval()
    with torch.no_grad():
        logits = network(split.x)
        loss = float(torch.nn.functional.cross_entropy(logits, split.y))
    return {"loss": loss, "accuracy": float((logits.argmax(1) == split.y).double().mean())}


def briefer(training: Training, setting: Setting) -> Training:
    """Return the training, of the setting's epochs, else of a quarter of its own where the setting is brief."""
    if setting.epochs is not None:
        return replace(training, epochs=setting.epochs)
    return replace(training, epochs=max(4, training.epochs // 4)) if setting.brief else training


def member_facts(training: Training) -> Mapping[str, Any]:
    """Return the hyperparameters of a training that differ from the plain one, for a family's file."""
    plain = asdict(Training())
    return {k: v for k, v in asdict(training).items() if k != "seed" and v != plain[k] and v is not None}
