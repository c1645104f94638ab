"""Read a folder for each stage of a training, with the stage's checkpoints in it: ``phase1/step_1000.pt`` beside
``phase2/step_100.pt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trajsvc.errors import Refused
from trajsvc.sources.formats.layout import Folder, Found, is_weights
from trajsvc.sources.formats.shards import SHARD
from trajsvc.sources.listing.entries import How, Listing, some
from trajsvc.sources.listing.numbered import numbered_files, numbered_folders
from trajsvc.sources.steps import StepName, stage_of


def staged_folders(folder: Folder, how: How, listing: Listing) -> list[Found]:
    """Return the checkpoints of all stages, each with its stage; none if the folders that hold numbered checkpoints are
    not stages.

    Steps may begin anew in each: a stage comes before its steps. A folder of checkpoints beside the stages is reported
    as not read. With ``--step-pattern`` names are read with the folder that they are in, and the pattern says the
    stage. Raises Refused (``step-conflict``) if two folders are of one stage.
    """
    held: dict[str, list[Found]] = {}
    noted = Listing()
    for name, inner in _inner(folder):
        found = _numbered(inner, replace(how, below=f"{name}/"), noted)
        if found:
            held[name] = found
    stages = {name: stage_of(name) for name in held}
    if how.pattern is not None:
        stages = {name: stages[name] for name, found in held.items() if all("stage" in f.name.extra for f in found)}
    beside = [name for name in held if stages.get(name) is None and how.pattern is None]
    told = {name: stage for name, stage in stages.items() if name not in beside}
    if len(told) < 2:
        return []
    _one_each(folder, told, how)
    listing.findings += noted.findings
    if beside:
        listing.note(
            "unread-weights",
            f"{some(folder / n for n in beside)}: checkpoints of no stage that is named, beside stages; not read",
        )
    listing.note(
        "stages", f"{folder.path}: {some(told, 8)} are read as stages of one training, one after the other; analyse one by its own path "
        "if they are not", severity="info",
    )  # fmt: skip
    return [replace(f, name=_in_stage(f.name, stage)) for name, stage in told.items() for f in held[name]]


def _inner(folder: Folder) -> Iterator[tuple[str, Folder]]:
    for name in sorted(n for n in folder.folders if not n.startswith(".")):
        try:
            yield name, folder.inner(name)
        except OSError:
            continue


def _numbered(inner: Folder, how: How, noted: Listing) -> list[Found]:
    """Return the numbered checkpoints of one folder; weights in it that have no number are noted."""
    own = Listing()
    refused = list(numbered_folders(inner, how, own))
    numbered_files(inner, how, own)
    if own.found:
        noted.findings += own.findings
        loose = sorted(n for n in inner.files if is_weights(n) and not SHARD.fullmatch(n) and how.parse(n) is None)
        if loose or refused:
            first = f"{inner / loose[0]} names no step" if loose else refused[0].args[0]
            noted.note("unread-weights", f"{first}; {len(loose) + len(refused)} such are left out")
    return own.found


def _one_each(folder: Folder, told: dict[str, int | None], how: How) -> None:
    if how.pattern is not None:
        return
    by_stage: dict[int | None, str] = {}
    for name, stage in told.items():
        other = by_stage.setdefault(stage, name)
        if other != name:
            raise Refused(
                "step-conflict",
                f"{folder.path}: {other} and {name} are both stage {stage}",
                hint=f"Analyse one of them, {folder / other}, or say the stages with --step-pattern, for example "
                r"'stage(?P<stage>\d+)/step_(?P<step>\d+)'.",
                file=folder.path,
            )


def _in_stage(name: StepName, stage: int | None) -> StepName:
    return name if stage is None or "stage" in name.extra else replace(name, extra={**name.extra, "stage": stage})


def labelled(found: Sequence[Found], folder: Folder) -> list[Found]:
    """Rename staged checkpoints by their stage's folder and their own name."""
    return [replace(f, name=replace(f.name, label=f"{_stage_folder(f, folder)}/{f.name.label}")) for f in found]


def _stage_folder(found: Found, folder: Folder) -> str:
    return found.weights.folder[len(folder.path) :].strip("/").split("/")[0]
