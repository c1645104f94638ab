"""Conditions on runs, as people write them: ``lr>0.01``, ``optimizer=adamw``, ``name~pythia``, ``parameters>=70M``.

One parser for the command line, HTTP and Python. A condition is a field, one of ``= != < <= > >= ~``, and a value; ``~`` asks whether a
text contains the value, in any case of letters. A field that a run does not have fails every condition but ``!=``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Final

from storage_schema.models.results import Scalar
from trajsvc.errors import UsageError

MOST: Final = 16
"""conditions at once"""
LONGEST: Final = 700
"""characters of a condition"""
FIELD: Final = r"[A-Za-z_][A-Za-z0-9_.:/-]{0,99}"
_CONDITION: Final = re.compile(
    rf"\s*(?P<field>{FIELD})\s*(?P<operator>!=|<=|>=|==|=|<|>|~)\s*(?P<value>.*?)\s*", re.DOTALL
)
_NUMBER: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)([kMBGT]?)")
_POWERS: Final = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}

Value = Scalar | Sequence[str] | None
"""of a field: several words where it is a list, such as tags; None where a run does not have it"""


@dataclass(frozen=True)
class Condition:
    """One condition on one field."""

    field: str
    operator: str
    value: str

    def holds(self, found: Value) -> bool:
        """Return whether a run whose field is ``found`` meets it."""
        if self.operator == "!=":
            return not self._equals(found)
        if found is None:
            return False
        if self.operator == "=":
            return self._equals(found)
        if self.operator == "~":
            words = [text_of(found)] if isinstance(found, bool | int | float | str) else found
            return any(self.value.lower() in word.lower() for word in words)
        return self._ordered(found)

    def _equals(self, found: Value) -> bool:
        if found is None:
            return False
        if not isinstance(found, bool | int | float | str):
            return self.value in found
        number = number_of(self.value)
        if isinstance(found, int | float) and not isinstance(found, bool) and number is not None:
            return float(found) == number
        return text_of(found) == (self.value.lower() if isinstance(found, bool) else self.value)

    def _ordered(self, found: Value) -> bool:
        """Compare numbers as numbers and texts, such as dates, as texts."""
        number = number_of(self.value)
        if isinstance(found, str):
            return _ORDERS[self.operator](found, self.value)
        if isinstance(found, int | float) and not isinstance(found, bool) and number is not None:
            return _ORDERS[self.operator](found, number)
        return False


def parse_condition(text: str) -> Condition:
    """Parse one condition; quotes around the value are taken away. Raises UsageError (``bad-condition``).

    >>> parse_condition("lr >= 1e-3")
    Condition(field='lr', operator='>=', value='1e-3')
    """
    match = _CONDITION.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        hint = "Write a field, one of = != < <= > >= ~, and a value: 'lr>0.01', optimizer=adamw, name~pythia."
        raise UsageError("bad-condition", f"{text[:80]!a} is no condition", hint=hint)
    value = match["value"]
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return Condition(match["field"], "=" if match["operator"] == "==" else match["operator"], value)


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """Parse conditions, of which all have to hold. Raises UsageError (``bad-condition``), also for more than 16."""
    if len(texts) > MOST:
        raise UsageError("bad-condition", f"{len(texts)} conditions", hint=f"Give at most {MOST}.")
    return [parse_condition(text) for text in texts]


def number_of(text: str) -> float | None:
    """Return the number that a text stands for, with a suffix k, M, B, G or T as in ``70M``; None if it is none."""
    match = _NUMBER.fullmatch(text)
    return None if match is None else float(match[1]) * _POWERS[match[2]]


def text_of(value: Scalar) -> str:
    """Write a value as it is read: booleans in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)
