"""The probe ``image-classifier``: cross-entropies of labelled images.

The file is a ``.npz`` with ``x`` (N × C × H × W, floating) and ``y`` (N, whole numbers); example i is image i. The network is one that
transformers makes from the checkpoint's config.json, or that of a subclass: ``network`` is what a probe of your own has to give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage_schema.files.regular import open_file
from trajsvc.errors import Refused
from trajsvc.gradients.probes.base import ProbeContext, file_digest
from trajsvc.gradients.probes.transformers_network import in_float64, network_of

if TYPE_CHECKING:
    import torch

Image = tuple[NDArray[Any], NDArray[np.int64]]


class ImageClassifier:
    """Images with labels, and the cross-entropy of each in nats."""

    def __init__(self, context: ProbeContext) -> None:
        """Read the file. Raises NotFound (``data-not-found``), Refused (``bad-data``)."""
        self.digest = file_digest(context.data)
        x, y = _images(context.data)
        self.examples: Sequence[Image] = list(zip(x, y.astype(np.int64), strict=True))

    def network(self, config: Mapping[str, Any] | None) -> torch.nn.Module:
        found = network_of(config, "image classifier").eval()
        self._check(found, config)
        return found

    def _check(self, network: torch.nn.Module, config: Mapping[str, Any] | None) -> None:
        """Raise Refused (``bad-data``) where the network takes no such images, or has fewer classes than the labels say."""
        import torch

        image = self.examples[0][0]
        try:
            with torch.no_grad():
                logits = network(torch.as_tensor(image, dtype=next(network.parameters()).dtype)[None]).logits
        except (RuntimeError, ValueError) as error:
            words = f"the network takes no images of shape {image.shape}: {str(error).partition(chr(10))[0]}"
            raise Refused(
                "bad-data", words, hint="x is N × C × H × W, as large as the network's own images."
            ) from error
        most, classes = int(max(label for _, label in self.examples)), logits.shape[-1]
        if most >= classes:
            words = f"the data have the label {most}, the network {classes} classes"
            raise Refused(
                "bad-data", words, hint="Labels are numbers from 0 on, in the order of the network's classes."
            )

    def losses(self, network: torch.nn.Module, examples: Sequence[Image]) -> torch.Tensor:
        return self.losses_at(network, self.inputs(network, examples), examples)

    def inputs(self, network: torch.nn.Module, examples: Sequence[Image]) -> torch.Tensor:
        """Return the pixels, (examples, C, H, W), in the network's type."""
        import torch

        first = next(network.parameters())
        return torch.stack([torch.as_tensor(image) for image, _ in examples]).to(first.device, first.dtype)

    def losses_at(self, network: torch.nn.Module, inputs: torch.Tensor, examples: Sequence[Image]) -> torch.Tensor:
        import torch

        with in_float64():
            found = network(inputs)
        logits = getattr(found, "logits", found)
        labels = torch.stack([torch.as_tensor(label) for _, label in examples]).to(inputs.device)
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def _images(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    hint = "Write it with numpy.savez(FILE, x=images, y=labels): x is N × C × H × W, y holds N whole numbers."
    try:
        with open_file(path) as stored, np.load(stored, allow_pickle=False) as file:
            x, y = file["x"], file["y"]
    except (ValueError, EOFError, OSError, KeyError, TypeError) as error:
        raise Refused("bad-data", f"{path} is no .npz with x and y: {error}", hint=hint, file=path) from None
    if x.dtype.kind != "f" or x.ndim < 2 or y.dtype.kind not in "iu" or y.shape != x.shape[:1] or not len(x):
        words = f"{path} has x of {x.dtype} {x.shape} and y of {y.dtype} {y.shape}"
        raise Refused("bad-data", words, hint=hint, file=path)
    if not np.isfinite(x).all() or y.min() < 0:
        raise Refused("bad-data", f"{path} has pixels that are not finite, or negative labels", hint=hint, file=path)
    return x, y
