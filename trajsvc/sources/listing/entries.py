"""Parts of a listing: its entries, what was noticed, and how it reads keys within files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from storage_schema.models.results import Finding
from trajsvc.errors import NotFound, TrajsvcError
from trajsvc.sources.formats.layout import TORCH_SUFFIXES, Found
from trajsvc.sources.formats.torch_state import TorchFile
from trajsvc.sources.order import in_order
from trajsvc.sources.patterns import StepPattern
from trajsvc.sources.states import Wish
from trajsvc.sources.steps import StepName, parse_step

ReadKeys = Callable[[str], TorchFile]
"""What the torch file at a path holds, without its tensors' values. Raises TrajsvcError."""

CHOOSE: Final = "give a pattern that meets one checkpoint for each step, in quotes: 'run/stage1-*', or say where it is: --step-pattern"
LOOKED_FOR: Final = (
    "Looked for: folders and files with a step in their name (step500, checkpoint-500, epoch=3-step=500.ckpt, model_500.pt), "
    "one checkpoint's own files (model.safetensors, pytorch_model.bin, an index with shards, .metadata with .distcp); "
    "--step-pattern says where the step is in other names."
)
_QUIET: Final = ("ignored-file", "gap", "growing")


def never_same(one: Found, other: Found) -> bool:
    """Take no checkpoint for a copy of another by its bytes."""
    return False


@dataclass(frozen=True)
class How:
    """How a place is listed: which model of several (``state``), the pattern of steps in names (``pattern``), how keys
    are read.
    """

    keys: ReadKeys
    state: Wish = ()
    pattern: StepPattern | None = None
    same: Callable[[Found, Found], bool] = never_same
    """whether two checkpoints consist of the same bytes"""
    below: str = ""
    """the folders, with a slash at the end, that the user's pattern sees before a name"""

    def parse(self, name: str) -> StepName | None:
        """Parse the step in a file's or folder's name, by the user's pattern if there is one."""
        if self.pattern is None:
            return parse_step(name)
        return self.pattern.read(f"{self.below}{name}", label_of(name))

    def torch(self, path: str) -> TorchFile | None:
        """Return the contents of a torch file.

        None if it is not one or cannot be read (reading the checkpoint will explain why).
        """
        if not path.lower().endswith(TORCH_SUFFIXES):
            return None
        try:
            return self.keys(path)
        except TrajsvcError:
            return None


@dataclass
class Listing:
    """The checkpoints under one path in order, and what was noticed."""

    found: list[Found] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def note(
        self,
        kind: str,
        message: str,
        steps: Iterable[int] = (),
        severity: Literal["info", "warning"] | None = None,
        **details: Any,
    ) -> None:
        """Add a finding; a warning unless ``kind`` is one of those that are usual."""
        level: Literal["info", "warning"] = severity or ("info" if kind in _QUIET else "warning")
        self.findings.append(Finding(kind=kind, severity=level, message=message, steps=tuple(steps), details=details))

    def ordered(self, where: str) -> Listing:
        """Sort by stage, ingredient and step. Raises Refused (``step-conflict``), NotFound (``no-checkpoints``)."""
        if not self.found:
            raise nothing(where, f"{self.findings[0].message}." if self.findings else "")
        run = in_order([(f.name, f) for f in self.found], where, choose=CHOOSE)
        self.found = [replace(found, name=name) for name, found in run.items]
        self.findings += run.findings
        return self


def nothing(where: str, seen: str = "") -> NotFound:
    """Return the error for a place without checkpoints, with what was seen there."""
    if Path(where).is_dir() and not any(Path(where).iterdir()):
        hint = "Name the folder that the checkpoints of a training lie in; `trajsvc demo` makes some to try."
        return NotFound("no-checkpoints", f"the folder {where} is empty", hint=hint, file=where)
    if not seen and Path(where).is_file():
        hint = "Name the folder that the checkpoints of a training lie in, or a file of weights (.safetensors, .pt, .bin …)."
        return NotFound("no-checkpoints", f"{where} is no file of checkpoints", hint=hint, file=where)
    return NotFound(
        "no-checkpoints", f"there are no checkpoints in {where}", hint=f"{LOOKED_FOR} {seen}".rstrip(), file=where
    )


def label_of(name: str) -> str:
    """Return a file's name without the suffix of weights."""
    suffix = next((s for s in (".pth.tar", *TORCH_SUFFIXES, ".safetensors") if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def extra_of(found: Found) -> dict[str, Any]:
    """Return what a checkpoint's name says beside its step.

    These are ``stage``, ``epoch`` …, the ``kind`` of number if it is not a step, and the place ``inside`` a file that
    holds several.
    """
    extra: dict[str, Any] = dict(found.name.extra)
    if found.name.kind != "step":
        extra["kind"] = found.name.kind
    if found.inside:
        extra["inside"] = "/".join(map(str, found.inside))
    return extra


def first_file(found: Found) -> str:
    """Return the path of a checkpoint's first file; empty for one that cannot be used."""
    return os.path.join(found.weights.folder, found.weights.files[0]) if found.weights.files else ""  # noqa: PTH118


def some(names: Iterable[str], count: int = 4) -> str:
    """Join the first few of ``names``, with the total if there are more."""
    listed = list(names)
    return ", ".join(listed[:count]) + (f" … ({len(listed)})" if len(listed) > count else "")
