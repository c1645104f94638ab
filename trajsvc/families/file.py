"""Families of runs: networks that differ in size, seed or a hyperparameter, described in a TOML file and kept in the store.

::

    name = "pythia"
    tags = ["sweep:size"]                        # to find it by
    [defaults]                                   # options of every member
    steps = "every:8"
    [[runs]]
    source = "hf://EleutherAI/pythia-70m"        # or a folder or glob, relative to the file's folder
    size = "70M"                                 # else the run's own parameters
    seed = 0
    [runs.hyperparameters]
    lr = 1e-3

A member may set an option itself; it then holds instead of the default. Tables ``[spectra]`` and ``[gradients]`` have more computed of
every member (``trajsvc.families.beside``). In the store a family is ``families/<name>.json``.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from storage_schema.errors import BadRunName
from storage_schema.errors import UsageError as WrongTag
from storage_schema.files.durable import make_dir, replace_file, writing
from storage_schema.files.regular import read_file
from storage_schema.format.names import check_name, run_name
from storage_schema.models.results import Scalar
from storage_schema.runs.about import MOST, check_tag
from storage_schema.runs.store import RunStore
from trajsvc.analysis.options import RunOptions
from trajsvc.errors import DamagedStore, NotFound, UsageError, printable
from trajsvc.families.beside import (
    KEYS,
    GradientsChoice,
    GradientsTable,
    SpectraChoice,
    SpectraTable,
    merged,
    placed,
)
from trajsvc.sources.run_names import default_name as local_name

FAMILIES: Final = "families"
VERSION: Final = 1
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ROOT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}:")
"""a path within a server's data root, ROOT:path"""
_SIZE: Final = re.compile(r"\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][0-9]+)?)\s*([kKmMbBgGtT]?)\s*")
LONGEST_SIZE: Final = 64
"""characters"""
_POWERS: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}


def parse_size(text: str) -> int | float:
    """Parse a number of parameters. Raises ValueError.

    >>> parse_size("70M"), parse_size("1.4B"), parse_size("160_000")
    (70000000, 1400000000, 160000)
    """
    match = _SIZE.fullmatch(text) if len(text) <= LONGEST_SIZE else None  # it takes time quadratic in the text
    if match is None:
        raise ValueError(f"{text[:LONGEST_SIZE]!r} is not a size: write a number, or 70M, 1.4B")
    value = float(match[1].replace("_", "")) * _POWERS[match[2].lower()]
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]!r}… is more than a number can be: write 70M or 1.4B")
    return _whole(value)


def _whole(value: float) -> int | float:
    """Return the nearest integer if ``value`` equals it to nine digits, else ``value``: 1.1 * 10**9 is 1100000000."""
    near = round(value)
    return near if abs(value - near) <= 1e-9 * max(1.0, abs(value)) else value


def _size(value: object) -> object:
    if isinstance(value, str):
        return parse_size(value)
    return _whole(value) if isinstance(value, float) and math.isfinite(value) else value


def _scalar(value: object) -> object:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be one number, text, true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be finite, not {value}")
    return value


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except BadRunName as problem:
        raise ValueError(f"{problem.file} is {problem.message}; {problem.hint}") from None


Name = Annotated[str, Field(strict=True)]
Size = Annotated[int | float, BeforeValidator(_size), Field(gt=0)]


class MemberOptions(RunOptions):
    """How a member is analysed: the options of ``trajsvc analyze`` that a family may set. ``rules`` is a file, relative to the family's
    folder, or the id of a rules file of the server that executes the family."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)

    def given(self) -> dict[str, Any]:
        """Return the options that were set, by the names of the file."""
        return {k: v for k, v in self.model_dump(by_alias=True, exclude_unset=True).items() if k in OPTIONS}


OPTIONS: Final = tuple(field.alias or name for name, field in MemberOptions.model_fields.items())


class Member(MemberOptions):
    """One run of a family. ``source`` is absolute, or an address on the Hub; ``name`` is the run's name in the store."""

    name: Name
    source: str = Field(min_length=1)
    size: Size | None = None
    seed: int | None = None
    hyperparameters: dict[str, Annotated[Scalar, BeforeValidator(_scalar)]] = Field(default={})
    spectra: SpectraChoice | None = Field(
        default=None, description="options that differ from the family's; false: none"
    )
    gradients: GradientsChoice | None = Field(
        default=None, description="options that differ from the family's; false: none"
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return _checked(value)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "name" not in data:
            source = data.get("source")
            return {**data, "name": default_name(source if isinstance(source, str) else "")}
        return data


class Family(BaseModel):
    """A name and its member runs, whose names differ."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: Name
    title: str = ""
    tags: list[str] = Field(default=[], max_length=MOST)
    """to find it by, as those of a run; those of an experiment have ``experiment:NAME``"""
    defaults: MemberOptions = MemberOptions()
    spectra: SpectraTable | None = Field(default=None, description="spectra to compute of every member")
    gradients: GradientsTable | None = Field(default=None, description="gradients to compute of every member")
    runs: list[Member] = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return _checked(value)

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: list[str]) -> list[str]:
        try:
            return sorted({check_tag(tag) for tag in value})
        except WrongTag as problem:
            raise ValueError(f"{problem.message}; {problem.hint}") from None

    @field_validator("runs")
    @classmethod
    def _distinct(cls, value: list[Member]) -> list[Member]:
        names = [member.name for member in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            places = [str(k + 1) for k, name in enumerate(names) if name == twice[0]]
            raise ValueError(
                f"{twice[0]!r} names more than one run ({', '.join(places)}): give each a `name` of its own"
            )
        return value

    @field_validator("runs")
    @classmethod
    def _with_probe_and_data(cls, value: list[Member], info: ValidationInfo) -> list[Member]:
        for member in value:
            table = merged(info.data.get("gradients"), member.gradients)
            if table is not None and table.lacking:
                raise ValueError(
                    f"no {' and no '.join(table.lacking)} for the gradients of {member.name!r}: set them in [gradients], or in "
                    "[runs.gradients] of the member"
                )
        return value

    def options(self, member: Member) -> MemberOptions:
        """Return the options of ``member``: its own, else the defaults."""
        return MemberOptions.model_validate({**self.defaults.given(), **member.given()})

    def spectra_of(self, member: Member) -> SpectraTable | None:
        """Return which spectra of ``member`` are computed; None: none."""
        return merged(self.spectra, member.spectra)

    def gradients_of(self, member: Member) -> GradientsTable | None:
        """Return which gradients of ``member`` are computed; None: none."""
        return merged(self.gradients, member.gradients)

    def member(self, name: str) -> Member:
        """Return the member of that name. Raises NotFound (``member-not-found``)."""
        for member in self.runs:
            if member.name == name:
                return member
        known = [m.name for m in self.runs]
        close = difflib.get_close_matches(name, known, n=3) or known[:8]
        raise NotFound(
            "member-not-found", f"the family {self.name} has no member {name!r}", hint=f"It has {', '.join(close)}."
        )

    def hyperparameter_names(self) -> list[str]:
        """Return the hyperparameters that any member has, in order of first appearance."""
        return list(dict.fromkeys(name for member in self.runs for name in member.hyperparameters))


def expanded(family: Family, runs_of: Callable[[Member], Sequence[str]]) -> Family:
    """Replace every member whose repository holds several runs by those runs.

    ``runs_of`` returns them as patterns of revisions; none for a member that is one run. A run's name is the member's
    followed by the part of the pattern that is its own; a seed is taken from ``seed-N``.
    """
    members: list[dict[str, Any]] = []
    for member in family.runs:
        patterns = [] if member.revisions else list(runs_of(member))
        facts = member.model_dump(by_alias=True, exclude_unset=True)
        if len(patterns) < 2:
            members.append(facts)
            continue
        for pattern in patterns:
            own = re.sub(r"(?:step|steps|iter|tokens|stage|phase|ckpt|checkpoint|epoch)?\*", "", pattern).strip("-_/. ")
            seed = re.search(r"seed[-_]?(\d+)$", own)
            members.append(
                {
                    **facts,
                    "name": run_name(f"{member.name}-{own}"),
                    "revisions": [pattern],
                    **({"seed": int(seed[1])} if seed and member.seed is None else {}),
                    "hyperparameters": {**member.hyperparameters, "run": own},
                }
            )
    return Family.model_validate({**family.model_dump(by_alias=True, exclude_unset=True), "runs": members})


def default_name(source: str) -> str:
    """Return a member's name from its source.

    This is the folder's name, of a glob that before the first pattern, of a repository the last part.
    """
    if _SCHEME.match(source):
        path = source.partition("://")[2].partition("@")[0].partition("?")[0]
        return run_name(path.rstrip("/").rpartition("/")[2])
    if _ROOT.match(source):
        source = source.partition(":")[2]
    parts = list(Path(source).parts)
    plain = [part for k, part in enumerate(parts) if not any(set("*?[") & set(p) for p in parts[: k + 1])]
    return run_name(local_name("/".join(plain)) if plain else "run")


def load_family(path: str | os.PathLike[str]) -> Family:
    """Load the family that a TOML file describes, its folders made absolute.

    Raises UsageError (``bad-family``), which names the file, the line or the key, and what to do.
    """
    file = Path(path)
    try:
        data = tomllib.loads(read_file(file).decode("utf-8"))
    except OSError as error:
        hint = "Name a TOML file with `name = …` and a [[runs]] table for every member."
        raise _bad(file, f"cannot be read: {error.strerror or error}", hint) from error
    except UnicodeDecodeError as error:
        raise _bad(file, f"is not UTF-8 text (byte {error.start})", "Save the file as UTF-8.") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # numbers of thousands of digits and deep nesting are none of tomllib's own
        raise _bad(
            file, f"is not TOML: {error}", "Text wants quotes, a list [ ], a member's table [[runs]]."
        ) from error
    try:
        return Family.model_validate(_placed(data, file.absolute().parent))
    except ValidationError as error:
        first = error.errors()[0]
        more = len({_key(e["loc"], data) for e in error.errors()}) - 1
        also = f" (and {more} more {'fault' if more == 1 else 'faults'})" if more else ""
        raise _bad(file, f"{_key(first['loc'], data)}{_fault(first)}{also}", _hint(first)) from error


def _placed(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Resolve the folders of the members against ``folder``, and name members without a name by their source."""
    runs = data.get("runs")
    if not isinstance(runs, list):
        return data
    found = []
    for run in runs:
        if isinstance(run, dict) and isinstance(source := run.get("source"), str) and source.strip():
            named = run if "name" in run else {**run, "name": default_name(_absolute(source, folder))}
            run = _with_files({**named, "source": _absolute(source, folder)}, folder)
        found.append(run)
    return {
        **_with_files(data, folder),
        "runs": found,
        **({"defaults": _with_rules(data["defaults"], folder)} if "defaults" in data else {}),
    }


def _with_files(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Resolve the files that a member or a family names against ``folder``."""
    return placed(_with_rules(data, folder), folder, lambda file: _path(file, folder))


def _with_rules(options: Any, folder: Path) -> Any:
    """Resolve the rules file of ``options`` against ``folder``; the id of a server's rules file stays as it is."""
    rules = options.get("rules") if isinstance(options, dict) else None
    if isinstance(rules, str) and (rules.endswith(".toml") or (folder / rules).is_file()):
        return {**options, "rules": _path(rules, folder)}
    return options


def _absolute(source: str, folder: Path) -> str:
    if _SCHEME.match(source) or (_ROOT.match(source) and not os.path.lexists(folder / source)):
        return source
    return _path(source, folder)


def _path(file: str, folder: Path) -> str:
    return os.path.abspath(folder / Path(file).expanduser())  # noqa: PTH100 (links stay as they are)


def _bad(file: Path, what: str, hint: str) -> UsageError:
    joined = f"{file} {what}" if what.startswith(("cannot", "is not")) else f"{file}: {what}"
    return UsageError("bad-family", joined, hint=hint, file=file)


def _key(place: Sequence[int | str], data: Mapping[str, Any]) -> str:
    """Describe a place in the file, as in ``runs[2] (pythia-160m) size``; unions' branches are left out."""
    parts: list[str] = []
    at: Any = data
    for part in place:
        if isinstance(part, int):
            at = at[part] if isinstance(at, list) and part < len(at) else None
            parts[-1:] = [f"{parts[-1]}[{part + 1}]" if parts else f"[{part + 1}]"]
            label = at.get("name") or at.get("source") if isinstance(at, dict) else None
            if isinstance(label, str) and label:
                parts[-1] += f" ({printable(label)})"
        elif isinstance(at, dict) and (part in at or not parts or len(place) <= 3):
            at = at.get(part)
            parts.append(part)
    return " ".join(parts)


def _fault(error: Any) -> str:
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        return " is not a key of a family's file"
    if kind == "missing":
        return " is missing"
    if kind == "value_error":
        return f": {error['ctx']['error']}"
    if kind == "model_type":
        return f" is no table of options{', nor false' if error['loc'][0] == 'runs' else ''}"
    if kind in ("too_short", "string_too_short"):
        return " is empty"
    shown = f", not {given!r}" if isinstance(given, bool | int | float | str) else ""
    return f" {error['msg'].removeprefix('Input ')}{shown}"


def _hint(error: Any) -> str:
    place = error["loc"]
    if error["type"] == "extra_forbidden":
        known = _known(place)
        close = difflib.get_close_matches(str(place[-1]), known, n=1)
        meant = f"Did you mean {close[0]!r}? " if close else ""
        return f"{meant}Keys here: {', '.join(known)}."
    if place[:1] == ("runs",) and len(place) == 1 and error["type"] != "value_error":
        return 'Every member is a table: [[runs]], then source = "…" and what tells it apart.'
    return "`trajsvc batch --help` shows a whole file."


def _known(place: Sequence[int | str]) -> list[str]:
    table = next((part for part in place[:-1] if part in KEYS), None)
    if table is not None:
        return KEYS[str(table)]
    if place[0] == "runs" and len(place) > 2:
        return ["name", "source", "size", "seed", "hyperparameters", *KEYS, *OPTIONS]
    if place[0] == "defaults" and len(place) > 1:
        return list(OPTIONS)
    return ["name", "title", "tags", "defaults", *KEYS, "runs"]


def family_path(store: str | os.PathLike[str], name: str) -> Path:
    """Return the file of a family in a store, whether it exists or not. Raises UsageError (``run-name``)."""
    return Path(store) / FAMILIES / f"{check_name(name)}.json"


def save_family(store: str | os.PathLike[str], family: Family) -> Path:
    """Store ``family``, replacing one of the same name. Raises what writing a store raises."""
    path = family_path(store, family.name)
    kept = {"version": VERSION, "family": family.model_dump(mode="json", by_alias=True, exclude_unset=True)}
    data = json.dumps(kept, ensure_ascii=False, allow_nan=False, indent=2).encode() + b"\n"
    with writing(path):
        RunStore(Path(store)).make()
        if not path.is_file() or read_file(path) != data:
            make_dir(path.parent)
            replace_file(path, data)
    return path


def family_names(store: str | os.PathLike[str]) -> list[str]:
    """Return the families of a store, sorted; none if there is no store yet."""
    return sorted(path.stem for path in (Path(store) / FAMILIES).glob("[!.]*.json"))


def open_family(store: str | os.PathLike[str], name: str) -> Family:
    """Read the family ``name`` of a store.

    Raises NotFound (``family-not-found``) and DamagedStore (``family-damaged``).
    """
    path = family_path(store, name)
    try:
        data = read_file(path)
    except FileNotFoundError:
        raise family_not_found(store, name) from None
    again = "`trajsvc batch` with the family's TOML file writes it anew; the stored file may be removed."
    try:
        kept = json.loads(data)
        version = kept["version"]
        if version == VERSION:
            return Family.model_validate_json(json.dumps(kept["family"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStore("family-damaged", f"the family {name} cannot be read", hint=again, file=path) from error
    raise DamagedStore("family-damaged", f"the family {name} is of format {version!r}", hint=again, file=path)


def family_not_found(store: str | os.PathLike[str], name: str) -> NotFound:
    """Return the error for a family that is not in the store; it names those that are close."""
    known = family_names(store)
    close = difflib.get_close_matches(name, known, n=3) or known[:5]
    there = f"It has {', '.join(close)}{' …' if len(known) > len(close) else ''}. " if close else "It has no families. "
    return NotFound(
        "family-not-found",
        f"no family {name!r} in the store {store}",
        hint=f"{there}`trajsvc families ls --store {store}` lists them; `trajsvc batch FAMILY.toml` makes one.",
    )
