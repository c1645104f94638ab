"""Limits on what one file may claim, and the checks that every format shares."""

from __future__ import annotations

import re
from typing import Final

from trajsvc.errors import DamagedCheckpoint, LimitExceeded

MAX_HEADER: Final = 16 * 2**20
"""Bytes of a header, a pickle, an index or a table of contents."""
MAX_TENSORS: Final = 100_000
MAX_VIEWS: Final = 10_000
"""Tensors in one storage: trainers that lay a whole model in one buffer make a few thousand."""
MAX_EMPTY: Final = 10_000
"""Tensors without elements: a trainer that keeps its parameters elsewhere leaves as many as the model has parameters."""
MAX_RANK: Final = 16
MAX_NAME: Final = 512
MAX_ELEMENTS: Final = 2**56
"""No machine holds more; below it no product with an element's size overflows 64 bits."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def too_much(path: str, what: str, limit: str, tensor: str | None = None) -> LimitExceeded:
    return LimitExceeded(
        "limit-exceeded",
        f"{path} has {what}; at most {limit} are read",
        hint="A checkpoint does not look like this: the file is damaged or was made to do harm.",
        file=path,
        tensor=tensor,
    )


def check_name(path: str, name: str) -> None:
    """Check a tensor's name. Any printable name is valid, ``../../etc/passwd`` too: it is never used as a path.

    Raises DamagedCheckpoint (``bad-name``) for an empty one or one with control characters, LimitExceeded above 512
    bytes.
    """
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        length = 0
    if length > MAX_NAME:
        raise too_much(
            path, f"a tensor name of {length:,} bytes ({name[:40]!r}…)", f"{MAX_NAME} bytes", name[:MAX_NAME]
        )
    if length == 0 or _CONTROL.search(name):
        raise DamagedCheckpoint(
            "bad-name",
            f"{path}: {name!r} is no name for a tensor",
            hint="Names are not empty and have no control characters.",
            file=path,
            tensor=name,
        )


def check_rank(path: str, name: str, shape: tuple[int, ...]) -> None:
    """Raise LimitExceeded for more than 16 dimensions, DamagedCheckpoint (``bad-shape``) for a product that no file can
    hold.
    """
    if len(shape) > MAX_RANK:
        raise too_much(path, f"tensor {name} with {len(shape)} dimensions", f"{MAX_RANK}", name)
    product = 1
    for length in shape:
        # Zeros are left out: a shape such as (0, 2**62) has no elements, yet no reader could address it.
        product *= max(length, 1)
        if product > MAX_ELEMENTS:
            raise DamagedCheckpoint(
                "bad-shape",
                f"{path}: tensor {name!r} has the shape {list(shape)}, too large for any file",
                hint="The header is damaged: fetch or copy the file again.",
                file=path,
                tensor=name,
            )
