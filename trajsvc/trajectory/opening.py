"""Build the matrix Θ of a source: read headers, describe their tensors, and choose the checkpoints that fit together.

``open_trajectory`` reads headers only. Checkpoints whose parameters do not have the names and shapes that most have are
left out, each with a finding that says what differs: an explicit gap, never a padded or reshaped row.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from storage_schema.format.arrays import ITEMSIZE
from storage_schema.models.results import Finding
from trajsvc.anatomy.blocks import TIED, Anatomy
from trajsvc.anatomy.patterns import excluded as excluded_names
from trajsvc.errors import NotFound, TrajsvcError
from trajsvc.gram.plan import ColumnSpec
from trajsvc.sources.base import CheckpointRef, CheckpointSource, CheckpointTensors, TensorEntry
from trajsvc.sources.rename_hints import suggested_renames
from trajsvc.sources.renames import Rename, apply_renames, read_renames
from trajsvc.sources.spelling import factored, spelt_alike
from trajsvc.trajectory.chosen_alike import other_values, without_averages_alone
from trajsvc.trajectory.common_rows import cut_finding, cut_to_common_rows
from trajsvc.trajectory.counted import counted_alike
from trajsvc.trajectory.describe import Describer, untied
from trajsvc.trajectory.elements import whole_record
from trajsvc.trajectory.equal_copies import not_equal
from trajsvc.trajectory.float8 import decoded, float8_finding
from trajsvc.trajectory.matrix import Excluded, Row, Trajectory
from trajsvc.trajectory.notices import no_parameters_left, notices, renamed_finding, unused_rename
from trajsvc.trajectory.set_aside import Aside, set_aside
from trajsvc.trajectory.stored_types import type_change
from trajsvc.trajectory.strangers import without_strangers
from trajsvc.trajectory.values import Values

if TYPE_CHECKING:
    from trajsvc.anatomy.architectures import Rules

Signature = frozenset[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class _Candidate:
    checkpoint: CheckpointRef
    tensors: Mapping[str, TensorEntry]
    anatomy: Anatomy
    config: Mapping[str, Any] | None

    @cached_property
    def signature(self) -> Signature:
        return frozenset((b.tensor, self.tensors[b.tensor].shape) for b in self.anatomy.blocks)


def open_trajectory(
    source: CheckpointSource,
    *,
    steps: str | Sequence[int] | None = None,
    rules: Rules | None = None,
    heads: int | None = None,
    skip_damaged: bool = False,
    exclude: Sequence[str] = (),
    rename: Sequence[str] = (),
    first_look: Callable[[int, CheckpointTensors], None] | None = None,
) -> Trajectory:
    """Read the headers of ``source``'s checkpoints (those of ``steps``) and lay their parameters side by side.

    ``exclude`` are shell patterns of tensors that are to be left out, ``rename`` renames of tensors (``sources.renames``), which come
    first. A few values are read where names leave open what is a parameter
    (``set_aside``). ``first_look`` is shown how many checkpoints are chosen and the first one's tensors, and may refuse before the other
    headers are read.

    Raises what the source raises for a damaged checkpoint, unless ``skip_damaged`` leaves it out with a finding;
    NotFound (``no-checkpoints``) when none is left, Refused (``no-parameters``) when no tensor is left.
    """
    renames = read_renames(rename)
    chosen = source.checkpoints(steps)
    findings = list(source.findings())
    excluded: list[Excluded] = []
    headers = _headers(source, chosen, skip_damaged, excluded, findings, first_look)
    headers, alone, noted = without_averages_alone(headers)
    headers, strangers, unlike = without_strangers(source, headers)
    excluded.extend([*alone, *strangers])
    findings.extend([*noted, *unlike, *other_values(source, headers)])
    if not headers:
        raise NotFound(
            "no-checkpoints",
            f"no checkpoint of {source.uri} can be read",
            hint="See the findings with `trajsvc plan --skip-damaged`, or choose others with --steps.",
        )
    spelt, noted = _spelt(source, headers, renames)
    findings.extend(noted)
    values = decoded(spelt, _config_of(headers))
    describe = Describer(_config_of(headers), rules, heads, values.scales)
    cut = cut_to_common_rows(values.tensors, describe.by_names)
    candidates, aside = _dissected(source, headers, cut.tensors, describe, exclude)
    reference = _reference(candidates)
    if not reference.anatomy.blocks:
        raise no_parameters_left(source.uri, [(c.tensors, c.anatomy) for c in candidates])
    rows: list[Row] = []
    names = list(dict.fromkeys(b.tensor for b in reference.anatomy.blocks))
    asked: set[Signature] = set()
    for candidate in candidates:
        if candidate.signature == reference.signature:
            rows.append(Row(candidate.checkpoint, tuple(candidate.tensors[n] for n in names)))
        else:
            finding = _difference(candidate, reference)
            hinted = candidate.signature in asked
            findings.append(finding if hinted else _with_renames(finding, candidate, reference, source.uri))
            asked.add(candidate.signature)
            excluded.append(Excluded(candidate.checkpoint.step, candidate.checkpoint.label, finding.message))
    findings.extend(same_digests(rows))
    cut_off = cut_finding(cut, names, [checkpoint.step for checkpoint, _ in headers])
    eight = float8_finding(cut.tensors, names, [checkpoint.step for checkpoint, _ in headers])
    findings.extend(f for f in (cut_off, eight, type_change(rows)) if f is not None)
    findings.extend(notices([(c.tensors, c.anatomy) for c in candidates], reference.config, aside, exclude))
    return Trajectory(
        source=source,
        anatomy=_all_left_out(reference.anatomy, candidates),
        columns=_columns(reference.anatomy, names, rows),
        shapes=tuple(reference.tensors[n].shape for n in names),
        rows=tuple(rows),
        excluded=tuple(sorted(excluded, key=lambda e: e.step)),
        findings=tuple(findings),
        config=reference.config,
        doubtful={
            n: f"is named like an average of {other}, and moves on its own"
            for tower in aside.independent
            for n, other in tower.pairs.items()
        },
    )


def same_digests(rows: Sequence[Row]) -> list[Finding]:
    """Report checkpoints that are copies of each other by the checksums that their files keep, before a tensor is read."""
    same: dict[tuple[object, ...], list[int]] = {}
    for row in rows:
        digests: tuple[object, ...] = tuple(f.sha256 for f in row.checkpoint.files)
        if None in digests:
            digests = tuple((e.crc32, e.dtype) if e.plain and whole_record(e) else None for e in row.entries)
        if digests and None not in digests:
            same.setdefault(digests, []).append(row.step)
    return [
        Finding(
            kind="identical",
            message=f"steps {_listed(steps)} hold identical parameters, by the checksums of their files",
            steps=tuple(steps),
            details={"by": "digest"},
        )
        for steps in same.values()
        if len(steps) > 1
    ]


def _listed(steps: Sequence[int]) -> str:
    shown = ", ".join(map(str, steps[:8]))
    return f"{shown} … {steps[-1]} ({len(steps)} checkpoints)" if len(steps) > 9 else ", ".join(map(str, steps))


def _headers(
    source: CheckpointSource,
    chosen: Sequence[CheckpointRef],
    skip_damaged: bool,
    excluded: list[Excluded],
    findings: list[Finding],
    first_look: Callable[[int, CheckpointTensors], None] | None,
) -> list[tuple[CheckpointRef, CheckpointTensors]]:
    found: list[Finding] = []
    headers: list[tuple[CheckpointRef, CheckpointTensors]] = []
    for checkpoint in chosen:
        try:
            tensors = source.tensors(checkpoint)
        except TrajsvcError as error:
            error.about(step=checkpoint.step)
            if not skip_damaged:
                raise
            excluded.append(Excluded(checkpoint.step, checkpoint.label, error.message))
            findings.append(
                Finding(kind="unreadable", severity="error", message=str(error), steps=(checkpoint.step,),
                        details={"error": error.kind})
            )  # fmt: skip
            continue
        if first_look is not None and not headers:
            first_look(len(chosen), tensors)
        found.extend(tensors.findings)
        headers.append((checkpoint, tensors))
    findings.extend(_merged(found))
    return headers


def _config_of(headers: Sequence[tuple[CheckpointRef, CheckpointTensors]]) -> Mapping[str, Any] | None:
    """Return the configuration of the latest checkpoint that has one."""
    return next((h.config for _, h in reversed(headers) if h.config), None)


def _spelt(
    source: CheckpointSource, headers: Sequence[tuple[CheckpointRef, CheckpointTensors]], renames: Sequence[Rename]
) -> tuple[list[dict[str, TensorEntry]], list[Finding]]:
    """Return every checkpoint's tensors under the names of the run, and findings about what was renamed."""
    named: list[dict[str, TensorEntry]] = []
    used: set[str] = set()
    for checkpoint, header in headers:
        try:
            names, fitted = apply_renames(renames, header.tensors)
        except TrajsvcError as error:
            raise error.about(step=checkpoint.step) from None
        used |= fitted
        named.append({names[n]: e for n, e in header.tensors.items()})
    named, counted = counted_alike(source, [checkpoint for checkpoint, _ in headers], named)
    spelt = spelt_alike(named, _config_of(headers))
    moved: dict[tuple[str, ...], list[int]] = {}
    for (checkpoint, _), first, found in zip(headers, counted, spelt, strict=True):
        if what := (*first, *found.renamed):
            moved.setdefault(what, []).append(checkpoint.step)
    return [s.tensors for s in spelt], [
        *(renamed_finding(what, steps) for what, steps in moved.items()),
        *(unused_rename(r.text) for r in renames if r.text not in used),
    ]


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Merge equal findings of several checkpoints into one with all their steps."""
    alike: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = (finding.kind, finding.message)
        steps = (*alike[key].steps, *finding.steps) if key in alike else finding.steps
        alike[key] = finding.model_copy(update={"steps": tuple(dict.fromkeys(steps))})
    return list(alike.values())


def _dissected(
    source: CheckpointSource,
    headers: Sequence[tuple[CheckpointRef, CheckpointTensors]],
    spelt: Sequence[Mapping[str, TensorEntry]],
    describe: Describer,
    exclude: Sequence[str],
) -> tuple[list[_Candidate], Aside]:
    config = describe.config
    unwanted = excluded_names(exclude, list(dict.fromkeys(n for tensors in spelt for n in tensors)))
    values = Values(source, [(c, tensors) for (c, _), tensors in zip(headers, spelt, strict=True)])
    aside = set_aside(values, config, done=unwanted.keys() | describe.known.keys())
    reasons = {
        **describe.known,
        **aside.reasons,
        **{n: f"left out by --exclude {pattern}" for n, pattern in unwanted.items()},
    }
    apart = untied(spelt)

    def described(own: Collection[str] = ()) -> list[Anatomy]:
        out = []
        for (checkpoint, header), tensors in zip(headers, spelt, strict=True):
            try:
                out.append(describe(tensors, header.config, aside.copies.of, reasons, apart, own))
            except TrajsvcError as error:
                raise error.about(step=checkpoint.step, file=checkpoint.files[0].path) from None
        return out

    anatomies = described()
    by_config = _tied_by_config(anatomies, aside)
    apart_at_times = {n: other for n, other in by_config.items() if n in aside.copies.at_times}
    own = apart_at_times | not_equal(values, {n: o for n, o in by_config.items() if n not in apart_at_times})
    if own:
        aside = replace(aside, copies=replace(aside.copies, own=own))
        anatomies = described(own)
    candidates = [
        _Candidate(checkpoint, tensors, anatomy, header.config or config)
        for (checkpoint, header), tensors, anatomy in zip(headers, spelt, anatomies, strict=True)
    ]
    return candidates, aside


def _tied_by_config(anatomies: Sequence[Anatomy], aside: Aside) -> dict[str, str]:
    """Return the tensors that are taken for others without a look at their values."""
    left = {n: why for anatomy in anatomies for n, why in anatomy.left_out.items() if why.startswith(TIED)}
    return {n: why.removeprefix(TIED) for n, why in left.items() if n not in aside.copies.of}


def _reference(candidates: Sequence[_Candidate]) -> _Candidate:
    """Choose a checkpoint with the parameters that most have (of the later ones when two are as frequent)."""
    counts = Counter(c.signature for c in candidates if c.signature) or Counter(c.signature for c in candidates)
    most = max(counts.values())
    signature = next(c.signature for c in reversed(candidates) if counts[c.signature] == most)
    return next(c for c in candidates if c.signature == signature)


def _difference(candidate: _Candidate, reference: _Candidate) -> Finding:
    mine, theirs = dict(candidate.signature), dict(reference.signature)
    reshaped = sorted(n for n in mine.keys() & theirs.keys() if mine[n] != theirs[n])
    missing, extra = sorted(theirs.keys() - mine.keys()), sorted(mine.keys() - theirs.keys())
    parts = [f"{n} has shape {list(mine[n])} instead of {list(theirs[n])}" for n in reshaped[:3]]
    parts += [f"{n} is missing" for n in missing[:3]] + [f"{n} is new" for n in extra[:3]]
    more = len(reshaped) + len(missing) + len(extra) - len(parts)
    text = "; ".join(parts) + (f"; {more} more" if more > 0 else "")
    return Finding(
        kind="shape-change" if reshaped else "name-change",
        severity="warning",
        message=f"step {candidate.checkpoint.step} is left out: {text}",
        steps=(candidate.checkpoint.step,),
        tensors=tuple(reshaped + missing + extra)[:20],
    )


def _with_renames(finding: Finding, candidate: _Candidate, reference: _Candidate, uri: str) -> Finding:
    """Add to ``finding`` the command that would map one checkpoint's names to the other's, or what else is known of the difference."""
    mine, theirs = dict(candidate.signature), dict(reference.signature)
    for one, other in ((mine, theirs), (theirs, mine)):
        if told := factored(one, other):
            return finding.model_copy(update={"message": f"{finding.message}. {told}"})
    renames = suggested_renames(mine, theirs) if finding.kind == "name-change" else ()
    if not renames:
        return finding.model_copy(update={"message": f"{finding.message}{_stored_otherwise(mine, theirs)}"})
    options = " ".join(f"--rename {shlex.quote(text)}" for text in renames)
    message = f"{finding.message}. If these are the same tensors: `trajsvc analyze {shlex.quote(uri)} {options}`"
    return finding.model_copy(update={"message": message, "details": {"rename": list(renames)}})


def _stored_otherwise(mine: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> str:
    """Say where two checkpoints may hold the same parameters although no rename maps them; empty where nothing says so."""
    numbers = [sum(prod(shape) for shape in shapes.values()) for shapes in (mine, theirs)]
    if numbers[0] != numbers[1]:
        return ""
    reshaped = [n for n in mine.keys() & theirs.keys() if mine[n] != theirs[n]]
    if reshaped and mine.keys() == theirs.keys() and all(mine[n] == theirs[n][::-1] for n in reshaped):
        how = "transposed, as [in, out] and [out, in]"
    else:
        how = "under other names, as one tensor, or transposed"
    return (
        f". Both hold {numbers[0]:,} parameters, perhaps the same ones ({how}): save the checkpoints of one side as those of the other, "
        "or analyse each side apart with --steps"
    )


def _all_left_out(anatomy: Anatomy, candidates: Sequence[_Candidate]) -> Anatomy:
    left: dict[str, str] = {}
    for candidate in candidates:
        left.update(candidate.anatomy.left_out)
    return replace(anatomy, left_out=left)


def _columns(anatomy: Anatomy, names: Sequence[str], rows: Sequence[Row]) -> tuple[ColumnSpec, ...]:
    blocks: dict[str, list[int]] = {}
    for index, block in enumerate(anatomy.blocks):
        blocks.setdefault(block.tensor, []).append(index)
    return tuple(
        ColumnSpec(
            name,
            rows[0].entries[c].size,
            max(ITEMSIZE[r.entries[c].dtype] for r in rows),
            tuple((i, anatomy.blocks[i].extent) for i in blocks[name]),
        )
        for c, name in enumerate(names)
    )
