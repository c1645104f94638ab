"""Find the model's parameters within what a training script saved: which state dict, when it was saved, and what lies
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from storage_schema.models.results import Finding
from trajsvc.errors import DamagedCheckpoint, NotFound, Refused, TrajsvcError, UnsupportedFormat, printable
from trajsvc.sources.base import TensorEntry
from trajsvc.sources.files import Region
from trajsvc.sources.formats.limits import MAX_TENSORS, too_much
from trajsvc.sources.formats.pickle_reader import Built, Global
from trajsvc.sources.formats.torch_counts import counts_of, first_epoch, first_step
from trajsvc.sources.formats.torch_series import Member, Place, members_of
from trajsvc.sources.formats.torch_zip import SAVE_WEIGHTS, Refusal, TorchArchive, is_tensor, mapping, refused_as
from trajsvc.sources.states import (
    Choice,
    Wish,
    ambiguous,
    choose,
    is_average,
    is_model,
    is_no_average,
    matched,
    no_such_state,
)

STATE_KEYS: Final = ("state_dict", "model", "module", "model_state_dict", "net", "weights")
"""Where training scripts keep the model's state dict, in the order in which they are tried; without one of them the top level
itself is the state dict."""
_LIGHTNING_KEY: Final = "pytorch-lightning_version"
_NESTED: Final = 8
_VISITS: Final = 3 * MAX_TENSORS
_MINOR: Final = 0.01
"""A state with a smaller share of the largest one's tensors and of its elements is no rival to it."""


class SwappedAverage(Choice):
    """The choice in files of MMEngine whose EMAHook put the average where the model is usually kept, and the model where the average is."""

    def finding(self, what: str) -> Finding | None:
        found = super().finding(what)
        message = (
            f"{what}: MMEngine saved the moving average as {self.others[0]} and the model as {self.chosen}, which is read; "
            f"--state {self.others[0]} reads the average"
        )
        return found and found.model_copy(update={"message": message, "severity": "info"})


@dataclass(frozen=True, slots=True)
class TorchHeader:
    """The tensors of one torch file by their stored names, and what else its keys say."""

    tensors: dict[str, TensorEntry]
    left_out: dict[str, str]
    step: int | None
    """from the first of ``torch_counts.STEP_KEYS`` that there is"""
    epoch: int | None
    lightning: bool
    findings: tuple[Finding, ...] = ()
    """what was chosen, where the file holds several models"""
    state: str = ""
    """the key of the state dict that is read; empty for the top level"""


def read_torch(region: Region, wish: Wish = (), inside: Place = ()) -> TorchHeader:
    """Read the headers of one file written by ``torch.save``; see ``TorchFile``."""
    return TorchFile(region).header(wish, inside)


class TorchFile:
    """What a file written by ``torch.save`` holds; reads no tensor data.

    Raises what ``TorchArchive`` raises, and UnsupportedFormat (``pickled-module``).
    """

    def __init__(self, region: Region) -> None:
        self.archive = TorchArchive(region)
        self.path = self.archive.path

    @cached_property
    def counts(self) -> dict[str, int]:
        """Steps and epochs that the file's keys name."""
        top = mapping(self.archive.root)
        return {} if top is None else counts_of(top)

    @cached_property
    def listed(self) -> tuple[Member, ...]:
        """The state dicts in a list or a dictionary of them, in order, that may be the checkpoints of a run."""
        return members_of(self.archive.root, lambda state: self._tensor_names(state))

    @property
    def members(self) -> tuple[Member, ...]:
        """The checkpoints of a run that the file holds as a whole, in order; empty for a file that is one checkpoint."""
        return self.listed if self.listed and self.listed[0].sure else ()

    @cached_property
    def states(self) -> tuple[str, ...]:
        """Names of the state dicts under keys of the file."""
        top = mapping(self.archive.root)
        return () if top is None else tuple(self._states(top))

    def header(self, wish: Wish = (), inside: Place = ()) -> TorchHeader:
        """Return the tensors of the state dict that ``wish`` names, or of the model's if it names none, within the
        entry ``inside``.

        Raises Refused (``ambiguous-state-dict``), NotFound (``state-not-found``), UnsupportedFormat
        (``pickled-module``, ``unsupported-tensor``), DamagedCheckpoint (``no-tensors``).
        """
        root = self._within(inside)
        top = mapping(root)
        if top is None or _is_module(root):
            raise self._not_a_state_dict(root)
        place, state, choice, left = self._state(top, wish)
        tensors, left_out = self._tensors(state)
        if left:
            tensors, left = _under(self.path, tensors, left)
        if not tensors:
            raise self._no_tensors(top)
        left_out |= self._beside(top, place, choice)
        found = None if choice is None else choice.finding("each file holds several models")
        counts = counts_of(top) if inside else self.counts
        return TorchHeader(
            tensors, left_out, first_step(counts), first_epoch(counts), _LIGHTNING_KEY in top,
            () if found is None else (found,), _last_of(place, choice),
        )  # fmt: skip

    def _within(self, inside: Place) -> Any:
        root = self.archive.root
        for part in inside:
            inner = mapping(root)
            root = inner.get(part) if inner is not None else root[part] if isinstance(root, list | tuple) else None  # type: ignore[index]
        return root

    def _state(self, top: Mapping[Any, Any], wish: Wish) -> tuple[str | None, Mapping[Any, Any], Choice | None, Wish]:
        """Return key and contents of the state dict that is read, the choice that was made, and what is left of the
        wish.
        """
        self._refuse_modules(top)
        states = self._states(top)
        name, left = matched(list(states), wish)
        if name is not None:
            inner = states[name]
            return name, *self._deeper(inner, left)
        plain = {k: v for k, v in top.items() if is_tensor(v)}
        usual = [] if any(is_no_average(k) for k in states) else [k for k in STATE_KEYS if k in states]
        if _average_swapped(top, states):
            return "ema_state_dict", states["ema_state_dict"], SwappedAverage("ema_state_dict", ("state_dict",)), wish
        if usual:
            beside = tuple(k for k in states if k != usual[0])
            state, choice, left = self._deeper(states[usual[0]], wish)
            return usual[0], state, choice or (Choice(usual[0], beside) if beside else None), left
        if plain:
            averages = tuple(k for k in states if is_average(k))
            state = {k: v for k, v in top.items() if k not in averages}
            return None, state, Choice("the model", averages) if averages else None, wish
        if not states:
            return None, top, None, wish
        chosen = choose(self._rivals(states), self._refuse(wish)).chosen
        beside = tuple(k for k in states if k != chosen)
        state, choice, left = self._deeper(states[chosen], wish)
        return chosen, state, choice or (Choice(chosen, beside) if beside else None), left

    def _refuse(self, wish: Wish) -> Callable[[Sequence[str]], Refused | NotFound]:
        return lambda names: ambiguous(self.path, "tensors under", names, wish, kind="ambiguous-state-dict")

    def _deeper(self, state: Mapping[Any, Any], wish: Wish) -> tuple[Mapping[Any, Any], Choice | None, Wish]:
        """Return the state dict within ``state``: under the key that Lightning uses, or one of several models under one
        key.
        """
        inner = mapping(state.get(STATE_KEYS[0]))
        if inner and self._holds_tensors(inner):
            return inner, None, wish
        if any(is_tensor(v) for v in state.values()):
            return state, None, wish
        states = self._states(state)
        name, left = matched(list(states), wish)
        if name is not None:
            return states[name], None, left
        if len(states) > 1 and any(is_average(k) or k in STATE_KEYS for k in states):
            usual = next((k for k in STATE_KEYS if k in states), None)
            others = tuple(k for k in states if k != usual)
            choice = Choice(usual, others) if usual else choose(list(states), self._refuse(wish))
            return states[choice.chosen], choice, wish
        return state, None, wish

    def _states(self, top: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
        """Return the entries that hold tensors which may be a model's."""
        return {
            k: m
            for k, v in top.items()
            if isinstance(k, str) and is_model(k) and (m := mapping(v)) is not None and self._holds_tensors(m)
        }

    def _rivals(self, states: Mapping[str, Mapping[Any, Any]]) -> list[str]:
        """Return the states without those that are very small beside the largest."""
        sizes = {k: self._size(m) for k, m in states.items()}
        most = max(sizes.values(), default=0)
        return [k for k in states if sizes[k] >= _MINOR * most]

    def _size(self, state: Mapping[Any, Any]) -> int:
        total = 0
        for name, value in _leaves(self.path, state):
            if is_tensor(value):
                try:
                    placed = self.archive.tensor(name, value)
                except TrajsvcError:
                    continue
                total += 1 if placed is None or isinstance(placed, Refusal) else max(1, placed.size)
        return total

    def _holds_tensors(self, state: Mapping[Any, Any]) -> bool:
        return any(is_tensor(v) for _, v in _leaves(self.path, state))

    def _tensor_names(self, state: Mapping[Any, Any]) -> frozenset[str]:
        try:
            _, found, _, _ = self._state(state, ())
        except TrajsvcError:
            return frozenset()
        return frozenset(n for n, v in _leaves(self.path, found) if is_tensor(v))

    def _tensors(self, state: Mapping[Any, Any]) -> tuple[dict[str, TensorEntry], dict[str, str]]:
        tensors: dict[str, TensorEntry] = {}
        left_out: dict[str, str] = {}
        for name, value in _leaves(self.path, state):
            if len(tensors) >= MAX_TENSORS:
                raise too_much(self.path, "too many tensors", f"{MAX_TENSORS:,}")
            placed = self.archive.tensor(name, value)
            if isinstance(placed, Refusal):
                raise refused_as(placed, self.path, name)
            if placed is None:
                left_out[name] = "not a tensor"
            elif name in tensors:
                raise DamagedCheckpoint(
                    "name-conflict", f"{self.path}: two tensors are called {name!r}", hint=SAVE_WEIGHTS, file=self.path,
                    tensor=name,
                )  # fmt: skip
            else:
                tensors[name] = placed
        return tensors, left_out

    def _beside(self, top: Mapping[Any, Any], key: str | None, choice: Choice | None) -> dict[str, str]:
        if key is None:
            others: Sequence[str] = choice.others if choice else ()
        else:
            others = [k for k in top if k != key and isinstance(k, str)]
        return {k[:200]: "optimizer state" if "optim" in k else "not the model's state dict" for k in others}

    def _no_tensors(self, top: Mapping[Any, Any]) -> TrajsvcError:
        if self.listed:
            count, key = len(self.listed), self.listed[0].key
            sure = "checkpoints" if self.members else "state dicts, of a run or of an ensemble,"
            return UnsupportedFormat(
                "several-checkpoints",
                f"{self.path} holds {count} {sure} under {key}",
                hint=f"Analyse the file by itself{'' if self.members else f', with --state {key}'}: they are its checkpoints.",
                file=self.path,
            )
        return DamagedCheckpoint(
            "no-tensors",
            f"{self.path} holds no tensors where a model's are kept; its keys are {_listed(top)}",
            hint=f"A state dict is looked for under {', '.join(STATE_KEYS)} and at the top. {SAVE_WEIGHTS}",
            file=self.path,
        )

    def _refuse_modules(self, top: Mapping[Any, Any]) -> None:
        for key in STATE_KEYS:
            if _is_module(top.get(key)):
                raise self._not_a_state_dict(top[key], key)

    def _not_a_state_dict(self, value: Any, key: str | None = None) -> UnsupportedFormat:
        what = (
            str(value.function)
            if isinstance(value, Built) and isinstance(value.function, Global)
            else type(value).__name__
        )
        if isinstance(value, Built) and _is_module(value):
            arguments = value.arguments if isinstance(value.arguments, tuple) else ()
            what = next((str(a) for a in arguments if isinstance(a, Global)), what)
        return UnsupportedFormat(
            "pickled-module",
            f"{self.path} holds a pickled object ({printable(what)[:80]}){f' under {key}' if key else ''}, not a state dict",
            hint=f"Its tensors cannot be found without running its code. {SAVE_WEIGHTS}",
            file=self.path,
        )


def _last_of(place: str | None, choice: Choice | None) -> str:
    """Return the name of the innermost state dict that was chosen; none for a model under the name of an average."""
    if isinstance(choice, SwappedAverage):
        return ""
    return choice.chosen if choice is not None and place is not None else place or ""


def _average_swapped(top: Mapping[Any, Any], states: Mapping[str, Mapping[Any, Any]]) -> bool:
    """Return whether MMEngine's EMAHook wrote a file: it swaps the model and its average when saving, so that
    ``state_dict`` holds the average.
    """
    if not {"message_hub", "meta"} <= top.keys() or not {"state_dict", "ema_state_dict"} <= states.keys():
        return False
    ours = {n for n, v in states["state_dict"].items() if is_tensor(v)}
    wrapped = {
        n.removeprefix("module.") for n in states["ema_state_dict"] if isinstance(n, str) and n.startswith("module.")
    }
    return bool(wrapped) and wrapped <= ours


def _under(path: str, tensors: dict[str, TensorEntry], wish: Wish) -> tuple[dict[str, TensorEntry], Wish]:
    return under(path, tensors, wish), ()


def under(path: str, tensors: Mapping[str, TensorEntry], wish: Wish) -> dict[str, TensorEntry]:
    """Return the tensors whose names begin with the parts of ``wish``, named without them.

    Raises NotFound (``state-not-found``).
    """
    prefix = ".".join(wish) + "."
    found = {n.removeprefix(prefix): e for n, e in tensors.items() if n.startswith(prefix) and n != prefix}
    if not found:
        firsts = list(dict.fromkeys(n.partition(".")[0] for n in tensors if "." in n))
        raise no_such_state(path, wish, firsts if len(firsts) > 1 else [])
    return found


def _leaves(path: str, state: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield values by dotted name, without the optimizer's.

    The number of visits is bounded: mappings may contain each other many times.
    """
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
        elif inner and (len(stack) > 1 or is_model(name)):
            stack.append(_named(name + ".", inner))


def _named(prefix: str, state: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{prefix}{key}"[:2048], value) for key, value in state.items() if isinstance(key, str | int))


def _is_module(value: object) -> bool:
    """Return whether a whole module was pickled: an object of some class with ``_parameters`` in its state."""
    if not isinstance(value, Built):
        return False
    state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    return isinstance(state, dict) and "_parameters" in state and "_modules" in state


def _listed(top: Mapping[Any, Any]) -> str:
    keys = [printable(str(k)[:40]) for k in list(top)[:8] if isinstance(k, str | int)]
    return ", ".join(keys) + (" …" if len(top) > len(keys) else "") if keys else "none"
