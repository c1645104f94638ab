"""Grams of per-example gradients from the inputs and output gradients of layers, against torch.func."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from per_example import assert_grams, explicit
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from trajsvc.anatomy.blocks import Block, Extent
from trajsvc.errors import Cancelled, LimitExceeded, Refused
from trajsvc.gradients.layerwise import layerwise_grams, plan, whole_tensors
from trajsvc.gradients.layerwise.factors import Outer, Selection
from trajsvc.gradients.layerwise.held import HeldProducts

N = 7


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these gain nothing from more, and lose much beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def vectors(count: int = N, *shape: int) -> list[torch.Tensor]:
    return list(torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))


def stacked(network: nn.Module, examples: Any) -> torch.Tensor:
    """Losses of networks from vectors to vectors."""
    return network(torch.stack(list(examples))).flatten(1).square().mean(dim=1)


def counted(network: nn.Module, examples: Any) -> torch.Tensor:
    tokens = torch.stack(list(examples))
    return functional.cross_entropy(network(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:], reduction="none").mean(
        dim=1
    )


def tokens(vocabulary: int, length: int) -> list[torch.Tensor]:
    return list(torch.randint(vocabulary, (N, length), generator=torch.Generator().manual_seed(4)))


def normed() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, stride=2, groups=4, dilation=2, padding=(2, 1), padding_mode="circular"), nn.GroupNorm(2, 8), nn.Tanh(),
        nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False), nn.InstanceNorm2d(8, affine=True), nn.Tanh(),
        nn.Conv2d(8, 6, (1, 3), stride=(2, 1), padding=(0, 1), padding_mode="reflect"), nn.Flatten(2),
        nn.Conv1d(6, 4, 3, padding=1, padding_mode="replicate"), nn.Flatten(), nn.LazyLinear(5),
    )  # fmt: skip
    net(torch.randn(4, 3, 9, 8))  # running statistics
    return net


class Words(nn.Module):
    """Embedding tied to the output, positions by an embedding of a row that all examples share, a bare scale, padding."""

    def __init__(self, vocabulary: int = 11, width: int = 6, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=2)
        self.positions = nn.Embedding(16, width)
        self.start = nn.Parameter(torch.randn(1, 1, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.scale = nn.Parameter(torch.randn(width))
        self.norm = nn.LayerNorm(width)
        self.rms = nn.RMSNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False)
        self.unused = nn.Parameter(torch.ones(3))
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e = self.embedding(x) + self.positions(torch.arange(x.shape[1])[None]) + self.start
        q, k, v = self.qkv(self.rms(e)).chunk(3, dim=-1)
        return self.output(self.norm(e + torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v * self.scale))


class Recurrent(nn.Module):
    """One layer used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = torch.tanh(self.step(x))
        return x


class Elsewhere(nn.Module):
    """Weights that are used outside their modules, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.first(x)) @ self.first.weight
        return functional.linear(y, self.second.weight) + self.third(y) * self.third.bias


class Seldom(nn.Module):
    """A weight that is used outside its module, to an effect for some examples only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) + torch.where(x[:, :1] > 5.0, x @ self.first.weight, x)


class Flattened(nn.Module):
    """Positions beside examples in one axis: one example after the other, and one position after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.inner, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, length, width = x.shape
        y = torch.tanh(self.outer(x.reshape(-1, width))).reshape(x.shape)
        z = torch.tanh(self.inner(y.transpose(0, 1).reshape(-1, width))).reshape(length, count, width)
        return self.last(z).sum(dim=0)


class Routed(nn.Module):
    """Experts that see positions chosen by their values."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        shares = torch.softmax(self.router(flat), dim=-1)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            at = (shares.argmax(dim=-1) == i).nonzero()[:, 0]
            out = out.index_add(0, at, expert(flat[at]) * shares[at, i : i + 1])
        return out.reshape(x.shape)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Custom(nn.Module):
    """A layer of a kind that is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.first = nn.Parameter(torch.randn(3, 4, 4)), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ni,nj,kij->nk", self.first(x), x, self.core)


class Erratic(nn.Module):
    """Asks for a number: vmap does not bear it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.first = nn.Parameter(torch.randn(4)), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) * self.scale * (2.0 if x.sum().item() > 1e9 else 1.0)


def weight_norm_by_attributes() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is deprecated, and met in checkpoints
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3).double()), nn.Linear(3, 2))


IN_ATTENTION = [f"attention.{n}" for n in ("in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight")]
IN_EXPERTS = [f"experts.{i}.{n}" for i in "01" for n in ("bias", "weight")]
IN_WEIGHT_NORM = [f"0.parametrizations.weight.original{i}" for i in "01"]
CASES: dict[str, Any] = {
    "convolutions": (normed, stacked, lambda: vectors(N, 3, 9, 8), []),
    "words": (Words, counted, lambda: tokens(11, 6), ["scale", "unused"]),
    "untied": (lambda: Words(tied=False), counted, lambda: tokens(11, 6), ["scale", "unused"]),
    "long words": (lambda: Words(400, 3), counted, lambda: tokens(400, 4), ["scale", "unused"]),
    "reused": (Recurrent, stacked, lambda: vectors(N, 5), []),
    "reused, with positions": (Recurrent, stacked, lambda: vectors(N, 2, 5), []),
    "elsewhere": (Elsewhere, stacked, lambda: vectors(N, 5), ["first.weight", "second.weight", "third.bias"]),
    "seldom": (Seldom, stacked, lambda: [v + 9.0 * (i == 4) for i, v in enumerate(vectors(N, 5))], ["first.weight"]),
    "flattened": (Flattened, stacked, lambda: vectors(N, 3, 4), ["inner.bias", "inner.weight", "last.bias", "last.weight"]),
    "routed": (Routed, stacked, lambda: vectors(N, 9, 4), IN_EXPERTS),
    "attention": (Attention, stacked, lambda: vectors(N, 5, 6), IN_ATTENTION),
    "custom": (Custom, stacked, lambda: vectors(N, 4), ["core"]),
    "erratic": (Erratic, stacked, lambda: vectors(N, 4), ["scale"]),
    "weight norm by attributes": (weight_norm_by_attributes, stacked, lambda: vectors(N, 4), ["0.weight_g", "0.weight_v"]),
    "parametrised": (lambda: nn.Sequential(weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2)), stacked, lambda: vectors(N, 4), IN_WEIGHT_NORM),
}  # fmt: skip


def made(case: str) -> tuple[nn.Module, Any, list[Any], list[str]]:
    make, losses, examples, by_autograd = CASES[case]
    torch.manual_seed(0)
    return make().double().eval(), losses, examples(), by_autograd


@pytest.mark.parametrize("case", CASES)
def test_grams_are_those_of_the_gradients_of_each_example(case: str) -> None:
    net, losses, examples, by_autograd = made(case)
    blocks = whole_tensors(net)
    found = layerwise_grams(net, losses, examples, blocks)
    assert_grams(found.gram, blocks, explicit(net, losses, examples))
    assert found.facts["by_autograd"] == by_autograd


@pytest.mark.slow
@pytest.mark.parametrize("case", ["convolutions", "words", "reused, with positions", "routed"])
def test_results_do_not_depend_on_what_is_evaluated_and_held_together(case: str) -> None:
    net, losses, examples, _ = made(case)
    blocks = whole_tensors(net)
    oracle = explicit(net, losses, examples)
    least = max(p.numel() for p in net.parameters()) * 16
    passes = set()
    for memory in (least, 3 * least, 9 * least, 10**9):
        for together in (1, 2, 5):
            found = layerwise_grams(net, losses, examples, blocks, memory=memory, together=together)
            assert_grams(found.gram, blocks, oracle, 1e-12)
            passes.add(found.facts["evaluations"])
    again = layerwise_grams(net, losses, examples, blocks, memory=10**9, together=5)
    assert np.array_equal(again.gram, found.gram), "the same call gives the same bits"
    assert len(passes) > 2, "memory decides how often examples are evaluated"


@pytest.mark.parametrize("example", [0, N - 1])
def test_one_example_has_its_squared_norms(example: int) -> None:
    net, losses, examples, _ = made("words")
    blocks = whole_tensors(net)
    found = layerwise_grams(net, losses, examples[example : example + 1], blocks)
    assert found.gram.shape == (len(blocks), 1, 1)
    assert_grams(found.gram, blocks, explicit(net, losses, examples[example : example + 1]))


def parts(name: str, *extents: Extent) -> list[Block]:
    return [Block(f"{name}[{i}]", name, str(i), "", "", e) for i, e in enumerate(extents)]


@pytest.mark.parametrize("positions", [1, 6])
def test_parts_of_a_tensor_are_those_of_its_rows_of_its_columns_or_any(positions: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 4)).double().eval()
    interleaved = [Extent(2, 30, 10 * i, 10) for i in range(3)]  # two heads of q, k, v with two rows each
    columns = [Extent(4, 12, 0, 8), Extent(4, 12, 8, 4)]
    ragged = [Extent(1, 31, 0, 31), Extent(1, 29, 31, 29)]
    biases = [Extent(2, 6, 2 * i, 2) for i in range(3)]
    examples = vectors(N, positions, 5)
    oracle = explicit(net, stacked, examples)
    for chosen in (interleaved, ragged):
        blocks = [*parts("0.weight", *chosen), *parts("0.bias", *biases), *parts("2.weight", *columns)]
        found = layerwise_grams(net, stacked, examples, blocks)
        assert_grams(found.gram, blocks, oracle)


def test_what_is_frozen_or_unused_has_zero_gradients() -> None:
    net, losses, examples, _ = made("words")
    net.norm.weight.requires_grad_(False)
    net.qkv.weight.requires_grad_(False)
    blocks = whole_tensors(net)
    found = layerwise_grams(net, losses, examples, blocks)
    zero = {b.name for b, k in zip(blocks, found.gram, strict=True) if not k.any()}
    assert zero == {"norm.weight", "qkv.weight", "unused"}
    assert (found.same[[b.name for b in blocks].index("unused")] == -1).all()
    others = [b for b in blocks if b.name not in zero]
    assert_grams(layerwise_grams(net, losses, examples, others).gram, others, explicit(net, losses, examples))


def test_equal_examples_have_equal_vectors() -> None:
    net, losses, examples, _ = made("words")
    again = [examples[i].clone() for i in (0, 1, 0, 2, 1)]
    found = layerwise_grams(net, losses, again, whole_tensors(net))
    assert found.same[0].tolist() == [0, 1, 0, 2, 1]
    assert np.array_equal(found.gram[:, 0], found.gram[:, 2])
    assert found.facts["distinct_examples"] == 3


def test_a_copy_is_evaluated_where_the_module_trains() -> None:
    net, losses, examples, _ = made("convolutions")
    blocks, oracle = whole_tensors(net), explicit(net, losses, examples)
    before = {n: v.clone() for n, v in net.state_dict().items()}
    net.train()
    found = layerwise_grams(net, losses, examples, blocks)
    assert_grams(found.gram, blocks, oracle)
    assert net.training
    assert all(torch.equal(v, before[n]) for n, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_losses_of_examples_that_are_evaluated_together_only_one_by_one() -> None:
    """Examples of different lengths, in a loss that takes one at a time."""
    torch.manual_seed(0)
    net = Words().double().eval()
    examples = [t[: 3 + i] for i, t in enumerate(tokens(11, 12))]

    def losses(network: nn.Module, chosen: Any) -> torch.Tensor:
        return torch.stack([counted(network, [example])[0] for example in chosen])

    blocks = whole_tensors(net)
    found = layerwise_grams(net, losses, examples, blocks, together=1)
    assert_grams(found.gram, blocks, explicit(net, losses, examples))
    assert_grams(layerwise_grams(net, losses, examples, blocks).gram, blocks, explicit(net, losses, examples))


def test_single_precision_is_near() -> None:
    net, losses, examples, _ = made("words")
    blocks = whole_tensors(net)
    found = layerwise_grams(net, losses, examples, blocks, precision="float32")
    assert found.gram.dtype == np.float64
    assert_grams(found.gram[:1], blocks[:1], explicit(net, losses, examples), 1e-5)


def test_what_cannot_be_measured_is_refused() -> None:
    net, losses, examples, _ = made("words")
    blocks = whole_tensors(net)
    with pytest.raises(LimitExceeded, match=r"of qkv\.weight take 1,728 bytes"):
        layerwise_grams(net, losses, examples, blocks, memory=1700)
    with pytest.raises(Refused, match="7 of 7 gradients of start"):
        layerwise_grams(net, lambda m, x: losses(m, x) * float("nan"), examples, blocks)
    with pytest.raises(ValueError, match="as many losses"):
        layerwise_grams(net, lambda m, x: losses(m, x).sum(), examples, blocks)
    with pytest.raises(ValueError, match="no examples"):
        layerwise_grams(net, losses, [], blocks)
    with pytest.raises(ValueError, match="no parameter head"):
        layerwise_grams(net, losses, examples, parts("head", Extent(1, 3, 0, 3)))
    with pytest.raises(Refused, match="other gradients") as refused:
        layerwise_grams(net, lambda m, x: losses(m, x) * torch.rand(len(x)), examples, blocks)
    assert refused.value.kind == "not-per-example"
    batch = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5, track_running_stats=False))
    with pytest.raises(Refused, match="statistics of the batch"):
        layerwise_grams(batch, stacked, vectors(N, 5), whole_tensors(batch))


def test_work_stops_when_asked() -> None:
    net, losses, examples, _ = made("words")
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(Cancelled):
        layerwise_grams(net, losses, examples, whole_tensors(net), together=2, stop=stop)


def test_a_plan_says_what_is_held() -> None:
    torch.manual_seed(0)
    net, examples = Words(400, 3, tied=False).double().eval(), tokens(400, 4)
    blocks = whole_tensors(net)
    wide = plan(net, counted, examples, blocks)
    assert wide.evaluations == N
    assert wide.products == {"embedding.weight", "positions.weight"}, (
        "4 tokens need no gradient of a vocabulary of 400, its output does"
    )
    narrow = plan(net, counted, examples, blocks, memory=4 * 8 * 1200)
    assert narrow.bytes <= 2 * 8 * 1200
    assert narrow.evaluations > N


def test_factors_are_held_without_the_tensors_that_they_are_parts_of() -> None:
    """The first position of a sequence, as a classifier takes it, must not keep the sequence."""
    whole = torch.randn(4, 50, 8, dtype=torch.float64)
    held = HeldProducts(torch.zeros(3, 8, dtype=torch.float64), 4, [Selection("")], 10**6)
    held.put(0, [Outer(torch.randn(4, 1, 3, dtype=torch.float64), whole[:, :1], 3)])
    ((_, (kept,)),) = held.kept
    assert kept.right.untyped_storage().nbytes() == 4 * 8 * 8
    rows = kept.form()
    assert torch.allclose(held.gram()[0], rows @ rows.T)


class Named(nn.Module):
    """Layers that are called by keyword, and not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.spare(x)
        return self.first(input=x)


def test_layers_that_are_called_by_keyword_or_in_vain() -> None:
    torch.manual_seed(0)
    net, examples = Named().double().eval(), vectors(N, 4)
    blocks = whole_tensors(net)
    found = layerwise_grams(net, stacked, examples, blocks)
    assert_grams(found.gram, blocks, explicit(net, stacked, examples))
    assert found.facts["by_autograd"] == []
    assert not found.gram[[b.name.startswith("spare") for b in blocks]].any()
