"""Grams of gradients of single examples against torch.func's per-example gradients, and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from trajsvc.errors import LimitExceeded, Refused
from trajsvc.gradients.examples import example_grams
from trajsvc.measures.gradients.conditioning import coherence
from trajsvc.measures.gradients.estimators import average_variance

N = 9


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(4 * 36, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))).flatten(1))


class Words(nn.Module):
    """An embedding that is tied to the output, a norm, attention, dropout, and a tensor that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.mix = nn.Linear(8, 24)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.LayerNorm(8)
        self.output = nn.Linear(8, 20, bias=False)
        self.output.weight = self.embedding.weight
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e = self.embedding(x)
        q, k, v = self.mix(e).chunk(3, dim=-1)
        return self.output(self.norm(e + self.drop(torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v)))


def images() -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    x, y = torch.randn(N, 1, 8, 8, dtype=torch.float64), torch.randint(10, (N,))
    return Convolutional(), list(zip(x, y, strict=True))


def words() -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(1)
    return Words(), list(torch.randint(20, (N, 6)))


def image_loss(net: nn.Module, example: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    x, y = example
    return nn.functional.cross_entropy(net(x[None]), y[None])


def word_loss(net: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(net(tokens[None, :-1])[0], tokens[1:])


def explicit(net: nn.Module, loss: Any, examples: list[Any]) -> dict[str, np.ndarray]:
    """Per-example gradients by torch.func, (n, P) a tensor."""
    net = net.double().eval()
    named = {n: p.detach() for n, p in net.named_parameters()}

    def one(parameters: dict[str, torch.Tensor], *example: torch.Tensor) -> torch.Tensor:
        class Call(nn.Module):
            def __call__(self, *x: torch.Tensor) -> torch.Tensor:
                return functional_call(net, parameters, x)

        return loss(Call(), example if len(example) > 1 else example[0])

    parts = list(zip(*examples, strict=True)) if isinstance(examples[0], tuple) else [examples]
    stacked = [torch.stack(list(p)) for p in parts]
    found = vmap(grad(one), in_dims=(None, *[0] * len(stacked)))(named, *stacked)
    return {n: g.reshape(N, -1).numpy() for n, g in found.items()}


@pytest.mark.parametrize(("make", "loss"), [(images, image_loss), (words, word_loss)], ids=["images", "words"])
@pytest.mark.parametrize("memory", ["512MiB", "104kB"])
def test_a_gram_is_that_of_the_gradients_of_each_example(make: Any, loss: Any, memory: str) -> None:
    net, examples = make()
    grams = example_grams(net, loss, examples, memory=memory)
    assert next(net.parameters()).dtype == torch.float32, "the module is left as it was"
    assert net.training
    oracle = explicit(net, loss, examples)
    assert list(grams) == list(oracle)
    for name, g in oracle.items():
        assert grams[name].parameters == g.shape[1]
        assert np.allclose(grams[name].gram, g @ g.T, rtol=1e-10, atol=1e-16), name
    whole = sum(list(grams.values())[1:], next(iter(grams.values())))
    every = np.concatenate(list(oracle.values()), axis=1)
    assert coherence(whole) == pytest.approx(float((every @ every.mean(axis=0)).sum() / (every**2).sum()), rel=1e-10)
    covariance = ((every - every.mean(axis=0)) ** 2).sum() / N
    assert average_variance(whole) == pytest.approx(covariance / every.shape[1], rel=1e-9)


def test_a_quadratic_has_its_gradients() -> None:
    net = nn.Linear(3, 1, bias=False)
    points = [torch.tensor(v, dtype=torch.float64) for v in np.random.default_rng(0).normal(size=(5, 3))]
    grams = example_grams(net, lambda m, x: m(x).square().sum() / 2, points)
    w = net.weight.detach().double().numpy()[0]
    g = np.array([(w @ p.numpy()) * p.numpy() for p in points])
    assert np.allclose(grams["weight"].gram, g @ g.T, rtol=1e-12)


def test_what_is_frozen_or_unused_has_zero_gradients() -> None:
    net, examples = words()
    net.norm.weight.requires_grad_(False)
    grams = example_grams(net, word_loss, examples)
    assert grams["norm.weight"].zero_vectors == grams["unused"].zero_vectors == N
    assert "output.weight" not in grams
    assert grams["embedding.weight"].zero_vectors == 0


def test_single_precision_is_near() -> None:
    net, examples = words()
    double, single = (example_grams(net, word_loss, examples, precision=p) for p in ("float64", "float32"))  # type: ignore[arg-type]
    assert np.allclose(single["embedding.weight"].gram, double["embedding.weight"].gram, rtol=1e-4)


def test_what_cannot_be_measured_is_refused() -> None:
    net, examples = words()
    with pytest.raises(LimitExceeded, match="embedding"):
        example_grams(net, word_loss, examples, memory=1000)
    with pytest.raises(Refused, match="9 of 9 gradients"):
        example_grams(net, lambda m, x: word_loss(m, x) * float("nan"), examples)
    with pytest.raises(ValueError, match="scalar"):
        example_grams(net, lambda m, x: m(x[None]), examples)
    with pytest.raises(ValueError, match="no examples"):
        example_grams(net, word_loss, [])
