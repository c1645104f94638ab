"""List checkpoints in numbered folders and files, and runs that are one file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from trajsvc.errors import Refused, TrajsvcError
from trajsvc.sources.formats.layout import (
    TORCH_SUFFIXES,
    Folder,
    Found,
    Weights,
    is_weights,
    nested_refusal,
    weights_of,
)
from trajsvc.sources.formats.recognised import unsupported
from trajsvc.sources.listing.entries import How, Listing, first_file, some
from trajsvc.sources.states import Choice, is_average, matched
from trajsvc.sources.steps import WEIGHT_SUFFIXES, StepName

_JOB: Final = re.compile(
    r"\.hydra|hydra\.yaml|cout\.txt|run\.json|params\.json|events\.out\.tfevents.*|wandb|lightning_logs|multirun\.yaml"
)
"""What trainers and sweeps write once for each training."""


def numbered_folders(folder: Folder, how: How, listing: Listing) -> Iterator[TrajsvcError]:
    """Add the checkpoints in numbered folders; yield the errors for those in formats that are not read."""
    jobs: list[str] = []
    for base in sorted(folder.folders):
        name = how.parse(base)
        if name is None:
            continue
        try:
            inner = folder.inner(base)
        except OSError as error:
            listing.note("ignored-file", f"{folder / base} cannot be opened: {error.strerror}", [name.step])
            continue
        if how.pattern is None and base.isdigit() and _of_a_job(inner):
            jobs.append(base)
            if len(jobs) > 1:
                raise _jobs(folder, jobs)
        found = found_in(inner, name, folder.path, how, listing)
        if found is not None:
            listing.found.append(found)
        elif problem := unsupported(inner) or nested_refusal(inner):
            yield problem
        else:
            listing.note(
                "missing-weights", f"{folder / base} holds no weights; step {name.step} is left out", [name.step]
            )


def _of_a_job(folder: Folder) -> bool:
    """Return whether a folder is that of a whole training, by what is written once for each: the settings of a sweep's job, its logs."""
    return any(_JOB.fullmatch(n) for n in (*folder.files, *folder.folders))


def _jobs(folder: Folder, jobs: Sequence[str]) -> Refused:
    first, second = jobs[:2]
    return Refused(
        "ambiguous-state",
        f"{folder.path}: {first}, {second} … are folders of whole trainings, each with settings or logs of its own (a sweep), "
        "not checkpoints of one",
        hint=f"Analyse one of them, {folder / first}. If they are checkpoints, say so: --step-pattern '(?P<step>\\d+)'.",
        file=folder.path,
    )


def numbered_files(folder: Folder, how: How, listing: Listing) -> None:
    """Add the checkpoints in numbered files."""
    other = []
    for base in sorted(folder.files):
        name = how.parse(base)
        found = one_file(folder.path, base, name, folder.path, how)
        if found is not None:
            listing.found.append(found)
        elif name is not None and base.lower().endswith(TORCH_SUFFIXES):
            other.append(base)
    if other:
        listing.note(
            "ignored-file", f"{folder.path}: {', '.join(other[:3])}: no weights by their name; left out", files=other
        )


def found_in(inner: Folder, name: StepName | None, root: str, how: How, listing: Listing) -> Found | None:
    """Return the checkpoint that a folder is, None when it holds no weights; configurations are looked for up to
    ``root``.
    """
    name = name or StepName(0, inner.base, "index")
    try:
        weights = weights_of(inner, how.state)
    except Refused as problem:
        return Found(name, Weights(inner.path, (), ""), (), problem)
    if weights is None:
        return None
    if weights.passed_over:
        listing.note(
            "ignored-file", f"{inner.path}: {weights.files[0]} is read; {some(weights.passed_over, 3)} passed over", [name.step],
            files=list(weights.passed_over),
        )  # fmt: skip
    return Found(name, weights, (weights.folder, inner.path, root))


def one_file(
    parent: str, base: str, name: StepName | None, root: str, how: How, *, asked: bool = False
) -> Found | None:
    """Return the checkpoint in a file if the file may hold one, by its name, or by its suffix if the user ``asked`` for
    it alone.
    """
    if name is None or not (base.lower().endswith(WEIGHT_SUFFIXES) if asked else is_weights(base)):
        return None
    form = "torch-zip" if base.lower().endswith(TORCH_SUFFIXES) else "safetensors"
    return Found(name, Weights(parent, (base,), form, wish=how.state), (parent, root))


def one_model(found: Sequence[Found], where: str, listing: Listing) -> list[Found]:
    """Return the checkpoints whose folders gave the same model.

    If some hold only an average of it, these are left out. Notes once which models lie beside the one that is read.
    """
    averages = [f for f in found if f.weights.chosen and is_average(f.weights.chosen)]
    kept = list(found)
    if averages and len(averages) < len(found):
        kept = [f for f in found if f not in averages]
        steps = [f.name.step for f in averages]
        listing.note(
            "missing-weights",
            f"{where}: {some(f.name.label for f in averages)} hold{'s' if len(averages) == 1 else ''} {averages[0].weights.chosen} alone, "
            "which others have beside the model; left out",
            steps,
        )
    beside: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for one in kept:
        if one.weights.others:
            beside.setdefault((one.weights.chosen, one.weights.others), []).append(one.name.step)
    for (chosen, others), steps in beside.items():
        finding = Choice(chosen, others).finding(f"{where}: {len(steps)} checkpoints hold several models")
        if finding is not None:
            listing.findings.append(finding.model_copy(update={"steps": tuple(sorted(steps))}))
    return kept


def expanded(found: Sequence[Found], how: How, listing: Listing) -> list[Found]:
    """Return the checkpoints of a run that is one file, or else the single checkpoint that it is."""
    if len(found) != 1 or found[0].weights.format != "torch-zip" or found[0].problem is not None:
        return list(found)
    (one,) = found
    held = how.torch(first_file(one))
    if held is None or not held.listed:
        return list(found)
    key, wish = held.listed[0].key, one.weights.wish
    name, left = matched([key, *held.states], wish)
    if name != key if wish else not held.members:
        return list(found)
    others = [s for s in held.states if s != key]
    listing.note(
        "several-checkpoints",
        f"{first_file(one)} holds {len(held.listed)} checkpoints under {key}: they are the run"
        + (f", and not {some(others)} beside them (--state {others[0]})" if others else ""),
        [],
        "info",
        state=key,
        others=others,
    )
    weights = replace(one.weights, wish=left)
    return [
        Found(
            StepName(m.number, f"{key}[{m.place[-1]}]", m.kind, one.name.extra if m.kind == "index" else {}),
            weights,
            one.config_folders,
            inside=m.place,
        )
        for m in held.listed
    ]
