"""Patterns that users give, for names: regular expressions and shell patterns, matched in time linear in the name whatever they are.

The engine is RE2: Python's syntax with named groups, without look-around and back-references, which cannot be matched in linear time.
Every pattern of a request, a command line or a file of a user's is compiled here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import re2

from trajsvc.errors import UsageError

LONGEST: Final = 500
"""Characters of a pattern."""
LONGEST_GLOB: Final = 2048
"""Characters of a shell pattern, which may be as long as the name of a tensor."""
_MEMORY: Final = 2**19
"""Bytes of a compiled pattern."""


@dataclass(frozen=True)
class Glob:
    """A shell pattern for names: ``*`` any text, ``?`` one character, ``[…]`` one of several; the whole name must match."""

    text: str
    _compiled: Any
    _sets: bool

    @classmethod
    def of(cls, text: str, *, sets: bool = True) -> Glob:
        """Compile a shell pattern. With ``sets``, brackets mean one of several characters, else themselves.

        Raises UsageError (``bad-pattern``) if it is too long.
        """
        if len(text) > LONGEST_GLOB:
            raise _too_long(len(text), LONGEST_GLOB)
        return cls(text, _engine(_of_shell(text, "", sets), text, "", _MEMORY * 8), sets)

    def meets(self, name: str) -> bool:
        """Return whether the pattern matches the whole of ``name``."""
        try:
            return self._compiled.fullmatch(name) is not None
        except UnicodeEncodeError:  # a name that is not UTF-8
            return False

    def stars(self, name: str) -> tuple[str, ...] | None:
        """Return the text matched by each ``*`` and ``?`` in ``name``, each star greedily.

        None if the pattern does not match.
        """
        if not self.meets(name):
            return None
        match = _engine(_of_shell(self.text, "()", self._sets), self.text, "", _MEMORY * 8).fullmatch(name)
        return None if match is None else match.groups()


def compiled(text: str, *, hint: str = "", within: str | None = None) -> Any:
    """Compile the regular expression ``text`` for the linear-time engine, or ``within``, which contains it.

    Raises UsageError (``bad-pattern``) if it is no pattern, is too long, or cannot be matched in linear time.
    """
    if len(text) > LONGEST:
        raise _too_long(len(text), LONGEST)
    return _engine(text if within is None else within, text, hint, _MEMORY)


def _engine(regex: str, text: str, hint: str, memory: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    try:
        return re2.compile(regex, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise _bad(text, error, hint) from None


def _too_long(length: int, most: int) -> UsageError:
    return UsageError("bad-pattern", f"a pattern of {length:,} characters; at most {most} are read", hint="Shorten it.")


def _of_shell(text: str, group: str, sets: bool) -> str:
    """Translate a shell pattern to a regular expression; ``group`` is put around the translation of each ``*`` or
    ``?``.
    """
    opened, closed = group[:1], group[1:]
    parts, at = ["(?s)"], 0
    while at < len(text):
        character = text[at]
        end = text.find("]", at + 2 + text.startswith("[!", at)) if sets and character == "[" else -1
        at += 1
        if character in "*?":
            parts.append(f"{opened}.{'*' * (character == '*')}{closed}")
        elif end > 0:
            inside = text[at:end]
            negated = inside.startswith("!")
            of = _set(inside[negated:])
            parts.append(f"[{'^' if negated else ''}{of}]" if of else "." if negated else r"[^\x00-\x{10FFFF}]")
            at = end + 1
        else:
            parts.append(re2.escape(character))
    return "".join(parts)


def _set(inside: str) -> str:
    """Translate the contents of brackets: characters, and ranges of them; a range that runs backwards is dropped."""
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
    return "".join(parts)


def _bad(text: str, error: Exception, example: str) -> UsageError:
    said = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    hint = example or "Write a simpler one."
    if re.search(r"\(\?[=!<]", text) and "invalid perl operator" in said:
        hint = f"Look-around is not matched in linear time: say what is around the text, or leave it out. {example}".strip()
    elif re.search(r"\\[1-9]|\(\?P=", text):
        hint = f"References to earlier groups are not matched in linear time. {example}".strip()
    return UsageError("bad-pattern", f"{text!r} is no regular expression that is read here: {said}", hint=hint)
