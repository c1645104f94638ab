"""Trainings at the scale of the papers: residual networks on data that the user has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trajsvc.errors import UsageError
from trajsvc.experiments.base import Setting
from trajsvc.experiments.images import Cifar10, ImageFolder, Images
from trajsvc.experiments.resnet import resnet
from trajsvc.experiments.training import Training, evaluate, freeze, optimizer_of, save, set_rate, step

if TYPE_CHECKING:
    import torch


def images_of(training: Training, setting: Setting) -> Images:
    """Open the data of a training. Raises UsageError (``bad-option``) without a folder, NotFound (``data-not-found``), Refused
    (``bad-data``)."""
    if setting.data is None:
        hint = "Name its folder with --data DIR; nothing is downloaded."
        raise UsageError("bad-option", f"this training needs {training.data}", hint=hint)
    return Cifar10(setting.data) if training.data == "cifar10" else ImageFolder(setting.data)


def trained_at_scale(training: Training, folder: Path, setting: Setting) -> dict[str, Any]:
    """Train on the GPU where there is one, a checkpoint an epoch in ``folder``; return {accuracy, loss} of the test images.

    Raises what ``images_of`` does.
    """
    import torch

    images = images_of(training, setting)
    torch.manual_seed(training.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if training.label_noise:
        draws = np.random.default_rng(training.seed + 1000)
        wrong = draws.random(len(images.labels)) < training.label_noise
        images.labels = np.where(wrong, draws.integers(0, images.classes, len(wrong)), images.labels)
    depth, small = int(training.network.removeprefix("resnet")), training.data == "cifar10"
    network = resnet(depth, images.classes, small_images=small, width=training.width).to(device)
    optimizer = optimizer_of(training, network)
    rng = np.random.default_rng(training.seed)
    save(network, folder, 0)
    for epoch in range(training.epochs):
        if training.only is not None and epoch == training.only_from:
            freeze(network, training.only)
        set_rate(optimizer, training, epoch)
        network.train()
        for k, (x, y) in enumerate(images.train(training.batch, rng)):
            setting.note(f"{folder.name}: epoch {epoch + 1} of {training.epochs}, batch {k + 1}")
            step(network, optimizer, x.to(device), y.to(device), training.sharpness)
        save(network, folder, epoch + 1)
    return _tested(network, images, training.batch, device)


def _tested(network: torch.nn.Module, images: Images, size: int, device: torch.device) -> dict[str, float]:
    from trajsvc.experiments.data import Split

    sums, count = {"loss": 0.0, "accuracy": 0.0}, 0
    for x, y in images.test(size):
        found = evaluate(network, Split(x.to(device), y.to(device)))
        sums = {name: value + len(y) * found[name] for name, value in sums.items()}
        count += len(y)
    return {name: value / count for name, value in sums.items()}
