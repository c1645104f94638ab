"""Leave out what is a second time there: ``model_1000 (copy).pt`` beside ``model_1000.pt``, ``best-step=500`` beside ``step=500``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from trajsvc.sources.formats.layout import Found
from trajsvc.sources.listing.entries import How, Listing, first_file
from trajsvc.sources.states import is_average, words_of

KEPT_APART: Final = re.compile(
    r"(?<![a-z])(?:best|last|latest|newest|current|resume|restart|backup|bak|copy)(?![a-z])", re.IGNORECASE
)
"""Words in the names of checkpoints that are written, or were put, beside those of a run."""
_BY_HAND: Final = re.compile(
    r"\A(?:copy[ _-]+of[ _-]+)?(?P<plain>.*?)"
    r"(?:[ ._-]*\(?(?<![a-z])(?:copy|backup|bak)(?![a-z])\)?(?:[ ._-]*\(?\d{1,2}\)?)?| +\(\d{1,2}\))?\Z",
    re.IGNORECASE | re.DOTALL,
)
"""What file managers and people add to the name of a copy."""


def without_copies(found: Sequence[Found], how: How, listing: Listing) -> list[Found]:
    """Return the checkpoints without those at the place of another that are its copies: by their name, or by their bytes.

    Averages beside the model are none, which equal it where training begins.
    """
    places: dict[tuple[object, ...], list[Found]] = {}
    for one in found:
        name = one.name
        key = name.kind, name.extra.get("stage"), name.extra.get("ingredient"), name.step, is_average(name.label)
        places.setdefault(key, []).append(one)
    left: list[Found] = []
    for group in places.values():
        group.sort(key=lambda f: (KEPT_APART.search(f.name.label) is not None, len(f.name.label)))
        for one in group[1:]:
            if _is_copy(one, group[0], how, listing):
                left.append(one)
    return [f for f in found if not any(f is one for one in left)]


def original_of(label: str, labels: Sequence[str]) -> str | None:
    """Return the one of ``labels`` of which a file is a copy by its name; None if there is none."""
    match = _BY_HAND.match(label)
    plain = match["plain"] if match else label
    return plain if plain != label and plain in labels else None


def _is_copy(one: Found, first: Found, how: How, listing: Listing) -> bool:
    """Return whether ``one`` is left out as a copy of ``first``, and say so."""
    label, other = one.name.label, first.name.label
    same = how.same(first, one)
    beside = KEPT_APART.search(label) is not None and KEPT_APART.search(other) is None
    if not beside and not (same and _words(label) == _words(other)):
        return False  # two models may begin alike
    note_copy(one, first_file(one) or label, other, same, listing)
    return True


def _words(label: str) -> set[str]:
    """Return the words of a label, without what Lightning adds to a name that is taken: ``step=500-v1``."""
    return set(words_of(re.sub(r"[-_]v\d+\Z", "", label)))


def note_copy(one: Found, path: str, first: str, same: bool, listing: Listing) -> None:
    """Say that a checkpoint is left out as a copy; a warning where it holds other bytes than what it is called a copy of."""
    step = [one.name.step]
    if same or original_of(one.name.label, [first]) is None:
        listing.note("ignored-file", f"{path} holds {one.name.kind} {step[0]}, as {first} does; it is left out", step)
    else:
        listing.note(
            "unread-weights",
            f"{path} is a copy of {first} by its name, and holds other bytes; it is left out. A quoted pattern reads it by itself",
            step,
            paths=[path],
        )
