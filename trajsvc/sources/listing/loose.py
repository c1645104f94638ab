"""Place files beside numbered checkpoints that have no number themselves (``last.ckpt``, ``final/``): by their keys,
else only report them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from trajsvc.errors import NotFound, Refused
from trajsvc.sources.formats.layout import Folder, Found, Weights, is_weights, weights_of
from trajsvc.sources.formats.shards import SHARD
from trajsvc.sources.listing.axis import Axis, learnt
from trajsvc.sources.listing.copies import KEPT_APART, note_copy, original_of
from trajsvc.sources.listing.entries import How, Listing, first_file, label_of, some
from trajsvc.sources.states import is_average, words_of
from trajsvc.sources.steps import PLACED, Kind, StepName, parse_step

_AGAIN: Final = re.compile(r"[-_]v\d+$")
"""What Lightning adds to a name that is taken: ``last-v1``."""
_LOOKED_INTO: Final = 50


class Loose:
    """Place checkpoints without a number among the checkpoints ``found`` of a folder."""

    def __init__(self, folder: Folder, found: Sequence[Found], kind: Kind, how: How, listing: Listing) -> None:
        self.folder, self.found, self.kind, self.how, self.listing = folder, found, kind, how, listing
        self.words = set(words_of(found[0].name.label)) if found else set()
        self._axis: Axis | None = None
        self.unread: list[str] = []

    def files(self, names: Sequence[str]) -> list[Found]:
        """Place files of weights beside the checkpoints."""
        parts = [n for n in self.folder.files if SHARD.fullmatch(n) or n.endswith(".index.json")]
        if parts:
            self.unread.append(f"{self.folder / sorted(parts)[0]} and its shards")
        placed = (
            self._placed(label_of(n), Found(_unplaced(n), _single(self.folder, n), (self.folder.path,))) for n in names
        )
        return [p for p in placed if p is not None]

    def folders(self, names: Sequence[str]) -> list[Found]:
        """Place folders of weights beside the checkpoints."""
        placed = []
        for name in names[:_LOOKED_INTO]:
            try:
                inner = self.folder.inner(name)
                weights = weights_of(inner, self.how.state)
            except OSError:
                continue
            except (NotFound, Refused):
                self.unread.append(self.folder / name)
                continue
            if weights is None:
                if numbered(inner):
                    self.unread.append(f"{self.folder / name} (checkpoints of its own)")
                continue
            config = (weights.folder, inner.path, self.folder.path)
            found = self._placed(name, Found(_unplaced(name), weights, config))
            placed += [found] if found else []
        return placed

    def report(self) -> None:
        """Say which weights were not read."""
        if self.unread:
            one = len(self.unread) == 1
            it, them = ("it", "its") if one else ("them", "their")
            numbers = any(re.search(r"\d", label_of(path.rpartition("/")[2])) for path in self.unread)
            where = (
                "--step-pattern says where it is" if numbers else f"A name with {them} {self.kind} gives {it} a place"
            )
            self.listing.note(
                "unread-weights",
                f"{some(self.unread)} hold{'s' if one else ''} weights and {'is' if one else 'are'} not read: no {self.kind} is named. "
                f"{where}; by {'itself it is' if one else 'themselves they are'} read by {them} path",
                paths=self.unread[:20],
            )

    def _placed(self, label: str, found: Found) -> Found | None:
        path = first_file(found)
        labels = {f.name.label: f for f in self.found}
        if (first := original_of(label, list(labels))) is not None:
            original = labels[first]
            copy = replace(found, name=replace(original.name, label=label))
            note_copy(copy, path, first, self.how.same(original, found), self.listing)
            return None
        own = set(words_of(_AGAIN.sub("", label)))
        if own and not own <= self.words:
            if is_average(label):
                self.listing.note("ignored-file", f"{path} is an average, by its name; it is left out")
            else:
                self.unread.append(path)
            return None
        held = self.how.torch(path) if found.weights.format == "torch-zip" else None
        place = None if held is None else self.axis.of(held.counts)
        if place is None:
            self._leave_out(label, path, unreadable=held is None)
            return None
        same = next((f.name.label for f in self.found if f.name.step == place), None)
        if same is not None:
            self.listing.note(
                "ignored-file", f"{path} holds {self.kind} {place}, as {same} does; it is left out", [place]
            )
            return None
        said = self.axis.path or ("epoch" if self.kind == "epoch" else "step")
        self.listing.note("placed", f"{path} stands at {self.kind} {place}, which its key {said} says", [place], "info")
        return Found(StepName(place, label, self.kind, {PLACED: 1}), found.weights, found.config_folders)

    def _leave_out(self, label: str, path: str, *, unreadable: bool) -> None:
        if KEPT_APART.search(label):
            why = "names no step" if self.kind == "step" else f"names no {self.kind}"
            self.listing.note("ignored-file", f"{path} {why}; it is left out, as a copy by its name")
        else:
            self.unread.append(path)

    @property
    def axis(self) -> Axis:
        if self._axis is None:
            self._axis = learnt(self.found, self.kind, self.how)
        return self._axis


def numbered(folder: Folder) -> bool:
    """Return whether a folder holds something with a step in its name."""
    return any(parse_step(n) for n in folder.folders) or any(parse_step(n) for n in folder.files if is_weights(n))


def _single(folder: Folder, name: str) -> Weights:
    form = "safetensors" if name.endswith(".safetensors") else "torch-zip"
    return Weights(folder.path, (name,), form)


def _unplaced(name: str) -> StepName:
    return StepName(0, label_of(name), "index")
