"""The papers' image data where a user has them: CIFAR-10's binary version, and a folder of images as ImageNet's.

Nothing is downloaded. Batches are float32, normalised by the means and deviations of the channels, with the usual random crops and flips
for training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.regular import open_file
from trajsvc.errors import NotFound, Refused

if TYPE_CHECKING:
    import torch

Batch = tuple["torch.Tensor", "torch.Tensor"]
Bytes = NDArray[np.uint8]
RECORD: Final = 1 + 3 * 32 * 32
"""bytes of an image of CIFAR-10: its label, then red, green and blue, row by row"""
TRAIN: Final = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
TEST: Final = "test_batch.bin"
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})


class Images(Protocol):
    """Images to train on and to test."""

    classes: int
    labels: NDArray[np.int64]
    """of the images to train on, (N); they may be replaced"""

    def train(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches of a new order of the images, the last one with what is left."""

    def test(self, size: int) -> Iterator[Batch]:
        """Batches of the images to test on."""


class Cifar10:
    """CIFAR-10 in its binary version: six files of records in a folder, or in ``cifar-10-batches-bin`` within it."""

    classes = 10
    mean = np.array([0.4914, 0.4822, 0.4465], dtype=np.float32)
    deviation = np.array([0.2470, 0.2435, 0.2616], dtype=np.float32)

    def __init__(self, folder: Path) -> None:
        """Read it. Raises NotFound (``data-not-found``) and Refused (``bad-data``)."""
        inside = folder / "cifar-10-batches-bin"
        place = inside if inside.is_dir() else folder
        parts = [self._read(place / name) for name in TRAIN]
        self.pixels, self.labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        self.unseen = self._read(place / TEST)

    @staticmethod
    def _read(file: Path) -> tuple[Bytes, NDArray[np.int64]]:
        if not file.is_file():
            hint = (
                "Unpack the binary version of CIFAR-10 (cifar-10-binary.tar.gz of its authors) and name its folder with --data; "
                "nothing is downloaded."
            )
            raise NotFound("data-not-found", f"there is no file {file}", hint=hint, file=file)
        values = np.fromfile(file, dtype=np.uint8)
        records = values.reshape(-1, RECORD) if len(values) and len(values) % RECORD == 0 else None
        if records is None or records[:, 0].max() > 9:
            hint = f"Its binary version has records of {RECORD} bytes, the first of them a label of 0 … 9."
            raise Refused("bad-data", f"{file} is no file of CIFAR-10's binary version", hint=hint, file=file)
        return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)

    def train(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches with random crops of images with four pixels of zeros around them, half of them mirrored."""
        for chosen in _orders(rng.permutation(len(self.labels)), size):
            padded = np.pad(self._normal(self.pixels[chosen]), ((0, 0), (0, 0), (4, 4), (4, 4)))
            down, across = rng.integers(0, 9, (2, len(chosen), 1, 1, 1))
            rows, columns = np.arange(32)[:, None] + down, np.arange(32) + across
            colours = np.arange(3)[:, None, None]
            crops = padded[np.arange(len(chosen))[:, None, None, None], colours, rows, columns]
            mirrored = rng.random(len(chosen)) < 0.5
            crops[mirrored] = crops[mirrored][..., ::-1]
            yield _batch(crops, self.labels[chosen])

    def test(self, size: int) -> Iterator[Batch]:
        """Batches of the test images as they are."""
        pixels, labels = self.unseen
        for chosen in _orders(np.arange(len(labels)), size):
            yield _batch(self._normal(pixels[chosen]), labels[chosen])

    def _normal(self, pixels: Bytes) -> NDArray[np.float32]:
        return (pixels.astype(np.float32) / 255.0 - self.mean[:, None, None]) / self.deviation[:, None, None]


class ImageFolder:
    """Images as ImageNet's are usually laid out: ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG``."""

    mean = np.array([0.485, 0.456, 0.406], dtype=np.float32)
    deviation = np.array([0.229, 0.224, 0.225], dtype=np.float32)

    def __init__(self, folder: Path, side: int = 224) -> None:
        """List the files. Raises NotFound (``data-not-found``) and Refused (``bad-data``)."""
        self.side = side
        names = sorted(path.name for path in _listed(folder / "train") if path.is_dir())
        self.classes = len(names)
        self.files, self.labels = self._files(folder / "train", names)
        self.unseen = self._files(folder / "val", names)

    @staticmethod
    def _files(folder: Path, names: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
        _listed(folder)
        found = [
            (file, label)
            for label, name in enumerate(names)
            if (folder / name).is_dir()
            for file in sorted((folder / name).iterdir())
            if file.suffix.lower() in SUFFIXES
        ]
        if not found:
            hint = "It holds a folder for every class, with .jpeg or .png files."
            raise Refused("bad-data", f"there are no images in {folder}", hint=hint, file=folder)
        return [file for file, _ in found], np.array([label for _, label in found], dtype=np.int64)

    def train(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Batches of crops of 8 to 100 % of an image's area, of a ratio of 3:4 to 4:3, half of them mirrored."""
        for chosen in _orders(rng.permutation(len(self.labels)), size):
            seeds = rng.integers(0, 2**63, len(chosen))
            told = [(self.files[k], np.random.default_rng(seed)) for k, seed in zip(chosen, seeds, strict=True)]
            yield _batch(self._read(told), self.labels[chosen])

    def test(self, size: int) -> Iterator[Batch]:
        """Batches of the middles of the images, the shorter side scaled to 8/7 of what is cut."""
        files, labels = self.unseen
        for chosen in _orders(np.arange(len(labels)), size):
            yield _batch(self._read([(files[k], None) for k in chosen]), labels[chosen])

    def _read(self, told: Sequence[tuple[Path, np.random.Generator | None]]) -> NDArray[np.float32]:
        with ThreadPoolExecutor(os.cpu_count()) as several:
            pixels = np.stack(list(several.map(lambda each: self._one(*each), told)))
        return ((pixels.astype(np.float32) / 255.0 - self.mean) / self.deviation).transpose(0, 3, 1, 2)

    def _one(self, file: Path, rng: np.random.Generator | None) -> Bytes:
        from PIL import Image, ImageOps

        try:
            with open_file(file) as stored, Image.open(stored) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise Refused("bad-data", f"{file} cannot be read as an image: {error}", file=file) from error
        if rng is None:
            whole = round(self.side * 8 / 7)
            scale = whole / min(image.size)
            image = image.resize((max(whole, round(image.width * scale)), max(whole, round(image.height * scale))))
            left, top = (image.width - self.side) // 2, (image.height - self.side) // 2
            return np.asarray(image.crop((left, top, left + self.side, top + self.side)))
        cut = image.resize((self.side, self.side), box=_random_box(image.width, image.height, rng))
        return np.asarray(ImageOps.mirror(cut) if rng.random() < 0.5 else cut)


def _random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a box of 8 to 100 % of the area; the whole where ten draws do not fit."""
    for _ in range(10):
        area, ratio = width * height * rng.uniform(0.08, 1.0), float(np.exp(rng.uniform(-1, 1) * np.log(4 / 3)))
        across, down = float(np.sqrt(area * ratio)), float(np.sqrt(area / ratio))
        if across <= width and down <= height:
            left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
            return left, top, left + across, top + down
    return 0.0, 0.0, float(width), float(height)


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        hint = "Name with --data the folder that holds train/CLASS/… and val/CLASS/…; nothing is downloaded."
        raise NotFound("data-not-found", f"there is no folder {folder}", hint=hint, file=folder)
    return list(folder.iterdir())


def _orders(order: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    for at in range(0, len(order), size):
        yield order[at : at + size]


def _batch(pixels: NDArray[np.float32], labels: NDArray[np.int64]) -> Batch:
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels)
