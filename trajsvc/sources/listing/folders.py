"""Find the folders and files under a path that are the checkpoints of a run, and their order.

Only names are read, and the keys of torch files where names do not say enough. Each step narrows the choice: what is
numbered; one series of it; one axis; what has no number; stages in order.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from trajsvc.errors import Refused, TrajsvcError
from trajsvc.sources.formats.layout import Folder, Found, is_weights, usual, weights_of
from trajsvc.sources.formats.recognised import of_files, unsupported
from trajsvc.sources.formats.shards import SHARD
from trajsvc.sources.formats.torch_counts import first_epoch, first_step
from trajsvc.sources.listing.alike import numbers_alone
from trajsvc.sources.listing.axis import Axis, one_axis
from trajsvc.sources.listing.copies import without_copies
from trajsvc.sources.listing.entries import How, Listing, first_file, label_of, nothing, some
from trajsvc.sources.listing.loose import Loose, numbered
from trajsvc.sources.listing.numbered import (
    expanded,
    found_in,
    numbered_files,
    numbered_folders,
    one_file,
    one_model,
)
from trajsvc.sources.listing.series import one_series
from trajsvc.sources.listing.stages import labelled, staged_folders
from trajsvc.sources.listing.two_readings import check_numbers
from trajsvc.sources.named import PATHS, Naming
from trajsvc.sources.order import WORDS, with_whole_numbers
from trajsvc.sources.steps import StepName, stage_of

_LOOKED_BELOW: Final = 50
_UNFINISHED: Final = re.compile(r"(?:^|.*[-_.])(?:tmp|temp|partial|incomplete)(?:$|[-_.\d].*)", re.IGNORECASE)
"""Names that writers give to what they have not finished: ``tmp-checkpoint-500``, ``step500.partial``."""


def list_folder(path: str, how: How, naming: Naming = PATHS) -> Listing:
    """List the run in a folder: its numbered folders and files; else the one checkpoint that it is; else its
    ``checkpoints`` folder.

    Raises NotFound (``no-checkpoints``), UnsupportedFormat, Refused.
    """
    return list_in(Folder.read(path, naming), how)


def list_in(whole: Folder, how: How) -> Listing:
    """Do the work of ``list_folder`` on a folder that was read, of any source."""
    listing = Listing()
    folder = _finished(whole, how, listing)
    path = folder.path
    refused = list(numbered_folders(folder, how, listing))
    numbered_files(folder, how, listing)
    loose = sorted(n for n in folder.files if is_weights(n) and not SHARD.fullmatch(n) and how.parse(n) is None)
    if listing.found and loose and how.pattern is None:
        loose = _also_numbered(folder, loose, how, listing)
    if listing.found:
        _arrange(folder, loose, how, listing)
    elif not loose and (staged := staged_folders(folder, how, listing)):
        listing.found = staged
        _one_run(path, how, listing)
        listing.found = labelled(listing.found, folder)
    else:
        _whole_folder(folder, loose, how, listing)
    if not listing.found and (problem := next(iter(refused), None) or unsupported(folder)):
        raise problem
    if refused:
        listing.note("unread-weights", f"{refused[0].args[0]}; {len(refused)} such are left out")
    if not listing.found and "checkpoints" in folder.folders:
        return list_in(folder.inner("checkpoints"), how)
    if not listing.found and not listing.findings:
        raise nothing(path, _below(folder, how))
    return listing.ordered(path)


def list_glob(pattern: str, root: str, how: How) -> Listing:
    """List one checkpoint for each folder or file that ``pattern`` matches; its step is in the last part of the path
    that names one.
    """
    listing = Listing()
    places = _places(pattern)
    apart = len({os.path.dirname(place) for place in places}) > 1  # noqa: PTH120
    refused: list[TrajsvcError] = []
    for place, whole in places.items():
        name = _name_of(os.path.relpath(place, root), how, apart=apart) or _from_keys(place, how)
        if name is None and len(places) == 1:
            name = StepName(0, os.path.basename(place), "index")  # noqa: PTH119
        if name is None:
            listing.note("unread-weights", f"{place} names no step; it is left out (--step-pattern says where it is)")
            continue
        parent, base = os.path.split(place)
        inner = Folder.read(place) if whole else None
        found = found_in(inner, name, root, how, listing) if inner else one_file(parent, base, name, root, how)
        if found is None and inner is not None and (problem := unsupported(inner)):
            refused.append(problem)
        listing.found += [found] if found else []
    if not listing.found and refused:
        raise refused[0]
    if len(places) == 1:
        listing.found = expanded(listing.found, how, listing)
    else:
        _one_run(pattern, how, listing)
    return listing.ordered(pattern)


def list_file(path: str, how: How, naming: Naming = PATHS) -> Listing:
    """List a run of one checkpoint, which is a file; or all checkpoints of a run in one file."""
    parent, base = naming.split(path)
    listing = Listing()
    name = how.parse(base) or _from_keys(path, how) or how.parse(os.path.basename(parent))  # noqa: PTH119
    found = one_file(parent, base, name or StepName(0, base, "index"), parent, how, asked=True)
    listing.found = expanded([found] if found else [], how, listing)
    return listing.ordered(path)


def _one_run(where: str, how: How, listing: Listing) -> None:
    """Narrow what was found to one model of one series on one axis."""
    listing.found = one_model(listing.found, where, listing)
    names = with_whole_numbers([f.name for f in listing.found], where)
    listing.found = [replace(f, name=name) for f, name in zip(listing.found, names, strict=True)]
    if not how.state:
        listing.found = without_copies(listing.found, how, listing)
    if how.pattern is not None and not how.state:  # what the user's pattern matches is the run
        listing.found, _ = one_axis(listing.found, where, how, listing)
        return
    found, left = one_series(listing.found, where, how.state, listing)
    if left != how.state:
        found = [replace(f, weights=replace(f.weights, wish=left)) for f in found]
    listing.found, _ = one_axis(found, where, how, listing)
    check_numbers(listing.found, where, listing)


def _arrange(folder: Folder, loose: Sequence[str], how: How, listing: Listing) -> None:
    """Order the numbered checkpoints as one run, and add the unnumbered ones beside them."""
    alone = len(listing.found) == 1
    _one_run(folder.path, how, listing)
    if alone:
        listing.found = expanded(listing.found, how, listing)
    if not listing.found:
        return
    kind = listing.found[0].name.kind
    beside = Loose(folder, listing.found, kind, how, listing)
    others = sorted(n for n in folder.folders if how.parse(n) is None and not n.startswith("."))
    if how.pattern is None:
        listing.found = listing.found + beside.files(loose)
        listing.found = listing.found + beside.folders(others)
    elif loose:
        listing.note(
            "ignored-file", f"{folder.path}: {some(loose)} not met by --step-pattern, and left out", files=list(loose)
        )
    beside.report()


def _whole_folder(folder: Folder, loose: Sequence[str], how: How, listing: Listing) -> None:
    """List a folder that is one checkpoint, or holds several files that only their keys number."""
    problem: Refused | None = None
    if len(loose) > 1 and not how.state and not any(usual(n) for n in loose):
        listing.found = _by_keys(folder, loose, how, listing) or (
            _by_only_number(folder, loose, how, listing) if how.pattern is None else []
        )
        if listing.found:
            return
    try:
        weights = weights_of(folder, how.state)
    except Refused as error:
        weights, problem = None, error
    if weights is not None:
        _runs_beside(folder, weights.folder == folder.path, how, listing)
        label = folder.base
        name = how.parse(label) or _from_keys(os.path.join(weights.folder, weights.files[0]), how)  # noqa: PTH118
        found = found_in(folder, name or StepName(0, label, "index"), folder.path, how, listing)
        listing.found = expanded(one_model([found] if found else [], folder.path, listing), how, listing)
    elif problem is not None:
        raise problem


def _also_numbered(folder: Folder, loose: Sequence[str], how: How, listing: Listing) -> list[str]:
    """Add the files whose names differ from those of numbered ones in that number alone (``s500`` beside ``s1000``);
    return the others.
    """
    files = [os.path.basename(first_file(f)) for f in listing.found if f.weights.folder == folder.path]  # noqa: PTH119
    kind = listing.found[0].name.kind
    left = []
    for name in loose:
        one = numbers_alone([*files, name]).get(name) if len(files) == len(listing.found) else None
        found = one_file(folder.path, name, one and replace(one, kind=kind), folder.path, how)
        if found is None:
            left.append(name)
        else:
            listing.found.append(found)
    return left


def _by_only_number(folder: Folder, loose: Sequence[str], how: How, listing: Listing) -> list[Found]:
    """Take the one number in which the names of files differ for their order."""
    names = numbers_alone(loose)
    files = [one_file(folder.path, n, name, folder.path, how) for n, name in names.items()]
    found, kind = one_axis([f for f in files if f is not None], folder.path, how, listing)
    if found:
        ordered = sorted(found, key=lambda f: f.name.step)
        listing.note(
            "counted",
            f"{folder.path}: the names ({ordered[0].name.label} … {ordered[-1].name.label}) differ in one number alone, which is taken for "
            f"{WORDS[kind]}; --step-pattern says otherwise",
            severity="info",
        )
    return found


def _runs_beside(folder: Folder, whole: bool, how: How, listing: Listing) -> None:
    """Name the runs in the folders of one that is read as a checkpoint of its own; refuse where it is one only by another such folder
    (``b/step_100.pt`` beside ``a/step_100.pt``, ``a/step_200.pt``)."""
    runs = []
    for base in sorted(n for n in folder.folders if not n.startswith("."))[:_LOOKED_BELOW]:
        try:
            inner = folder.inner(base)
        except OSError:
            continue
        own = Listing()
        list(numbered_folders(inner, how, own))
        numbered_files(inner, how, own)
        if len(own.found) > 1:
            runs.append(base)
    if runs and not whole and not how.state:
        raise nothing(folder.path, _below(folder, how))
    if runs:
        listing.note(
            "unread-weights",
            f"{some(folder / r for r in runs)}: checkpoints with steps, not read; analyse them by their path",
        )


def _by_keys(folder: Folder, loose: Sequence[str], how: How, listing: Listing) -> list[Found]:
    """Take the numbers of files from their keys: steps if any file says a step, else epochs; none unless two have
    different places.
    """
    held = {name: t for name in loose if (t := how.torch(folder / name)) is not None}
    axis = Axis("step" if any(first_step(t.counts) is not None for t in held.values()) else "epoch")
    found: dict[int, Found] = {}
    notes = []
    for name in loose:
        place = axis.of(held[name].counts) if name in held else None
        if place is None or place in found:
            why = "names no step" if place is None else f"holds {axis.kind} {place}, as {found[place].name.label} does"
            notes.append((f"{folder / name} {why}; it is left out", [] if place is None else [place], place is None))
        elif one := one_file(folder.path, name, StepName(place, label_of(name), axis.kind), folder.path, how):
            found[place] = one
    if len(found) < 2:
        return []
    for message, steps, unread in notes:
        listing.note("unread-weights" if unread else "ignored-file", message, steps)
    return one_series(list(found.values()), folder.path, how.state, listing)[0]


def _places(pattern: str) -> dict[str, bool]:
    """Return the folders and files that a pattern matches, and whether each is a folder; shards and indexes stand for
    their folder.
    """
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


def _finished(folder: Folder, how: How, listing: Listing) -> Folder:
    """Return the folder without what is still being written under another name."""
    files, folders = ({n for n in names if not _UNFINISHED.fullmatch(n)} for names in (folder.files, folder.folders))
    for name in sorted((folder.files - files) | (folder.folders - folders)):
        if how.parse(name) is not None or is_weights(name):
            listing.note("growing", f"{folder / name} is still being written, by its name; it is left for later")
    return replace(folder, files=frozenset(files), folders=frozenset(folders))


def _below(folder: Folder, how: How) -> str:
    """Describe what lies one level down, if nothing in the folder itself is a checkpoint."""
    runs, formats = [], []
    for base, inner in _inner_folders(folder):
        if numbered(inner) or any(how.parse(n) for n in inner.folders):
            runs.append(base)
        elif deeper := _runs_deeper(inner, how):
            runs += [f"{base}/{name}" for name in deeper]
        elif (found := of_files(inner.files)) is not None:
            formats.append(f"{base} ({found.what})")
        elif (problem := unsupported(inner)) is not None:
            formats.append(f"{base} ({problem.message.removeprefix(f'{inner.path} is ')})")
    said = []
    if runs:
        said.append(
            f"These folders in it look like runs: {some(runs, 5)}. Analyse one of them, {folder / runs[0]}, or give a quoted pattern, "
            f"'{folder / runs[0]}/*'."
        )
    if formats:
        said.append(f"Not read: {some(formats, 8)}; analysing one says what to do with it.")
    return " ".join(said)


def _inner_folders(folder: Folder) -> Iterator[tuple[str, Folder]]:
    for base in sorted(n for n in folder.folders if not n.startswith("."))[:_LOOKED_BELOW]:
        try:
            yield base, folder.inner(base)
        except OSError:
            continue


def _runs_deeper(folder: Folder, how: How, depth: int = 2) -> list[str]:
    """Return the folders further down that hold numbered checkpoints: ``version_0/checkpoints``."""
    found = []
    for base, inner in _inner_folders(folder):
        if numbered(inner) or any(how.parse(n) for n in inner.folders):
            found.append(base)
        elif depth:
            found += [f"{base}/{name}" for name in _runs_deeper(inner, how, depth - 1)]
    return found[:_LOOKED_BELOW]


def _name_of(relative: str, how: How, *, apart: bool) -> StepName | None:
    """Return the step in the last part of a path that names one, with the stage that an earlier part names.

    Checkpoints that lie ``apart``, in several folders, are called by these too: they may be those of several runs.
    """
    if how.pattern is not None:
        return how.pattern.read(relative, label_of(relative))
    parts = Path(relative).parts
    for place in range(len(parts) - 1, -1, -1):
        name = how.parse(parts[place])
        if name is not None:
            stage = next((s for part in parts[:place] if (s := stage_of(part)) is not None), None)
            name = replace(name, label="/".join((*parts[:place], name.label))) if apart else name
            return (
                name if stage is None or "stage" in name.extra else replace(name, extra={**name.extra, "stage": stage})
            )
    return None


def _from_keys(path: str, how: How) -> StepName | None:
    """Return the step that the keys of a torch file name, or the epoch; errors are left for when the checkpoint is
    read.
    """
    held = how.torch(path)
    if held is None:
        return None
    label = label_of(os.path.basename(path))  # noqa: PTH119
    if (step := first_step(held.counts)) is not None:
        return StepName(step, label, "step")
    epoch = first_epoch(held.counts)
    return None if epoch is None else StepName(epoch, label, "epoch")


__all__ = ["first_file", "found_in", "list_file", "list_folder", "list_glob", "list_in", "nothing"]
