"""Patterns that users give, for names: regular expressions that say where the step is, and shell patterns. Matched in linear time.

The engine is RE2: Python's syntax with named groups, without look-around and back-references, which cannot be matched in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import re2

from trajsvc.errors import UsageError
from trajsvc.sources.steps import STAGES, STEP_LIMIT, Kind, StepName, scaled

LONGEST: Final = 500
"""characters of a pattern"""
_MEMORY: Final = 2**20
"""bytes of a compiled pattern"""
COUNTS: Final[tuple[Kind, ...]] = ("step", "index", "epoch", "tokens")
"""Groups that may be the place on the axis, the first that a name has"""
GROUPS: Final = ("stage", "phase", "ingredient", *COUNTS)
_EXAMPLE: Final = r"For example 'phase(?P<phase>\d+)_checkpoint_(?P<step>\d+)'."


@dataclass(frozen=True)
class Glob:
    """A shell pattern for names: ``*`` any text, ``?`` one character, ``[…]`` one of several; the whole name must match."""

    text: str
    _compiled: Any

    @classmethod
    def of(cls, text: str) -> Glob:
        """Raises UsageError (``bad-pattern``) for what is too long."""
        return cls(text, compiled(_of_shell(text), text))

    def meets(self, name: str) -> bool:
        """Whether ``name`` is one of those that the pattern means."""
        return self.stars(name) is not None

    def stars(self, name: str) -> tuple[str, ...] | None:
        """What its ``*`` and ``?`` stand for in ``name``, each star as much as it can; None where it does not match."""
        try:
            match = self._compiled.fullmatch(name)
        except UnicodeEncodeError:  # a name that is not UTF-8
            return None
        return None if match is None else match.groups()


@dataclass(frozen=True)
class StepPattern:
    """A regular expression whose named groups say what the numbers of a name are.

    ``step``, ``epoch``, ``tokens`` or ``index`` is the place on the axis (the first of them that the name has), ``stage`` (or ``phase``)
    and ``ingredient`` what comes before it. Numbers may end in k, M, B or T; a stage may be a known word (``pretrain``, ``anneal`` …).
    """

    text: str
    _compiled: Any

    @classmethod
    def of(cls, text: str) -> StepPattern:
        """Raises UsageError (``bad-pattern``) for what is no pattern, is too long, or cannot be matched in linear time."""
        regex = compiled(text, text)
        if not {*COUNTS} & {*regex.groupindex}:
            raise UsageError("bad-pattern", f"{text!r} has no group that is called {', '.join(COUNTS)}", hint=_EXAMPLE)
        unknown = sorted({*regex.groupindex} - {*GROUPS})
        if unknown:
            hint = f"Groups may be called {', '.join(GROUPS)}."
            raise UsageError("bad-pattern", f"{text!r} has a group that is called {unknown[0]}", hint=hint)
        return cls(text, regex)

    def meets(self, name: str) -> bool:
        """Whether the pattern matches all of ``name``."""
        try:
            return self._compiled.fullmatch(name) is not None
        except UnicodeEncodeError:
            return False

    def stage_word(self, name: str) -> str:
        """The stage of a name that the pattern matches, where it is a word that is not known; empty otherwise."""
        match = self._compiled.fullmatch(name)
        groups = {} if match is None else match.groupdict()
        word = groups.get("stage") or groups.get("phase") or ""
        return word if word and _stage(word) is None else ""

    def read(self, name: str, label: str | None = None, *, whole: bool = False) -> StepName | None:
        """What the pattern says of ``name``, anywhere in it or (``whole``) all of it; None where it does not match, or where a number
        is none. ``label`` is what the checkpoint is called."""
        try:
            match = self._compiled.fullmatch(name) if whole else self._compiled.search(name)
        except UnicodeEncodeError:  # a file's name that is not UTF-8
            return None
        return None if match is None else _step_name(match.groupdict(), name if label is None else label)


def _step_name(groups: Mapping[str, str | None], label: str) -> StepName | None:
    numbers: dict[str, int] = {}
    for group, text in groups.items():
        if not text:
            continue
        number = _stage(text) if group in ("stage", "phase") else scaled(text)
        if number is None or number > STEP_LIMIT:
            return None
        numbers["stage" if group == "phase" else group] = number
    kind = next((k for k in COUNTS if k in numbers), None)
    if kind is None:
        return None
    return StepName(numbers.pop(kind), label, kind, {k: v for k, v in numbers.items() if k != "index"})


def _stage(text: str) -> int | None:
    """A stage by its number, or the place of a known word among the stages of a training."""
    return scaled(text) if text[:1].isdigit() else STAGES.get(re.sub(r"[-_ ]", "", text.lower()))


def compiled(regex: str, text: str) -> Any:
    """``regex`` for the linear-time engine; ``text`` is what the user wrote. Raises UsageError (``bad-pattern``) for what is no pattern, is
    too long, or cannot be matched in linear time."""
    if len(text) > LONGEST:
        raise UsageError(
            "bad-pattern", f"a pattern of {len(text):,} characters; at most {LONGEST} are read", hint="Shorten it."
        )
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(regex, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise _bad(text, error) from None


def _of_shell(text: str) -> str:
    """A shell pattern as a regular expression, a group for each ``*`` and ``?``."""
    parts, at = ["(?s)"], 0
    while at < len(text):
        character = text[at]
        end = text.find("]", at + 2 + text.startswith("[!", at)) if character == "[" else -1
        at += 1
        if character in "*?":
            parts.append("(.*)" if character == "*" else "(.)")
        elif end > 0:
            inside = text[at:end]
            negated = inside.startswith("!")
            parts.append(f"[{'^' if negated else ''}{_set(inside[negated:])}]")
            at = end + 1
        else:
            parts.append(re2.escape(character))
    return "".join(parts)


def _set(inside: str) -> str:
    """What stands in brackets: characters, and ranges of them that go upwards."""
    parts, at = [], 0
    while at < len(inside):
        first = inside[at]
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            last = inside[at + 2]
            parts += [f"{re2.escape(first)}-{re2.escape(last)}"] if first <= last else []
            at += 3
        else:
            parts.append(re2.escape(first))
            at += 1
    return "".join(parts) or r"^\x00-\x{10FFFF}"


def _bad(text: str, error: Exception) -> UsageError:
    said = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    hint = _EXAMPLE
    if re.search(r"\(\?[=!<]", text) and "invalid perl operator" in said:
        hint = f"Look-around is not matched in linear time: say what is around the number, or leave it out. {_EXAMPLE}"
    elif re.search(r"\\[1-9]|\(\?P=", text):
        hint = f"References to earlier groups are not matched in linear time. {_EXAMPLE}"
    return UsageError("bad-pattern", f"{text!r} is no regular expression that is read here: {said}", hint=hint)
