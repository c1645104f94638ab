"""The model's parameters within what a training script saved: the state dict, and the step it was saved at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trajsvc.errors import DamagedCheckpoint, UnsupportedFormat, printable
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.files import Region
from trajsvc.sources.formats.limits import MAX_TENSORS, too_much
from trajsvc.sources.formats.pickle_reader import Built, Global
from trajsvc.sources.formats.torch_zip import SAVE_WEIGHTS, Refusal, TorchArchive, is_tensor, mapping
from trajsvc.steps import STEP_LIMIT

STATE_KEYS: Final = ("state_dict", "model", "module", "model_state_dict", "net", "weights")
"""Where training scripts keep the model's state dict, in the order in which they are tried; without one of them the top level
itself is the state dict."""
STEP_KEYS: Final = ("global_step", "step", "iter_num", "iteration", "epoch")
_LIGHTNING_KEY: Final = "pytorch-lightning_version"
_NOT_WEIGHTS: Final = ("optim", "scheduler", "scaler", "rng", "random")
_NESTED: Final = 8
_VISITS: Final = 3 * MAX_TENSORS


@dataclass(frozen=True, slots=True)
class TorchHeader:
    """The tensors of one torch file by their stored names, and what else its keys say."""

    tensors: dict[str, TensorEntry]
    left_out: dict[str, str]
    step: int | None
    """from ``global_step``, ``step``, ``iter_num``, ``iteration`` or ``epoch``, the first that there is"""
    epoch: int | None
    lightning: bool


def read_torch(region: Region) -> TorchHeader:
    """Headers of one file written by ``torch.save``; reads no tensor data.

    The state dict is the mapping under the first of ``STATE_KEYS`` that holds tensors, else the top level. Raises what
    ``TorchArchive`` raises, and UnsupportedFormat (``pickled-module``, ``unsupported-tensor``), DamagedCheckpoint (``no-tensors``).
    """
    archive = TorchArchive(region)
    top = mapping(archive.root)
    if top is None or _is_module(archive.root):
        raise _not_a_state_dict(archive)
    key, state = _state_dict(archive, top)
    tensors, left_out = _tensors(archive, state)
    if not tensors:
        raise DamagedCheckpoint(
            "no-tensors",
            f"{region.path} holds no tensors where a model's are kept; its keys are {_listed(top)}",
            hint=f"A state dict is looked for under {', '.join(STATE_KEYS)} and at the top. {SAVE_WEIGHTS}",
            file=region.path,
        )
    others = (k for k in top if k != key and isinstance(k, str)) if key is not None else ()
    left_out |= {k[:200]: "optimizer state" if "optim" in k else "not the model's state dict" for k in others}
    step = next((n for k in STEP_KEYS if (n := _count(top.get(k))) is not None), None)
    return TorchHeader(tensors, left_out, step, _count(top.get("epoch")), _LIGHTNING_KEY in top)


def _state_dict(archive: TorchArchive, top: Mapping[Any, Any]) -> tuple[str | None, Mapping[Any, Any]]:
    for key in STATE_KEYS:
        value = top.get(key)
        if _is_module(value):
            raise _not_a_state_dict(archive, key)
        inner = mapping(value)
        if inner is not None and _holds_tensors(archive, inner):
            deeper = mapping(inner.get(STATE_KEYS[0]))
            return key, deeper if deeper and _holds_tensors(archive, deeper) else inner
    if any(is_tensor(v) for v in top.values()):
        return None, top
    inside = {k: m for k, v in top.items() if _may_hold_weights(k) and (m := mapping(v)) and _holds_tensors(archive, m)}
    if len(inside) > 1:
        raise UnsupportedFormat(
            "ambiguous-state-dict",
            f"{archive.path} holds tensors under {_listed(inside)}; which of them is the model is not said",
            hint=f"Save one of them under 'model' or by itself. {SAVE_WEIGHTS}",
            file=archive.path,
        )
    return next(iter(inside.items()), (None, top))


def _may_hold_weights(key: object) -> bool:
    return isinstance(key, str) and not any(word in key.lower() for word in _NOT_WEIGHTS)


def _holds_tensors(archive: TorchArchive, state: Mapping[Any, Any]) -> bool:
    return any(is_tensor(v) for _, v in _leaves(archive.path, state))


def _tensors(archive: TorchArchive, state: Mapping[Any, Any]) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    tensors: dict[str, TensorEntry] = {}
    left_out: dict[str, str] = {}
    for name, value in _leaves(archive.path, state):
        if len(tensors) >= MAX_TENSORS:
            raise too_much(archive.path, "too many tensors", f"{MAX_TENSORS:,}")
        placed = archive.tensor(name, value)
        if isinstance(placed, Refusal):
            raise UnsupportedFormat(
                "unsupported-tensor",
                f"{archive.path}: tensor {name!r} is {placed.what}",
                hint="Save it as a plain dense tensor: tensor.to_dense(), tensor.dequantize(), torch.from_numpy(array).",
                file=archive.path,
                tensor=name,
            )
        if placed is None:
            left_out[name] = "not a tensor"
        elif name in tensors:
            raise DamagedCheckpoint(
                "name-conflict", f"{archive.path}: two tensors are called {name!r}", hint=SAVE_WEIGHTS, file=archive.path,
                tensor=name,
            )  # fmt: skip
        else:
            tensors[name] = placed
    return tensors, left_out


def _leaves(path: str, state: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Values by dotted name, without the optimizer's. The number of visits is bounded: mappings may hold each other many times."""
    visits = 0
    stack: list[Iterator[tuple[str, Any]]] = [_named("", state)]
    while stack:
        following = next(stack[-1], None)
        if following is None:
            stack.pop()
            continue
        visits += 1
        if visits > _VISITS:
            raise too_much(path, "a state dict nested in itself", f"{_VISITS:,} entries")
        name, value = following
        inner = mapping(value)
        if inner is None or len(stack) >= _NESTED:
            yield name, value
        elif inner and (len(stack) > 1 or _may_hold_weights(name)):
            stack.append(_named(name + ".", inner))


def _named(prefix: str, state: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{prefix}{key}"[:2048], value) for key, value in state.items() if isinstance(key, str | int))


def _is_module(value: object) -> bool:
    """Whether a whole module was pickled: an object of some class with ``_parameters`` in its state."""
    if not isinstance(value, Built):
        return False
    state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    return isinstance(state, dict) and "_parameters" in state and "_modules" in state


def _not_a_state_dict(archive: TorchArchive, key: str | None = None) -> UnsupportedFormat:
    value = archive.root if key is None else (mapping(archive.root) or {})[key]
    what = (
        str(value.function) if isinstance(value, Built) and isinstance(value.function, Global) else type(value).__name__
    )
    if isinstance(value, Built) and _is_module(value):
        arguments = value.arguments if isinstance(value.arguments, tuple) else ()
        what = next((str(a) for a in arguments if isinstance(a, Global)), what)
    return UnsupportedFormat(
        "pickled-module",
        f"{archive.path} holds a pickled object ({printable(what)[:80]}){f' under {key}' if key else ''}, not a state dict",
        hint=f"Its tensors cannot be found without running its code. {SAVE_WEIGHTS}",
        file=archive.path,
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= STEP_LIMIT else None


def _listed(top: Mapping[Any, Any]) -> str:
    keys = [printable(str(k)[:40]) for k in list(top)[:8] if isinstance(k, str | int)]
    return ", ".join(keys) + (" …" if len(top) > len(keys) else "") if keys else "none"
