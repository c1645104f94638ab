"""What the tests' Hub serves: repositories with branches, tags and their history, from bytes or from folders on a disk."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final, Literal

Data = Path | bytes
Files = Mapping[str, Data]
Layout = Literal["auto", "branches", "folders"]

LARGE: Final = frozenset(
    {
        ".safetensors",
        ".bin",
        ".pt",
        ".pth",
        ".npz",
        ".npy",
        ".ckpt",
        ".h5",
        ".msgpack",
        ".zip",
        ".gz",
        ".pkl",
        ".distcp",
    }
)
"""Suffixes of files that are kept as LFS objects: their listing carries a SHA-256 and their address redirects."""
WEIGHTS: Final = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".distcp"})
_STEP_FOLDER: Final = re.compile(r"(step|global_step|iter|epoch)[-_]?\d+")
_FIRST_DATE: Final = 1_680_000_000
_CHUNK: Final = 1 << 20

_digests: dict[tuple[str, int, int], tuple[str, str]] = {}
_digests_lock = threading.Lock()


class Content:
    """One file of a commit: ``size`` in bytes, and its digests, which are made on first use."""

    def __init__(self, name: str, data: Data) -> None:
        self.data = data
        self.lfs = PurePosixPath(name).suffix in LARGE
        self.size = len(data) if isinstance(data, bytes) else data.stat().st_size

    @cached_property
    def stamp(self) -> str:
        """What tells this content from another one cheaply, so that a large folder is served at once."""
        if isinstance(self.data, bytes):
            return hashlib.sha1(self.data).hexdigest()
        return f"{self.size} {self.data.stat().st_mtime_ns}"

    @property
    def sha256(self) -> str:
        return self._sha256_and_git()[0]

    @property
    def pointer(self) -> bytes:
        """The text that git holds in place of an LFS object."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def blob_id(self) -> str:
        if not self.lfs:
            return self._sha256_and_git()[1]
        return hashlib.sha1(b"blob %d\0" % len(self.pointer) + self.pointer).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id

    def _sha256_and_git(self) -> tuple[str, str]:
        if isinstance(self.data, bytes):
            return _hash(self.size, [self.data])
        key = (str(self.data), self.size, self.data.stat().st_mtime_ns)
        with _digests_lock:  # branches share files: each is read once
            if key not in _digests:
                _digests[key] = _hash(self.size, _pieces(self.data))
            return _digests[key]


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _hash(size: int, pieces: Iterator[bytes] | list[bytes]) -> tuple[str, str]:
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    for piece in pieces:
        sha256.update(piece)
        git.update(piece)
    return sha256.hexdigest(), git.hexdigest()


@dataclass(frozen=True, eq=False)
class Revision:
    """The files of a branch or tag; ``commits`` are older states, (title, all files) each, oldest first."""

    files: Files
    commits: Sequence[tuple[str, Files]] = ()
    title: str | None = None
    """title of the newest commit; ``Upload <branch>`` when None"""


@dataclass(frozen=True)
class Commit:
    """A state of a repository, under an id of 40 hexadecimal digits."""

    id: str
    title: str
    time: int
    """seconds since 1970"""
    files: Mapping[str, Content]
    parent: Commit | None

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.time))

    def history(self) -> list[Commit]:
        """This one and those before it, newest first."""
        out: list[Commit] = []
        at: Commit | None = self
        while at is not None:
            out.append(at)
            at = at.parent
        return out


@dataclass(eq=False)
class Repo:
    """A model repository ``org/name``.

    A tag given the very object that is a branch's revision names that branch's commit; two branches never share one, as after
    two uploads of the same files. ``readers`` are the tokens that may read a private or gated repository; None: any token for
    a private one, none for a gated one.
    """

    id: str
    branches: Mapping[str, Revision]
    tags: Mapping[str, Revision] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    disabled: bool = False
    readers: Collection[str] | None = None

    def __post_init__(self) -> None:
        self.known: dict[str, Commit] = {}
        self.heads: dict[str, Commit] = {}
        self.tagged: dict[str, Commit] = {}
        for name, revision in self.branches.items():
            self.heads[name] = self._commit(f"branch {name}", name, revision, None)
        for name, revision in self.tags.items():
            same = next((b for b, r in self.branches.items() if r is revision), None)
            self.tagged[name] = self.heads[same] if same else self._commit(f"tag {name}", name, revision, None)

    def move(self, branch: str, revision: Revision) -> str:
        """Put a commit on a branch (made if it is new); what was there stays reachable by its id. Gives the new id."""
        self.branches = {**self.branches, branch: revision}
        self.heads = {**self.heads, branch: self._commit(f"branch {branch}", branch, revision, self.heads.get(branch))}
        return self.heads[branch].id

    def find(self, revision: str) -> tuple[str, Commit] | None:
        """(name, commit) of a branch, a tag, a full reference or a commit id; None where there is none."""
        branch, tag = revision.removeprefix("refs/heads/"), revision.removeprefix("refs/tags/")
        found = self.heads.get(branch) or self.tagged.get(tag) or self.known.get(revision)
        return (revision, found) if found else None

    def _commit(self, where: str, name: str, revision: Revision, parent: Commit | None) -> Commit:
        for title, files in (*revision.commits, (revision.title or f"Upload {name}", revision.files)):
            contents = {path: Content(path, data) for path, data in sorted(files.items())}
            digest = hashlib.sha1(f"{self.id}\n{where}\n{parent.id if parent else ''}\n{title}\n".encode())
            for path, content in contents.items():
                digest.update(f"{path} {content.stamp}\n".encode())
            made = parent.time + 3600 if parent else _FIRST_DATE
            parent = Commit(digest.hexdigest(), title, made, contents, parent)
            self.known[parent.id] = parent
        assert parent is not None
        return parent


def files_of(folder: Path) -> dict[str, Path]:
    """All files of a folder tree by their path in it; names that begin with a dot (or folders with ``__``) are left out."""
    out: dict[str, Path] = {}
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(d for d in folders if not d.startswith((".", "__")))
        for name in sorted(n for n in names if not n.startswith(".")):
            path = Path(base, name)
            out[path.relative_to(folder).as_posix()] = path
    return out


def repo_of(repo_id: str, folder: Path, layout: Layout = "auto") -> Repo:
    """A repository of a folder.

    With step folders (``step0``, ``step1``, …) each of them is a branch that also holds the folder's own files, and ``main``
    is the folder of that name or else has the files of the last step; otherwise ``main`` is the whole tree. ``layout`` forces
    the one or the other.
    """
    folders = sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith((".", "__")))
    steps = [d for d in folders if _STEP_FOLDER.fullmatch(d.name)] or (folders if layout == "branches" else [])
    if layout == "folders" or not steps:
        return Repo(repo_id, {"main": Revision(files_of(folder))})
    own = {p.name: p for p in sorted(folder.iterdir()) if p.is_file()}
    steps.sort(key=_number)
    last = folder / "main" if folder / "main" in folders else steps[-1]
    branches = {d.name: Revision({**own, **files_of(d)}) for d in steps if d.name != "main"}
    return Repo(repo_id, {"main": Revision({**own, **files_of(last)}), **branches})


def repos_under(root: Path, namespace: str = "local", layout: Layout = "auto") -> list[Repo]:
    """A repository ``namespace/<folder>`` for each folder of ``root`` that holds weights somewhere."""
    return [
        repo_of(f"{namespace}/{folder.name}", folder, layout)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and any(Path(name).suffix in WEIGHTS for name in files_of(folder))
    ]


def _number(folder: Path) -> tuple[int, str]:
    found = re.search(r"\d+$", folder.name)
    return (int(found.group()) if found else 0, folder.name)
