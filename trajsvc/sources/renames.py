r"""The user's own renames of tensors: ``FROM=TO``.

FROM is a whole name (``wte.weight=embed.weight``); the beginning of names where it ends with a dot (``visual.=model.visual.``); a shell
pattern, whose stars stand for any text and are taken in order by the stars of TO (``*.gamma=*.weight``); or a regular expression where it
begins with ``^``, whose groups TO takes as ``\1`` (``^h\.(\d+)\.=layers.\1.``). Of several the first that fits a name is applied, once.
Regular expressions are matched in linear time (``linear_patterns``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trajsvc.anatomy.linear_patterns import compiled
from trajsvc.errors import UsageError

LONGEST: Final = 1024
"""Characters of a name or of a rename's text beyond which it is left alone or refused."""


_EXAMPLE: Final = r"Write 'visual.=model.visual.', '*.gamma=*.weight', or '^h\.(\d+)\.=layers.\1.'."
REPEATS: Final = 3
"""Unbounded repetitions in one regular expression; a group must not be repeated, since ``\\1`` would be ambiguous."""
_REPEATED_GROUP: Final = re.compile(r"(?<!\\)\)[*+{]")
_REPEAT: Final = re.compile(r"(?<!\\)(?:[*+]|\{\d*,\d*\})")
_GROUP: Final = re.compile(r"\\(?:([0-9]{1,2})|g<([A-Za-z0-9_]{1,64})>)")


@dataclass(frozen=True)
class Rename:
    """One rename. ``pattern`` is a regular expression, or the texts between the stars of a shell pattern; ``to`` is what a match becomes:
    a template of the expression's groups, or the texts between stars."""

    text: str
    pattern: Any
    to: str | tuple[str, ...]

    def of(self, name: str) -> str | None:
        """Return the new name, or None if this rename does not fit ``name``."""
        if not isinstance(self.pattern, tuple):
            return _substituted(self.pattern, str(self.to), name)
        stars = _stars(self.pattern, name)
        if stars is None:
            return None
        ends = [*stars[: len(self.to) - 1], ""]
        return "".join(part + star for part, star in zip(self.to, ends, strict=True))


def _substituted(pattern: Any, to: str, name: str) -> str | None:
    """Replace what the expression matches at the beginning of ``name`` by the template ``to``.

    None if it does not match.
    """
    try:
        match = pattern.match(name) if len(name) <= LONGEST else None
    except UnicodeEncodeError:  # a name that is not UTF-8
        return None
    return None if match is None else _GROUP.sub(lambda g: match[_group(g)] or "", to) + name[match.end() :]


def _group(reference: re.Match[str]) -> int | str:
    """Return the group that ``\\1`` or ``\\g<name>`` means."""
    word = reference[1] or reference[2]
    return int(word) if word.isdigit() else str(word)


def _stars(parts: Sequence[str], name: str) -> list[str] | None:
    """Return the texts that the stars between ``parts`` match in ``name``, each as short as possible except the last.

    None without a match.
    """
    if len(parts) == 1:
        return [] if name == parts[0] else None
    first, last = parts[0], parts[-1]
    if not (name.startswith(first) and name.endswith(last) and len(name) >= len(first) + len(last)):
        return None
    at, end = len(first), len(name) - len(last)
    found = []
    for part in parts[1:-1]:
        place = name.find(part, at, end)
        if place < 0:
            return None
        found.append(name[at:place])
        at = place + len(part)
    return [*found, name[at:end]]


def read_renames(texts: Iterable[str]) -> tuple[Rename, ...]:
    """Parse renames. Raises UsageError (``bad-rename``)."""
    return tuple(_read(text) for text in texts)


def _read(text: str) -> Rename:
    source, equals, to = text.rpartition("=")
    if not equals or not source:
        raise _bad(text, "it is not FROM=TO")
    if len(text) > LONGEST:
        raise _bad(f"{text[:40]}…", f"it is longer than {LONGEST} characters")
    if source.startswith("^"):
        return Rename(text, _expression(text, source, to), to)
    if source.endswith(".") and "*" not in source:
        source, to = f"{source}*", f"{to}*"
    if to.count("*") > source.count("*"):
        raise _bad(text, f"TO has {to.count('*')} stars, and FROM {source.count('*')}")
    return Rename(text, tuple(source.split("*")), tuple(to.split("*")))


def _expression(text: str, source: str, to: str) -> Any:
    if _REPEATED_GROUP.search(source) or len(_REPEAT.findall(source)) > REPEATS:
        raise _bad(text, f"a regular expression may repeat no group, and have at most {REPEATS} of *, + and {{,}}")
    try:
        pattern = compiled(source)
    except UsageError as error:
        raise _bad(text, error.message) from None
    known = {*range(1, pattern.groups + 1), *pattern.groupindex, 0}
    unknown = [g[0] for g in _GROUP.finditer(to) if _group(g) not in known]
    if unknown or "\\" in _GROUP.sub("", to):
        raise _bad(text, f"{unknown[0] if unknown else to} names no group of {source}")
    return pattern


def _bad(text: str, what: str) -> UsageError:
    return UsageError(
        "bad-rename",
        f"--rename {text}: {what}",
        hint=_EXAMPLE,
    )


def apply_renames(renames: Sequence[Rename], names: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """Return name → new name for every one of ``names``, in order, and the texts of the renames that matched some.

    Raises UsageError (``rename-conflict``) when two names become one.
    """
    found: dict[str, str] = {}
    used: set[str] = set()
    back: dict[str, str] = {}
    for name in names:
        new = name
        for rename in renames:
            moved = rename.of(name)
            if moved is not None:
                new = moved
                used.add(rename.text)
                break
        if new in back:
            raise UsageError(
                "rename-conflict",
                f"{name} and {back[new]} are both {new} by --rename",
                hint="Let FROM fit fewer names.",
                tensor=name,
            )
        back[new] = name
        found[name] = new
    return found, used
