"""Numbers in names that are no whole numbers: dates, versions of artifacts, parts of an epoch."""

from __future__ import annotations

import re
from typing import Final

DATE: Final = "dated"
"""what ``StepName.extra`` has where the step is a date, ``YYYYMMDDhhmmss`` and a count, until all names are known"""
DIGITS: Final = "epoch_digits"
"""the number of digits of an epoch's part"""
PART: Final = "epoch_part"
"""the digits as a number"""
PARTS: Final = "epoch_parts"
"""into how many parts the numbers of a run divide an epoch"""

_SPEECHBRAIN: Final = re.compile(r"CKPT\+(\d{4})-(\d\d)-(\d\d)\+(\d\d)-(\d\d)-(\d\d)\+(\d\d)")
_ARTIFACT: Final = re.compile(r"[^:]+:v(\d{1,9})")
_NO_MORE: Final = r"(?![a-z0-9]|\.\d)"
_PARTS: Final = (
    re.compile(rf"(?<![a-z])(?:epochs?|ep)[-_=]?(\d{{1,9}})\.(\d{{1,6}}){_NO_MORE}"),
    re.compile(r"^(\d{1,9})\.(\d{1,6})[-_]?(?:epochs?|ep)(?![a-z0-9])"),
)


def date_of(label: str) -> int | None:
    """Return the date in the name of a folder of SpeechBrain's, as one number; None for other names.

    >>> date_of("CKPT+2024-01-31+12-05-00+00")
    2024013112050000
    """
    match = _SPEECHBRAIN.fullmatch(label)
    return int("".join(match.groups())) if match else None


def version_of(label: str) -> int | None:
    """Return the version of an artifact of Weights & Biases: ``model-1a2b3c:v7``."""
    match = _ARTIFACT.fullmatch(label)
    return int(match[1]) if match else None


def part_of_epoch(text: str) -> tuple[int, str] | None:
    """Return the epoch and the digits of its part that a name (in lower case) says: ``epoch=0.25``, ``1.5_epochs``."""
    match = next((m for pattern in _PARTS if (m := pattern.search(text))), None)
    return (int(match[1]), match[2].rstrip("0")) if match else None
