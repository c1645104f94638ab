"""The hyperparameters of a run, gathered: set by hand, named by a family of the store, or read from the trainer's files by the analysis.

By name the first of these holds, and every value says where it is from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from storage_schema.files.regular import read_file
from storage_schema.models.results import Hyperparameter, Scalar

FAMILIES: Final = "families"
BY_HAND: Final = "by hand"


def gathered(
    attributes: Mapping[str, Any], of_family: Iterable[Hyperparameter], by_hand: Mapping[str, Scalar]
) -> list[Hyperparameter]:
    """Return the hyperparameters of a run by name in order of the alphabet, each with its origin."""
    found = {one.name: one for one in read_in(attributes)}
    found |= {one.name: one for one in of_family}
    found |= {name: Hyperparameter(name=name, value=value, origin=BY_HAND) for name, value in by_hand.items()}
    return [found[name] for name in sorted(found)]


def read_in(attributes: Mapping[str, Any]) -> list[Hyperparameter]:
    """Return what the analysis found in the trainer's files."""
    try:
        return [Hyperparameter.model_validate(one) for one in attributes.get("hyperparameters") or []]
    except (ValidationError, TypeError):
        return []


def of_families(root: Path) -> dict[str, list[Hyperparameter]]:
    """Return what the families of the store ``root`` say of their members, by run. A family that cannot be read says nothing here."""
    found: dict[str, dict[str, Hyperparameter]] = {}
    for path in sorted((root / FAMILIES).glob("[!.]*.json")):
        try:
            status = path.stat()
        except OSError:
            continue
        for run, values in _members(path, status.st_mtime_ns, status.st_size).items():
            for one in values:
                found.setdefault(run, {}).setdefault(one.name, one)
    return {run: list(values.values()) for run, values in found.items()}


@lru_cache(256)
def _members(path: Path, mtime_ns: int, size: int) -> dict[str, list[Hyperparameter]]:
    """Return what the family in a file says of its members; kept until the file changes."""
    try:
        members = json.loads(read_file(path))["family"]["runs"]
        return {member["name"]: list(_of_member(member, f"family {path.stem}")) for member in members}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _of_member(member: Mapping[str, Any], origin: str) -> Iterable[Hyperparameter]:
    own = dict(member.get("hyperparameters") or {})
    if member.get("seed") is not None:
        own.setdefault("seed", member["seed"])
    return (Hyperparameter(name=name, value=value, origin=origin) for name, value in own.items())
