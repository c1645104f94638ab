"""A revision's files as folders, so that what recognises checkpoints on a disk recognises them on the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trajsvc.sources.formats.layout import Folder

Names = Mapping[str, tuple[frozenset[str], frozenset[str]]]
"""Folder within the revision (``""`` for its root) → names of its files and of its folders."""


@dataclass(frozen=True)
class TreeFolder(Folder):
    """One folder of a revision; ``path`` is the revision's own address followed by the place in it."""

    tree: Names = field(default_factory=dict, repr=False, compare=False)
    place: str = ""

    def inner(self, name: str) -> TreeFolder:
        """The folder ``name`` in this one. Raises FileNotFoundError."""
        return _folder(self / name, self.tree, f"{self.place}/{name}" if self.place else name)


def tree_folder(address: str, paths: Iterable[str], place: str = "") -> TreeFolder:
    """The folder ``place`` of a revision that holds ``paths``. Raises FileNotFoundError where there is none."""
    files: dict[str, set[str]] = {"": set()}
    folders: dict[str, set[str]] = {"": set()}
    for path in paths:
        parent, _, name = path.rpartition("/")
        files.setdefault(parent, set()).add(name)
        while parent:
            above, _, name = parent.rpartition("/")
            folders.setdefault(above, set()).add(name)
            parent = above
    names = {k: (frozenset(files.get(k, ())), frozenset(folders.get(k, ()))) for k in files.keys() | folders.keys()}
    return _folder(f"{address}/{place}" if place else address, names, place)


def _folder(path: str, tree: Names, place: str) -> TreeFolder:
    if place not in tree:
        raise FileNotFoundError(2, "No such folder in the repository", path)
    files, folders = tree[place]
    return TreeFolder(path, files, folders, tree, place)
