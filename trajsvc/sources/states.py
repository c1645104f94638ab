"""Choose between several models in one place, when a script keeps a moving average, a teacher or a critic beside the
model.

The same choice is made between series of files (``model001000.pt``, ``ema_0.9999_001000.pt``), folders in a checkpoint
(``unet``, ``unet_ema``), files in a checkpoint's folder, and entries of one file (``student``, ``teacher``): the one
that is not an average, if there is one; else the user must choose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from storage_schema.models.results import Finding
from trajsvc.errors import NotFound, Refused
from trajsvc.sources.steps import without_decimals

Wish = tuple[str, ...]
"""What is left of ``--state``: names of states, one within the other."""

_AVERAGE: Final = frozenset(
    {
        "ema", "emas", "avg", "ave", "average", "averaged", "averages", "swa", "polyak", "shadow", "mean", "momentum", "moving", "teacher",
        "target", "slow", "lookahead", "ma",
    }
)  # fmt: skip
_SURELY: Final = _AVERAGE - {"teacher", "target", "mean", "slow", "momentum"}
"""Words that always mean an average: leaving it unread needs no warning."""
_NO_AVERAGE: Final = re.compile(r"(?<![a-z])(?:non|no|without)[-_.]?(?:ema|avg|average)(?![a-z])")
_MAIN: Final = frozenset({"student", "online", "main"})
"""Words for the model that is trained where another one is beside it."""
_GENERIC: Final = frozenset(
    {
        "step", "steps", "global", "iter", "iters", "iteration", "iterations", "itr", "update", "updates", "ba", "batch", "epoch",
        "epochs", "ep", "checkpoint", "checkpoints", "ckpt", "ckpts", "chkpt", "model", "models", "weights", "weight", "state",
        "states", "dict", "dicts", "sd", "params", "param", "parameters", "net", "network", "networks", "module", "save", "saved",
        "snapshot", "best", "last", "latest", "final", "end", "init", "initial", "start", "begin", "tokens", "token", "tok", "toks",
        "stage", "phase", "ingredient", "unsharded", "pytorch", "torch", "lit", "hf", "huggingface", "full", "file", "val", "valid",
        "train", "test", "eval", "monitor", "acc", "accuracy", "loss", "score", "psnr", "ssim", "fid", "bleu", "rouge", "wer", "cer",
        "ppl", "perplexity", "auc", "auroc", "iou", "miou", "dice", "mae", "mse", "rmse", "reward", "return", "elo", "top", "f", "lr",
        "bs", "at", "of", "and", "by", "fp", "bf", "float", "diffusion", "consolidated", "resume", "resumed", "restart", "restarted",
        "continued", "first", "early", "mid", "middle", "late",
    }
)  # fmt: skip
"""Words that tell no state from another."""
_NOT_MODELS: Final = re.compile(
    r"optim|(?:^|_)opt(?:$|_|imizers?)|sched|scaler|(?:^|_)rng|random|loss|criterion|metric|history|callback|buffer|replay|config|args"
    r"|hparams|hyper|(?:^|_)center|data_?loader|sampler|tokenizer|vocab|(?:^|_)stats?(?:$|_)|grad|indices|generator_state|python|numpy|cuda"
    r"|extra|(?:^|_)meta|^data$|dataset|trainer|^loops$|(?:^|_)amp(?:$|_)|^env|norm_?stats|train_state"
)
_IDENTITY: Final = re.compile(
    r"(?<![a-z])(seed|fold|rank|run|trial|exp|version|cv|split|part|shard|member)[-_=]?(\d+|default)(?![a-z0-9])"
)


@dataclass(frozen=True)
class Choice:
    """The state that is read, and those beside it."""

    chosen: str
    others: tuple[str, ...] = ()

    def finding(self, what: str) -> Finding | None:
        """Report the other states; ``what`` says where they are."""
        if not self.others:
            return None
        known = all(set(words_of(name)) & _SURELY for name in self.others)
        named = ", ".join(self.others[:6]) + (" …" if len(self.others) > 6 else "")
        kind = "a moving average of it" if known and len(self.others) == 1 else "others"
        return Finding(
            kind="other-states",
            severity="info" if known else "warning",
            message=f"{what}: {self.chosen} is read, {named} beside it is not ({kind}); --state NAME reads another",
            details={"state": self.chosen, "others": list(self.others)},
        )


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name that may tell a state from another: without steps, scores and words that every
    checkpoint has.
    """
    text = without_decimals(re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    named = [word + number for word, number in _IDENTITY.findall(text)]
    plain = re.sub(r"(?<=\d)(?:[kmbt]+(?![a-z])|e[-+]?\d+)", "", _IDENTITY.sub("~", text))
    return tuple(dict.fromkeys([w for w in re.findall(r"[a-z]+", plain) if w not in _GENERIC] + named))


def is_average(name: str) -> bool:
    """Return whether a state is an average of another by its name, or a copy that follows it."""
    return bool(_AVERAGE & set(words_of(name))) and not is_no_average(name)


def is_no_average(name: str) -> bool:
    """Return whether a name says that a state is the model and the one beside it the average: ``model.non_ema``."""
    return _NO_AVERAGE.search(name.lower()) is not None


def is_model(name: str) -> bool:
    """Return whether tensors under this name may be a model's: not an optimizer's, a loss's or a loader's."""
    return not _NOT_MODELS.search(name.lower())


def matched(names: Sequence[str], wish: Wish) -> tuple[str | None, Wish]:
    """Return the one of ``names`` that the wish begins with, and what is left of the wish.

    None and the whole wish if there is none.
    """
    if not wish:
        return None, wish
    head = wish[0]
    for fits in (
        lambda name: name == head,
        lambda name: name.lower() == head.lower(),
        lambda name: words_of(name) == words_of(head),
        lambda name: bool(words_of(head)) and set(words_of(head)) <= set(words_of(name)),
        lambda name: bool(words_of(name)) and set(words_of(name)) <= set(words_of(head)),
    ):
        found = [name for name in names if fits(name)]
        if len(found) == 1:
            return found[0], wish[1:]
    return None, wish


def choose(names: Sequence[str], refuse: Callable[[Sequence[str]], Refused | NotFound]) -> Choice:
    """Choose which of ``names`` is the model, if the user did not say.

    It is the only one; else the only one that is not an average; else the only one whose name has no distinguishing
    words (``model``) or says that it is trained beside another (``student``). Raises ``refuse(names)`` if the choice is
    ambiguous.
    """
    left = [n for n in names if is_no_average(n)] or [n for n in names if not is_average(n)] or list(names)
    if len(left) > 1:
        plain = [n for n in left if not words_of(n)]
        left = plain or [n for n in left if _MAIN & set(words_of(n))] or left
    if len(left) != 1:
        raise refuse(names)
    return Choice(left[0], tuple(n for n in names if n != left[0]))


def ambiguous(
    where: str, what: str, names: Sequence[str], wish: Wish = (), *, kind: str = "ambiguous-state"
) -> Refused | NotFound:
    """Return the error that asks which of several models is meant, or (``wish``) that the one that was named does not
    exist.

    ``what`` describes what ``where`` holds.
    """
    if wish:
        return no_such_state(where, wish, names)
    shown = sorted(names)
    listed = ", ".join(shown[:8]) + (" …" if len(shown) > 8 else "")
    options = " or ".join(f"--state {_quoted(n)}" for n in shown[:4])
    return Refused(
        kind,
        f"{where} holds {what} {listed}; which of them is the model is not said",
        hint=f"Say {options}.",
        file=where,
    )


def no_such_state(where: str, wish: Wish, names: Sequence[str]) -> NotFound:
    """Return the error for a ``--state`` that does not exist."""
    shown = sorted(names)
    has = (
        f"It has {', '.join(shown[:8])}{' …' if len(shown) > 8 else ''}."
        if shown
        else "It holds one model alone: leave out --state."
    )
    return NotFound("state-not-found", f"{where} holds no state that is called {'/'.join(wish)}", hint=has, file=where)


def wish_of(text: str | None) -> Wish:
    """Split a state's name into its parts, as in ``actor/ema``."""
    return tuple(part for part in (text or "").split("/") if part)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w./-]+", name) else f"'{name}'"


def series_of(labels: Mapping[str, str]) -> dict[tuple[str, ...], list[str]]:
    """Group the keys of ``labels`` by the words that tell their labels from the others: one series of checkpoints for
    each.
    """
    words = {key: words_of(label) for key, label in labels.items()}
    common = set.intersection(*(set(w) for w in words.values())) if words else set()
    found: dict[tuple[str, ...], list[str]] = {}
    for key, own in words.items():
        found.setdefault(tuple(w for w in own if w not in common), []).append(key)
    return found
