"""Names of runs: plain file names, so that a name can never be a path."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from storage_schema.errors import BadRunName

MAX_NAME: Final = 128
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid run name, else raise BadRunName.

    A valid name is 1 to 128 letters, digits, ``.``, ``_``, ``-``, and does not begin with ``.`` or ``-``.
    """
    if len(name) <= MAX_NAME and _NAME.fullmatch(name):
        return name
    raise BadRunName(
        ascii(name[:MAX_NAME]),
        f"not a run name: letters, digits and ._- only, at most {MAX_NAME} of them, not led by . or -",
        f"{run_name(name)!r} would do.",
    )


def run_name(text: str) -> str:
    """Make a run name from a folder's name or a repository's id.

    >>> run_name("EleutherAI/pythia-70m")
    'EleutherAI-pythia-70m'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    joined = re.sub(r"[^A-Za-z0-9._]+", "-", plain)
    return joined.lstrip(".-")[:MAX_NAME].rstrip(".-") or "run"
