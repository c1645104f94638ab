"""Find copies among a run's files by the Hub's own digests, before anything is downloaded, file by file and shard by
shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from storage_schema.models.results import Finding
from trajsvc.sources.base import CheckpointRef, FileRef

_SHOWN = 8


def copies(checkpoints: Sequence[CheckpointRef], main: Mapping[str, str]) -> list[Finding]:
    """Report copies that the digests show.

    ``same-as-main``: checkpoints all of whose files are those of ``main`` (digest → path), except the last, which may
    legitimately be. ``shared-file``: checkpoints with a file of another step beside files of their own. Checkpoints
    that are copies of each other as a whole are found by the trajectory itself, whatever the source.
    """
    findings = []
    last = max((c.step for c in checkpoints), default=0)
    same = [c.step for c in checkpoints if main and c.step != last and all(f.sha256 in main for f in weights(c))]
    if same:
        findings.append(
            Finding(
                kind="same-as-main",
                message=f"{_steps(same)} hold the files of main: the final model stands in the place of these checkpoints",
                steps=tuple(same),
                details={"by": "digest"},
            )
        )
    findings += _strays(checkpoints)
    return findings


def _strays(checkpoints: Sequence[CheckpointRef]) -> list[Finding]:
    """Report files that checkpoints share though they differ in others.

    If one set of files is held by more checkpoints than any other, the file is taken to belong to these.
    """
    holders: dict[tuple[str, str], list[CheckpointRef]] = {}
    for checkpoint in checkpoints:
        for file in weights(checkpoint):
            if file.sha256 is not None:
                holders.setdefault((PurePosixPath(file.path).name, file.sha256), []).append(checkpoint)
    findings = []
    for (name, _), sharing in holders.items():
        sets: dict[tuple[str | None, ...], list[int]] = {}
        for checkpoint in sharing:
            sets.setdefault(tuple(f.sha256 for f in weights(checkpoint)), []).append(checkpoint.step)
        if len(sets) < 2:
            continue
        owners, *others = sorted(sets.values(), key=lambda steps: (-len(steps), -steps[-1]))
        strays = sorted(s for steps in others for s in steps)
        findings.append(
            Finding(
                kind="shared-file",
                message=f"{_steps(strays)} {'has' if len(strays) == 1 else 'have'} the {name} of step {owners[-1]} but other files of "
                f"{'its' if len(strays) == 1 else 'their'} own: a shard of another step",
                steps=tuple(strays),
                details={"by": "digest", "file": name, "of": owners[-1]},
            )
        )
    return findings


def weights(checkpoint: CheckpointRef) -> tuple[FileRef, ...]:
    """Return the files that hold parameters; an index of shards holds none."""
    return tuple(f for f in checkpoint.files if not f.path.endswith(".json"))


def _steps(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]}"
    shown = ", ".join(map(str, steps[:_SHOWN])) + (" …" if len(steps) > _SHOWN else "")
    return f"steps {shown} ({len(steps)} checkpoints)"
