"""Finding a run's checkpoints: which folders and files under a path are its steps, in what order.

Only names are read, and the keys of torch files whose name has no number.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from storage_schema.models.results import Finding
from trajsvc.errors import NotFound, Refused, TrajsvcError
from trajsvc.sources.formats.layout import TORCH_SUFFIXES, Folder, Found, Weights, is_weights, unsupported, weights_of
from trajsvc.sources.formats.shards import SHARD
from trajsvc.sources.order import in_order
from trajsvc.sources.steps import StepName, parse_step

ReadStep = Callable[[str], int | None]
"""The step that the keys of a torch file name, if they do."""

LOOKED_FOR: Final = (
    "Looked for: folders and files with a step in their name (step500, checkpoint-500, epoch=3-step=500.ckpt, model_500.pt), "
    "one checkpoint's own files (model.safetensors, pytorch_model.bin, an index with shards, .metadata with .distcp)."
)

CHOOSE: Final = (
    "give a pattern that meets one checkpoint for each step, in quotes: 'run/stage1-*', or move the others away"
)

_LOOKED_BELOW: Final = 50
_UNFINISHED: Final = re.compile(r"(?:^|.*[-_.])(?:tmp|temp|partial|incomplete)(?:$|[-_.\d].*)", re.IGNORECASE)
"""Names that writers give to what they have not finished: ``tmp-checkpoint-500``, ``step500.partial``."""


@dataclass
class Listing:
    """The checkpoints under one path in order, and what was noticed."""

    found: list[Found] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def note(self, kind: str, message: str, steps: Iterable[int] = (), **details: Any) -> None:
        severity: Literal["info", "warning"] = "info" if kind in ("ignored-file", "gap", "growing") else "warning"
        self.findings.append(
            Finding(kind=kind, severity=severity, message=message, steps=tuple(steps), details=details)
        )

    def ordered(self, where: str) -> Listing:
        """In order of stage, ingredient and step. Raises Refused (``step-conflict``), NotFound (``no-checkpoints``)."""
        if not self.found:
            raise nothing(where, f"{self.findings[0].message}." if self.findings else "")
        run = in_order([(f.name, f) for f in self.found], where, choose=CHOOSE)
        self.found = [replace(found, name=name) for name, found in run.items]
        self.findings += run.findings
        return self


def list_folder(path: str, read_step: ReadStep) -> Listing:
    """The run in a folder: its numbered folders and files; else the one checkpoint that it is itself; else what its ``checkpoints``
    folder holds. Raises NotFound (``no-checkpoints``), UnsupportedFormat, Refused."""
    return list_in(Folder.read(path), read_step)


def list_in(whole: Folder, read_step: ReadStep) -> Listing:
    """``list_folder`` of a folder that was read, wherever it lies."""
    listing = Listing()
    folder = _finished(whole, listing)
    path = folder.path
    refused = list(_numbered_folders(folder, listing))
    _numbered_files(folder, listing)
    loose = sorted(n for n in folder.files if is_weights(n) and not SHARD.fullmatch(n) and parse_step(n) is None)
    if listing.found:
        _loose_files(folder, loose, listing, read_step)
    else:
        _whole_folder(folder, loose, listing, read_step)
    if not listing.found and (problem := unsupported(folder) or next(iter(refused), None)):
        raise problem
    for problem in refused:
        listing.note("ignored-file", f"{problem.message}; it is left out")
    if not listing.found and "checkpoints" in folder.folders:
        return list_in(folder.inner("checkpoints"), read_step)
    if not listing.found and not listing.findings and (runs := _runs_below(folder)):
        raise nothing(path, f"These folders in it look like runs: {', '.join(runs)}.")
    return listing.ordered(path)


def _runs_below(folder: Folder) -> list[str]:
    """Folders one level down that hold something with a step in its name."""
    names = []
    for base in sorted(n for n in folder.folders if not n.startswith("."))[:_LOOKED_BELOW]:
        try:
            below = folder.inner(base)
        except OSError:
            continue
        if any(parse_step(n) for n in below.folders) or any(parse_step(n) for n in below.files if is_weights(n)):
            names.append(base)
    return names[:5]


def list_glob(pattern: str, root: str, read_step: ReadStep) -> Listing:
    """One checkpoint for each folder or file that ``pattern`` meets; its step is in the last part of the path that names one."""
    listing = Listing()
    places = _places(pattern)
    for place, whole in places.items():
        name = _name_of(os.path.relpath(place, root)) or _from_keys(place, whole, read_step)
        if name is None and len(places) == 1:
            name = parse_step(os.path.basename(place)) or StepName(0, os.path.basename(place), "index")  # noqa: PTH119
        if name is None:
            listing.note("ignored-file", f"{place} names no step; it is left out")
            continue
        parent, base = os.path.split(place)
        found = found_in(Folder.read(place), name, root, listing) if whole else _file(parent, base, name, root)
        listing.found += [found] if found else []
    return listing.ordered(pattern)


def _places(pattern: str) -> dict[str, bool]:
    """Folders and files that a pattern meets, and whether each is a folder; shards and indexes stand for the folder they are in."""
    places = {}
    for path in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207
        parent, base = os.path.split(path.rstrip("/"))
        if os.path.isdir(path):  # noqa: PTH112
            places[path.rstrip("/")] = True
        elif SHARD.fullmatch(base) or base.endswith(".index.json"):
            places[parent] = True
        elif is_weights(base):
            places[path] = False
    return places


def list_file(path: str, read_step: ReadStep) -> Listing:
    """A run of one checkpoint: a file."""
    parent, base = os.path.split(path)
    name = parse_step(base) or _from_keys(path, False, read_step) or parse_step(os.path.basename(parent))  # noqa: PTH119
    found = _file(parent, base, name or StepName(0, base, "index"), parent)
    return Listing([found] if found else []).ordered(path)


def nothing(where: str, seen: str = "") -> NotFound:
    """The error for a place without checkpoints, with what was seen there."""
    return NotFound(
        "no-checkpoints", f"there are no checkpoints in {where}", hint=f"{LOOKED_FOR} {seen}".rstrip(), file=where
    )


def _finished(folder: Folder, listing: Listing) -> Folder:
    """The folder without what is still being written under another name."""
    files, folders = ({n for n in names if not _UNFINISHED.fullmatch(n)} for names in (folder.files, folder.folders))
    for name in sorted((folder.files - files) | (folder.folders - folders)):
        if parse_step(name) is not None or is_weights(name):
            listing.note("growing", f"{folder / name} is still being written, by its name; it is left for later")
    return replace(folder, files=frozenset(files), folders=frozenset(folders))


def _numbered_folders(folder: Folder, listing: Listing) -> Iterator[TrajsvcError]:
    """Adds the checkpoints in numbered folders; gives the refusals of those in formats that are not read."""
    for base in sorted(folder.folders):
        name = parse_step(base)
        if name is None:
            continue
        try:
            inner = folder.inner(base)
        except OSError as error:
            listing.note("ignored-file", f"{folder / base} cannot be opened: {error.strerror}", [name.step])
            continue
        found = found_in(inner, name, folder.path, listing)
        if found is not None:
            listing.found.append(found)
        elif problem := unsupported(inner):
            yield problem
        else:
            listing.note(
                "missing-weights", f"{folder / base} holds no weights; step {name.step} is left out", [name.step]
            )


def found_in(inner: Folder, name: StepName | None, root: str, listing: Listing) -> Found | None:
    """The checkpoint that a folder is, None when it holds no weights; configurations are looked for up to ``root``."""
    name = name or StepName(0, os.path.basename(inner.path), "index")  # noqa: PTH119
    try:
        weights = weights_of(inner)
    except Refused as problem:
        return Found(name, Weights(inner.path, (), ""), (), problem)
    if weights is None:
        return None
    if weights.passed_over:
        names = ", ".join(weights.passed_over[:3]) + (" …" if len(weights.passed_over) > 3 else "")
        listing.note(
            "ignored-file", f"{inner.path}: {weights.files[0]} is read; {names} passed over", [name.step],
            files=list(weights.passed_over),
        )  # fmt: skip
    return Found(name, weights, (weights.folder, inner.path, root))


def _file(parent: str, base: str, name: StepName | None, root: str) -> Found | None:
    if name is None or not is_weights(base):
        return None
    form = "torch-zip" if base.lower().endswith(TORCH_SUFFIXES) else "safetensors"
    return Found(name, Weights(parent, (base,), form), (parent, root))


def _numbered_files(folder: Folder, listing: Listing) -> None:
    other = []
    for base in sorted(folder.files):
        name = parse_step(base)
        found = _file(folder.path, base, name, folder.path)
        if found is not None:
            listing.found.append(found)
        elif name is not None and base.lower().endswith(TORCH_SUFFIXES):
            other.append(base)
    if other:
        listing.note(
            "ignored-file", f"{folder.path}: {', '.join(other[:3])}: no weights by their name; left out", files=other
        )


def _loose_files(folder: Folder, loose: Sequence[str], listing: Listing, read_step: ReadStep) -> None:
    """Files without a number beside numbered ones: a step of its own is taken, a copy (``last.ckpt``, ``best.pt``) is not."""
    for base in loose:
        path = folder / base
        try:
            step = read_step(path) if base.lower().endswith(TORCH_SUFFIXES) else None
        except TrajsvcError as error:
            listing.note("ignored-file", f"{path} names no step and cannot be read: {error.message}")
            continue
        same = next((f.name.label for f in listing.found if f.name.step == step), None)
        if step is None or same is not None:
            why = "names no step" if step is None else f"holds step {step}, as {same} does"
            listing.note("ignored-file", f"{path} {why}; it is left out", [] if step is None else [step])
        elif found := _file(folder.path, base, StepName(step, os.path.splitext(base)[0], "step"), folder.path):  # noqa: PTH122
            listing.found.append(found)


def _whole_folder(folder: Folder, loose: Sequence[str], listing: Listing, read_step: ReadStep) -> None:
    """The folder is one checkpoint, or holds several files that only their keys number."""
    problem: Refused | None = None
    try:
        weights = weights_of(folder)
    except Refused as error:
        weights, problem = None, error
    if weights is not None:
        path = os.path.join(weights.folder, weights.files[0])  # noqa: PTH118
        label = os.path.basename(folder.path)  # noqa: PTH119
        name = parse_step(label) or _from_keys(path, weights.format != "torch-zip", read_step)
        found = found_in(folder, name or StepName(0, label, "index"), folder.path, listing)
        listing.found += [found] if found else []
    elif problem is not None:
        _loose_files(folder, loose, listing, read_step)
        if not listing.found:
            raise problem


def _name_of(relative: str) -> StepName | None:
    return next((n for part in reversed(Path(relative).parts) if (n := parse_step(part)) is not None), None)


def _from_keys(path: str, whole: bool, read_step: ReadStep) -> StepName | None:
    """The step that the keys of a torch file name; errors are left for when the checkpoint is read."""
    base = os.path.basename(path)  # noqa: PTH119
    if whole or not base.lower().endswith(TORCH_SUFFIXES):
        return None
    try:
        step = read_step(path)
    except TrajsvcError:
        return None
    return None if step is None else StepName(step, os.path.splitext(base)[0], "step")  # noqa: PTH122
