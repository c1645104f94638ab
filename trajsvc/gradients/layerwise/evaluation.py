"""Gradients of some examples, tensor by tensor, each by the cheapest way that was seen to be right for it.

The ways, in order: ``layer`` (inputs and output gradients of layers of known kinds), ``repeated`` (a raw parameter of first axis 1, as
vectors of positions are, repeated for every example), ``together`` (``vmap`` of ``grad``), ``alone`` (a backward pass an example).
A tensor takes the next way, for all examples, where autograd's graph shows that it is used outside its layers, where the positions of a
layer are not those of one example after the other, and where its gradients are not what autograd gives an example alone: this is
compared for the first two examples, and for one of every lot that is evaluated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trajsvc.errors import Refused
from trajsvc.gradients.layerwise import formed
from trajsvc.gradients.layerwise.capture import Layer, Passed, run
from trajsvc.gradients.layerwise.factors import Contribution, Rows
from trajsvc.gradients.layerwise.network import Losses, losses_of, owners
from trajsvc.gradients.layerwise.uses import use_of

Way = Literal["layer", "repeated", "together", "alone"]
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""of Σ_t ‖left_t‖ ‖right_t‖; parts of transformers compute in float32 whatever the type of the network"""


class Disagreement(Exception):
    """Tensors whose gradients are not those of their examples alone."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(", ".join(names))
        self.names = frozenset(names)


class Evaluation:
    """The gradients of a network's tensors, and by which way each is taken."""

    def __init__(self, network: nn.Module, losses: Losses, tensors: Mapping[str, nn.Parameter]) -> None:
        self.network, self.losses, self.tensors = network, losses, tensors
        self.expand = True
        self.apart = False
        """examples cannot be evaluated together"""
        held = owners(network)
        self.places = {name: held[id(tensor)] for name, tensor in tensors.items()}
        self.ways: dict[str, Way] = {name: self._first_way(name) for name in tensors}

    def _first_way(self, name: str) -> Way:
        if any(_by_layer(*place) for place in self.places[name]):
            return "layer"
        return self._without_layer(name)

    def _without_layer(self, name: str) -> Way:
        tensor = self.tensors[name]
        return (
            "repeated"
            if self.expand and tensor.dim() > 1 and tensor.shape[0] == 1 and len(self.places[name]) == 1
            else "together"
        )

    def demote(self, names: Collection[str]) -> None:
        """Take the next way for these."""
        following: dict[Way, Way] = {"repeated": "together", "together": "alone", "alone": "alone"}
        if all(self.ways[name] == "alone" for name in names):
            raise Refused(
                "not-per-example",
                f"evaluated twice, an example has other gradients of {min(names)}",
                hint="The loss of an example has to be a function of it: no dropout, no random numbers.",
            )
        for name in names:
            way = self.ways[name]
            self.ways[name] = self._without_layer(name) if way == "layer" else following[way]

    def simplify(self) -> None:
        """Repeat nothing that examples share, then evaluate one example at a time."""
        if self.expand:
            self.expand = False
            self.ways |= {name: "together" for name, way in self.ways.items() if way == "repeated"}
        else:
            self.apart = True

    def checked(
        self, examples: Sequence[Any], names: Sequence[str], places: Sequence[int]
    ) -> dict[str, list[Contribution]]:
        """Give tensor → its gradients, a list of terms to be summed; no terms for gradients of zero. The examples at ``places`` are
        compared with what autograd gives them alone. Raises Disagreement."""
        passed = self._passed(examples, names, names if len(examples) == 1 else [])
        found = self._all(examples, names, passed)
        wrong = set(passed.unclear)
        for at in places:
            exact = passed.total if len(examples) == 1 else self._alone(examples[at], names)
            wrong |= {n for n in names if not agrees(found[n], formed.dense(exact[n], self.tensors[n]), at)}
        if wrong:
            raise Disagreement(wrong)
        return found

    def _alone(self, example: Any, names: Sequence[str]) -> Mapping[str, Tensor | None]:
        value = losses_of(self.network, self.losses, [example])[0]
        return formed.gradient_of(value, {n: self.tensors[n] for n in names})

    def _passed(self, examples: Sequence[Any], names: Sequence[str], plain: Sequence[str]) -> Passed:
        repeated = {n: self.places[n][0] for n in names if self.ways[n] == "repeated" and len(examples) > 1}
        layers = self._layers(n for n in names if self.ways[n] == "layer")
        if not (layers or repeated or plain):
            return Passed({}, {}, frozenset())
        tensors = {n: self.tensors[n] for n in plain}
        return run(self.network, self.losses, examples, layers, repeated, tensors, expand=self.expand)

    def _layers(self, names: Iterable[str]) -> list[Layer]:
        found: dict[nn.Module, dict[str, str]] = {}
        for name in names:
            for module, attribute in self.places[name]:
                if _by_layer(module, attribute):
                    found.setdefault(module, {})[attribute] = name
        uses = ((module, use_of(module), attributes) for module, attributes in found.items())
        return [Layer(module, use, attributes) for module, use, attributes in uses if use is not None]

    def _all(self, examples: Sequence[Any], names: Sequence[str], passed: Passed) -> dict[str, list[Contribution]]:
        found = {n: list(passed.contributions.get(n, ())) for n in names}
        if len(examples) == 1:
            exact = {n: passed.total[n] for n in names if self.ways[n] != "layer"}
            rows = {n: g.detach().reshape(1, -1) for n, g in exact.items() if g is not None}
        else:
            rows = self._together(examples, [n for n in names if self.ways[n] == "together"])
            alone = {n: self.tensors[n] for n in names if self.ways[n] == "alone"}
            rows |= formed.one_by_one(self.network, self.losses, examples, alone) if alone else {}
        return found | {n: [Rows.of(r)] for n, r in rows.items()}

    def _together(self, examples: Sequence[Any], names: Sequence[str]) -> dict[str, Tensor]:
        if not names:
            return {}
        tensors = {n: self.tensors[n] for n in names}
        try:
            return formed.together(self.network, self.losses, examples, tensors, self.places)
        except Exception as e:  # whatever a network raises under vmap
            raise Disagreement(names) from e


def _by_layer(module: nn.Module, attribute: str) -> bool:
    return attribute in ("weight", "bias") and use_of(module) is not None


def agrees(found: Sequence[Contribution], exact: Tensor, at: int) -> bool:
    """Say whether the gradients of example ``at`` are ``exact``, up to rounding. What is not finite is not compared."""
    exact = exact.reshape(-1)
    if not bool(exact.isfinite().all()):
        return True
    terms = [c.part(at, at + 1) for c in found]
    row = sum((t.form()[0] for t in terms), torch.zeros_like(exact))
    scale = sum((t.scale()[0] for t in terms), exact.new_zeros(()))
    return bool(torch.linalg.vector_norm(row - exact) <= TOLERANCE[exact.dtype] * scale)
