"""Parse the address of a run on the Hub: ``hf://org/name``, with a revision, a folder in it, or a pattern over
repositories.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trajsvc.errors import UsageError

EXAMPLES: Final = (
    "Examples: hf://EleutherAI/pythia-70m · hf://allenai/OLMo-2-1124-7B@stage1-step1000-tokens5B · "
    "hf://org/name/checkpoints · 'hf://google/multiberts-seed_0-step_*'"
)
_SCHEME: Final = "hf://"
_WEB: Final = "https://huggingface.co/"
_NOT_MODELS: Final = frozenset(["datasets", "spaces", "models", "api"])
"""First parts of addresses that lead elsewhere."""
_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")
_FOLDER: Final = re.compile(r"[A-Za-z0-9_.+=@ -]+(?:/[A-Za-z0-9_.+=@ -]+)*")
_LONGEST: Final = 96


@dataclass(frozen=True, slots=True)
class HubAddress:
    """``pattern`` is a repository, ``org/name``, or has wildcards in its name: then every repository it meets is a checkpoint."""

    pattern: str
    revision: str | None = None
    folder: str | None = None

    @property
    def wild(self) -> bool:
        """Whether it means several repositories."""
        return any(c in self.pattern for c in "*?[")

    @property
    def name(self) -> str:
        """What a run of it is called when the user gives no name."""
        base = re.sub(r"[^A-Za-z0-9._-]+", "", self.pattern.split("/")[1])
        base = re.sub(r"[-_.]*(?:steps?|checkpoints?)?[-_.]*$", "", base) if self.wild else base
        tail = "-".join(p for p in (self.revision, self.folder) if p)
        return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{base}-{tail}" if tail else base) or "run"

    def __str__(self) -> str:
        revision = f"@{self.revision.replace('/', '%2F')}" if self.revision else ""
        return f"hf://{self.pattern}{revision}{'/' + self.folder if self.folder else ''}"


def parse_address(text: str) -> HubAddress:
    """Parse ``hf://org/name[@revision][/folder]``.

    The address of a model's page on the Hub's site, or of its ``/tree/revision/folder``, means the same. A revision
    that contains a slash is written with ``%2F``. Raises UsageError (``bad-hub-address``).
    """
    split = _page(text) if text.startswith(_WEB) else _words(text)
    if split is None:
        raise UsageError("bad-hub-address", f"{text!r} is no address of a model on the Hub", hint=EXAMPLES)
    org, name, revision, folder = split
    plain = re.sub(r"\[[^\]]*\]|[*?]", "a", name)
    fits = (
        all(_PART.fullmatch(p) and "--" not in p and ".." not in p and not p.endswith(".git") for p in (org, plain))
        and org not in _NOT_MODELS
        and len(org) + 1 + len(plain) <= _LONGEST
        and (revision is None or (_REVISION.fullmatch(revision) and ".." not in revision))
        and (not folder or (_FOLDER.fullmatch(folder) and not {".", ".."} & set(folder.split("/"))))
        and not (plain != name and folder)
    )
    if not fits:
        raise UsageError("bad-hub-address", f"{text!r} is no address of a model on the Hub", hint=EXAMPLES)
    return HubAddress(f"{org}/{name}", revision, folder or None)


def _words(text: str) -> tuple[str, str, str | None, str] | None:
    """Return organisation, name, revision and folder of ``hf://…``; None if it is malformed."""
    if not text.startswith(_SCHEME):
        return None
    org, _, rest = text.removeprefix(_SCHEME).partition("/")
    name, _, folder = rest.rstrip("/").partition("/")
    name, at, revision = name.partition("@")
    if at and not revision:
        return None
    return org, name, re.sub("%2f", "/", revision, flags=re.IGNORECASE) if at else None, folder


def _page(text: str) -> tuple[str, str, str | None, str] | None:
    """Return organisation, name, revision and folder of a page on the Hub's site: a model's own, or one of its trees."""
    org, name, *rest = [*text.removeprefix(_WEB).rstrip("/").split("/"), ""]
    place = rest[:-1]
    if any(c in name for c in "*?[@") or (place and (place[0] != "tree" or len(place) < 2)):
        return None
    revision = re.sub("%2f", "/", place[1], flags=re.IGNORECASE) if place else None
    return org, name, revision, "/".join(place[2:])
