"""A run on the Hub: its revisions, or folders, or repositories, as a source of checkpoints that is read by ranges.

Every revision is pinned to its commit when the repository is listed; after that only addresses that contain a commit are read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from storage_schema.models.results import Finding
from storage_schema.models.training_log import TrainingLog
from trajsvc.errors import NotFound, TrajsvcError
from trajsvc.sources.base import (
    Asked,
    Cache,
    CheckpointRef,
    CheckpointTensors,
    FetchRequest,
    FileRef,
    ReadRequest,
    RemoteReading,
    Steps,
    never,
)
from trajsvc.sources.files import Region
from trajsvc.sources.formats.headers import CONFIG, read_checkpoint
from trajsvc.sources.formats.layout import Folder, Found
from trajsvc.sources.formats.torch_state import TorchFile
from trajsvc.sources.hub.address import HubAddress
from trajsvc.sources.hub.api import HubApi, Tree, TreeFile
from trajsvc.sources.hub.duplicates import copies
from trajsvc.sources.hub.headers import Headers
from trajsvc.sources.hub.limits import HubLimits
from trajsvc.sources.hub.remote_file import HubFetcher, HubFile
from trajsvc.sources.hub.revisions import Revision, Revisions, list_revisions
from trajsvc.sources.listing.entries import How, Listing, extra_of, nothing
from trajsvc.sources.listing.folders import list_in
from trajsvc.sources.listing.numbered import found_in, one_model
from trajsvc.sources.logs.places import logs_of
from trajsvc.sources.logs.training_log import training_log
from trajsvc.sources.patterns import StepPattern
from trajsvc.sources.states import wish_of
from trajsvc.sources.steps import StepName
from trajsvc.sources.transport.cancel import SYSTEM_CLOCK, Clock, Interrupted
from trajsvc.sources.transport.scatter import Scatter
from trajsvc.steps import select_steps

HEADER_THREADS: Final = 8


FolderNames = Mapping[str, tuple[frozenset[str], frozenset[str]]]
"""Folder within the revision (``""`` for its root) → names of its files and of its folders."""


@dataclass(frozen=True)
class TreeFolder(Folder):
    """One folder of a revision; ``path`` is the revision's own address followed by the place in it."""

    tree: FolderNames = field(default_factory=dict, repr=False, compare=False)
    place: str = ""

    def inner(self, name: str) -> TreeFolder:
        """Return the folder ``name`` in this one. Raises FileNotFoundError."""
        return _folder(self / name, self.tree, f"{self.place}/{name}" if self.place else name)


@dataclass(frozen=True)
class HubOptions:
    """Options for reading from the Hub."""

    revisions: tuple[str, ...] = ()
    """globs or regular expressions with named groups: which branches and tags are the run"""
    commits: str | None = None
    """the branch whose commits are the run"""
    state: str | None = None
    """which model of several in each checkpoint"""
    step_pattern: StepPattern | None = None
    """where the step is in the names of branches, or of folders and files of one revision"""
    connections: int = 16
    cache: Cache | None = None
    """where headers, listings and bytes read ahead are kept; None: in memory, and nothing is read ahead"""
    endpoint: str | None = None
    token: str | bool | None = None
    timeout: float = 20.0
    """seconds after which a download without (or almost without) data is given up and requested again"""
    limits: HubLimits | None = None
    """bounds of what the Hub answers; None: those of the settings"""
    attempts: int = 8
    """failures in a row after which a request is given up"""
    stop: Callable[[], bool] = never
    """asked while the source waits; when it says so, Cancelled is raised"""
    pins: Mapping[str, str] = field(default_factory=dict)
    """label → commit: only these revisions, at these commits, wherever their branches are now"""
    clock: Clock = SYSTEM_CLOCK
    """what pauses between requests are measured by"""


class HubSource:
    """A ``CheckpointSource`` of a Hub repository. No request is made before ``checkpoints``."""

    def __init__(self, address: HubAddress, options: HubOptions | None = None) -> None:
        self.address, self.options = address, options or HubOptions()
        self.api = HubApi(
            self.options.endpoint,
            self.options.token,
            attempts=self.options.attempts,
            stop=self.options.stop,
            clock=self.options.clock,
            limits=self.options.limits,
        )
        self.fetcher = HubFetcher(
            self.api.endpoint,
            self.api.token,
            connections=self.options.connections,
            attempts=self.options.attempts,
            stall_seconds=self.options.timeout,
            clock=self.options.clock,
        )
        self.folder = None if self.options.cache is None else self.options.cache.folder
        self.headers = Headers(self._bytes, self.folder)
        self._files: dict[str, tuple[HubFile, str]] = {}
        self._torch: dict[str, TorchFile] = {}
        self._tensors: dict[int, CheckpointTensors | TrajsvcError] = {}
        self._listed: dict[int, Found] = {}
        self._notes: list[Finding] = []
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return str(self.address)

    @property
    def name(self) -> str:
        return "-".join((self.address.name, *wish_of(self.options.state)))

    @property
    def remote(self) -> RemoteReading:
        return self

    @property
    def cache(self) -> Cache | None:
        return self.options.cache

    @cached_property
    def _revisions(self) -> Revisions:
        found = list_revisions(
            self.api, self.address, self.options.revisions, self.options.commits, self.options.step_pattern
        )
        return found.pinned(self.options.pins) if self.options.pins else found

    def pins(self) -> dict[str, str]:
        """Return every revision of the run and its current commit, with ``main`` or the revision that was asked for."""
        found = self._revisions
        head = {} if found.head is None else {found.head[1]: found.head[2]}
        return {**head, **{r.label: r.commit for r in found.chosen}}

    @property
    def revisions(self) -> Revisions:
        """What the repository has, before any selection by step."""
        return self._revisions

    def checkpoints(self, steps: Steps = None) -> tuple[CheckpointRef, ...]:
        """List the selected checkpoints: request the revisions once, and the files of the selected ones.

        Raises NotFound (``no-checkpoints``, ``no-revisions``, ``hub-no-repository``), Refused (``hub-gated`` …),
        TryAgain.
        """
        self._notes = []
        self._listed.clear()
        self._tensors.clear()
        revisions = self._revisions
        if not revisions.chosen:
            return self._folders(revisions, steps)
        chosen = [revisions.chosen[i] for i in select_steps(steps, [r.step for r in revisions.chosen])]
        trees = self.api.trees_of([(r.repo, r.commit) for r in chosen], self.folder)
        listing = Listing()
        found: list[tuple[Found, Revision]] = []
        for revision, tree in zip(chosen, trees, strict=True):
            checkpoint = self._found(revision, tree, listing)
            if checkpoint is None or (revisions.history and found and self._same(checkpoint, found[-1][0])):
                continue
            found.append((checkpoint, revision))
        kept = {id(f) for f in one_model([f for f, _ in found], self.uri, listing)}
        found = [(f, revision) for f, revision in found if id(f) in kept]
        self._notes += listing.findings
        if not found:
            raise nothing(self.uri, f"{len(chosen)} revisions hold no weights.")
        references = tuple(self._reference(f, r.commit) for f, r in found)
        self._notes += copies(references, self._main_files(revisions, chosen))
        return references

    def findings(self) -> tuple[Finding, ...]:
        return (*self._revisions.findings, *self._notes)

    def tensors(self, checkpoint: CheckpointRef) -> CheckpointTensors:
        """Read the headers of one checkpoint. The first call reads those of all listed checkpoints, several at once."""
        if checkpoint.step not in self._listed:
            raise NotFound(
                "step-not-found",
                f"{self.uri} has no step {checkpoint.step}",
                hint="List it again.",
                step=checkpoint.step,
            )
        if checkpoint.step not in self._tensors:
            self._read_headers()
        read = self._tensors[checkpoint.step]
        if isinstance(read, TrajsvcError):
            raise read
        return read

    def read(self, file: str, offset: int, out: memoryview) -> None:
        self.read_many([ReadRequest(file, offset, (out,))])

    def read_many(self, wanted: Sequence[ReadRequest], stop: Callable[[], bool] = never) -> None:
        """Make every request as it is, several at once."""
        scattered = (Scatter([(p, None) if isinstance(p, int) else (p.nbytes, p) for p in w.parts]) for w in wanted)
        self.fetch(
            [FetchRequest(w.file, w.offset, w.offset + w.nbytes, s) for w, s in zip(wanted, scattered, strict=True)],
            stop,
        )

    def fetch(self, requests: Sequence[FetchRequest], stop: Callable[[], bool] = never) -> None:
        """Fetch bytes into the caller's sinks. Thread-safe."""
        self.fetcher.fetch_all([(self._files[r.file][0], r.lo, r.hi, r.sink) for r in requests], stop)

    def asked(self) -> Asked:
        """Count the requests for files and ranges so far, and the bytes that they brought."""
        counts = self.fetcher.counters
        return Asked(counts.requests, counts.bytes)

    def outline(self) -> dict[str, Any]:
        """Describe what the repository has, before any selection by step."""
        listed = self._revisions
        return {
            "family": None if listed.family is None else listed.family.name,
            "found": len(listed.chosen),
            "missing": list(listed.missing),
            "others": list(listed.others),
        }

    def digest(self, file: str) -> str:
        """Return the Hub's digest of a file's contents: its SHA-256, or ``git-`` and the id of its blob."""
        return self._files[file][1]

    def training_log(self, checkpoints: Sequence[CheckpointRef]) -> TrainingLog:
        """Read the logs beside the last checkpoint (``trajsvc.sources.logs``), each in one request."""
        if not checkpoints:
            return TrainingLog()
        root = checkpoints[-1].files[0].path.rpartition("/")[0]
        found = training_log(self, root, checkpoints)
        for path in logs_of(self, root, checkpoints):
            self.headers.keep(self._files[path][1])  # what was read of it need not be asked for again
        return found

    def refresh(self) -> None:
        """List the repository anew at the next ``checkpoints()``: a branch may have moved."""
        self.__dict__.pop("_revisions", None)
        self._torch.clear()
        self.headers.forget()

    def unchanged(self, checkpoint: CheckpointRef) -> bool:
        """Return True: a commit's files do not change."""
        return True

    def portable(self) -> None:
        """Return None: only one process reads from the Hub, so that one limiter sees all requests."""

    def close(self) -> None:
        self.fetcher.close()

    def _found(self, revision: Revision, tree: Tree, listing: Listing) -> Found | None:
        address = f"hf://{revision.repo}@{revision.ref}"
        folder = self._folder(address, revision.repo, tree)
        name = StepName(revision.step, revision.label, revision.kind, revision.extra)
        found = None if folder is None else found_in(folder, name, folder.path, self._how, listing)
        if found is None and not self._revisions.history:
            listing.note(
                "missing-weights",
                f"the revision {revision.label} holds no weights; step {revision.step} is left out",
                [revision.step],
            )
        return found

    def _same(self, one: Found, other: Found) -> bool:
        """Return whether two checkpoints consist of the same files."""
        mine, theirs = ([self._files[f"{f.weights.folder}/{n}"][1] for n in f.weights.files] for f in (one, other))
        return mine == theirs

    def _folder(self, address: str, repo: str, tree: Tree) -> TreeFolder | None:
        for file in tree.files:
            remote = HubFile(repo, tree.commit, file.path, file.size, file.sha256)
            self._files[f"{address}/{file.path}"] = remote, _digest(file)
        try:
            return tree_folder(address, (f.path for f in tree.files), self.address.folder or "")
        except FileNotFoundError:
            return None

    def _folders(self, revisions: Revisions, steps: Steps) -> tuple[CheckpointRef, ...]:
        """List checkpoints that are folders and files of one revision: what training pushes to ``main``."""
        if revisions.head is None:
            raise nothing(self.uri)
        repo, label, commit = revisions.head
        (tree,) = self.api.trees_of([(repo, commit)], self.folder)
        folder = self._folder(f"hf://{repo}@{label}", repo, tree)
        if folder is None:
            raise NotFound(
                "hub-no-folder", f"{self.uri}: there is no such folder in {repo} at {label}", hint="Check the spelling."
            )
        listing = list_in(folder, self._how)
        root = f"hf://{repo}@{label}"  # the model's configuration may lie above the folder that was asked for
        listing.found = [replace(f, config_folders=(*f.config_folders, root)) for f in listing.found]
        chosen = [listing.found[i] for i in select_steps(steps, [f.name.step for f in listing.found])]
        self._notes += listing.findings
        references = tuple(self._reference(f, commit) for f in chosen)
        self._notes += copies(references, {})
        return references

    def _reference(self, found: Found, commit: str) -> CheckpointRef:
        self._listed[found.name.step] = found
        paths = [f"{found.weights.folder}/{n}" for n in found.weights.files]
        files = tuple(FileRef(p, self._files[p][0].size, 0, self._files[p][1]) for p in paths)
        extra: Mapping[str, Any] = {**extra_of(found), "commit": commit}
        return CheckpointRef(found.name.step, found.name.label, files, found.weights.format, extra)

    def _main_files(self, revisions: Revisions, chosen: Sequence[Revision]) -> dict[str, str]:
        """Return digest → path of the files of ``main`` if it is a branch beside the steps."""
        if revisions.head is None or any(r.label == revisions.head[1] for r in chosen):
            return {}
        repo, _, commit = revisions.head
        (tree,) = self.api.trees_of([(repo, commit)], self.folder)
        return {f.sha256: f.path for f in tree.files if f.sha256}

    def _read_headers(self) -> None:
        """Read the first checkpoint's headers alone, since they tell where its siblings' lie; then the others
        concurrently.
        """
        with self._lock:
            todo = [s for s in self._listed if s not in self._tensors]
            for step in todo[:1]:
                self._tensors[step] = self._header(step)
            with ThreadPoolExecutor(HEADER_THREADS, thread_name_prefix="trajsvc-header") as pool:
                for step, read in zip(todo[1:], pool.map(self._header, todo[1:]), strict=True):
                    self._tensors[step] = read

    def _header(self, step: int) -> CheckpointTensors | TrajsvcError:
        found = self._listed[step]
        try:
            read = read_checkpoint(self, found, self._torch_file)
        except TrajsvcError as error:
            return error
        paths = [f"{found.weights.folder}/{n}" for n in found.weights.files] + [
            f"{f}/{CONFIG}" for f in found.config_folders
        ]
        for path in paths:
            if path in self._files:
                self.headers.keep(self._files[path][1])
        return read

    def region(self, path: str) -> Region:
        file, digest = self._files[path]
        return self.headers.region(path, file.size, digest)

    def exists(self, path: str) -> bool:
        return path in self._files

    def names(self, folder: str) -> list[str]:
        """Return the names of what the listing has in ``folder``, in order."""
        inside = folder + "/"
        return sorted({path[len(inside) :].partition("/")[0] for path in self._files if path.startswith(inside)})

    @property
    def _how(self) -> How:
        return How(self._keys, wish_of(self.options.state), self.options.step_pattern, self._same)

    def _torch_file(self, path: str) -> TorchFile:
        return self._torch.pop(path, None) or TorchFile(self.region(path))

    def _keys(self, path: str) -> TorchFile:
        self._torch[path] = held = self._torch.get(path) or TorchFile(self.region(path))
        return held

    def _bytes(self, path: str, lo: int, hi: int) -> bytes:
        out = bytearray(hi - lo)
        self.read_many([ReadRequest(path, lo, (memoryview(out),))], self.options.stop)
        if self.options.stop():
            raise Interrupted
        return bytes(out)


def _digest(file: TreeFile) -> str:
    """Return what identifies a file's contents: its SHA-256, or the id of its git blob."""
    return file.sha256 or f"git-{file.blob_id}"


def tree_folder(address: str, paths: Iterable[str], place: str = "") -> TreeFolder:
    """Return the folder ``place`` of a revision that holds ``paths``. Raises FileNotFoundError if there is none."""
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


def _folder(path: str, tree: FolderNames, place: str) -> TreeFolder:
    if place not in tree:
        raise FileNotFoundError(2, "No such folder in the repository", path)
    files, folders = tree[place]
    return TreeFolder(path, files, folders, tree, place)
