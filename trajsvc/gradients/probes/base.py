"""The protocol of probes.

A probe of your own is an object that is called with a ``ProbeContext`` and gives a ``Probe``; ``--probe module:object`` names it on the
command line, an entry point of the group ``trajsvc.probes`` everywhere::

    class Digits:
        def __init__(self, context):
            with np.load(context.data) as file:
                self.examples = list(zip(file["x"], file["y"]))
            self.digest = file_digest(context.data)

        def network(self, config):
            return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

        def losses(self, network, examples):
            x, y = (torch.as_tensor(np.stack(part)) for part in zip(*examples))
            return torch.nn.functional.cross_entropy(network(x.double()), y, reduction="none")
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from storage_schema.files.regular import open_file
from trajsvc.errors import NotFound
from trajsvc.gradients.options import GradientOptions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ProbeContext:
    """What a probe may look at when it is made: the file of examples, the options, and the run's first chosen checkpoint."""

    data: Path
    options: GradientOptions
    config: Mapping[str, Any] | None = None
    """the checkpoint's config.json"""
    folder: Path | None = None
    """where the checkpoint lies on this machine"""


class Probe(Protocol):
    """A network for a checkpoint's parameters, examples in order, and a loss for each."""

    @property
    def digest(self) -> str:
        """Names the examples and whatever else the losses depend on: equal for equal losses."""
        ...

    @property
    def examples(self) -> Sequence[Any]:
        """The examples there are, in order; what one is, only the probe knows."""
        ...

    def network(self, config: Mapping[str, Any] | None) -> torch.nn.Module:
        """Build the network of a checkpoint with ``config``; its parameters are filled in afterwards, by name."""
        ...

    # A probe may also have ``losses_per_example: int``, of how many losses an example's is the mean (the tokens of a window), which is
    # noted; and ``per_token: bool``, True where it takes tokens as examples because ``context.options.per_token`` asks for it.

    def losses(self, network: torch.nn.Module, examples: Sequence[Any]) -> torch.Tensor:
        """Compute the loss of every example, (len(examples)), differentiably; no example's loss depends on another example."""
        ...


@runtime_checkable
class InputProbe(Protocol):
    """A probe whose losses can be differentiated with respect to an input, too. The sets ``inputs`` and ``input_gradients`` need it."""

    def inputs(self, network: torch.nn.Module, examples: Sequence[Any]) -> torch.Tensor:
        """Return what the network is differentiated by, (len(examples), …): pixels, or embeddings of tokens."""
        ...

    def losses_at(self, network: torch.nn.Module, inputs: torch.Tensor, examples: Sequence[Any]) -> torch.Tensor:
        """Compute the losses as they would be with these inputs, (len(examples))."""
        ...


ProbeFactory = Callable[[ProbeContext], Probe]


def file_digest(path: Path) -> str:
    """SHA-256 of a file of examples. Raises NotFound (``data-not-found``)."""
    if not path.is_file():
        raise NotFound("data-not-found", f"there is no file {path}", hint="Name the examples with --data.", file=path)
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
