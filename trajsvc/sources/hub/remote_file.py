"""A file of a repository at one commit, and whether an answer is about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from typing import Final, Literal

from trajsvc.sources.hub import problems

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What a listing says of a file: ``size`` in bytes, ``sha256`` where the Hub gave one."""

    repo: str
    commit: str
    path: str
    size: int
    sha256: str | None = None

    @property
    def where(self) -> str:
        """The file as messages name it."""
        return f"{self.repo}@{self.commit[:8]}/{self.path}"


def check_hub_answer(file: RemoteFile, headers: Message) -> None:
    """Raise TryAgain (``hub-file-changed``) where the Hub's own answer is about another commit or other contents."""
    commit = (headers.get("X-Repo-Commit") or "").lower()
    if commit and _COMMIT.fullmatch(file.commit) and commit != file.commit:
        raise problems.changed(file.where, f"is answered from another commit, {commit[:8]}")
    size = headers.get("X-Linked-Size") or ""
    if size.isdecimal() and int(size) != file.size:
        raise problems.changed(file.where, f"has {size} bytes on the Hub, and {file.size} in its listing")
    tag = (headers.get("X-Linked-ETag") or headers.get("ETag") or "").removeprefix("W/").strip('"').lower()
    if file.sha256 is not None and _SHA256.fullmatch(tag) and tag != file.sha256.lower():
        raise problems.changed(
            file.where, f"has the SHA-256 {tag[:8]}… on the Hub, and {file.sha256[:8]}… in its listing"
        )


Odd = Literal["ignored", "other"]
"""The whole file instead of a part, or another part."""


def part_answered(file: RemoteFile, lo: int, hi: int, status: int, headers: Message, length: int | None) -> int | Odd:
    """How many of the bytes [lo, hi) the body of a 200 or 206 brings, from ``lo`` on. ``length`` is the body's, if known.

    Raises TryAgain (``hub-file-changed``) where the file has another size, Refused (``hub-encoded``) where the body is transformed.
    """
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise problems.encoded(file.where)
    if status == 200:
        if (lo, hi) != (0, file.size):
            return "ignored"
        if length is not None and length != file.size:
            raise problems.changed(file.where, f"has {length} bytes, and {file.size} in its listing")
        return file.size
    said = _CONTENT_RANGE.fullmatch((headers.get("Content-Range") or "").strip())
    if said is None:
        return "other"
    first, last, size = said.groups()
    if size != "*" and int(size) != file.size:
        raise problems.changed(file.where, f"has {size} bytes, and {file.size} in its listing")
    count = int(last) + 1 - int(first)
    if int(first) != lo or not 0 < count <= hi - lo or length not in (None, count):
        return "other"
    return count
