"""Files of a Hub repository at one commit, and the fetcher that reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from trajsvc.errors import UsageError
from trajsvc.sources.base import Sink, never
from trajsvc.sources.hub import errors
from trajsvc.sources.hub.answers import file_headers
from trajsvc.sources.transport.cancel import Stop
from trajsvc.sources.transport.fetch import Fetcher
from trajsvc.sources.transport.service import RemoteFile

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubFile:
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

    @property
    def target(self) -> str:
        """Its place below the Hub's endpoint."""
        return f"{quote(self.repo)}/resolve/{quote(self.commit, safe='')}/{quote(self.path)}"

    def check_answer(self, headers: Mapping[str, str]) -> None:
        """Raise TryAgain (``hub-file-changed``) where the Hub's own answer is about another commit or other contents, and
        DamagedCheckpoint (``hub-bad-answer``) where it says what no Hub does."""
        said = file_headers(headers, self.where)
        if said.commit is not None and _COMMIT.fullmatch(self.commit) and said.commit != self.commit:
            raise errors.changed(self.where, f"is answered from another commit, {said.commit[:8]}")
        if said.size is not None and said.size != self.size:
            raise errors.changed(self.where, f"has {said.size} bytes on the Hub, and {self.size} in its listing")
        tag = said.linked_etag or said.etag or ""
        if self.sha256 is not None and _SHA256.fullmatch(tag) and tag != self.sha256.lower():
            raise errors.changed(
                self.where, f"has the SHA-256 {tag[:8]}… on the Hub, and {self.sha256[:8]}… in its listing"
            )


class HubFetcher(Fetcher):
    """A ``Fetcher`` of Hub files. ``options`` are those of ``Fetcher``. Raises UsageError (``bad-token``)."""

    def __init__(self, endpoint: str, token: str | None, **options: Any) -> None:
        super().__init__(endpoint, _clean(token), errors, resource="resolvers", **options)

    def fetch(self, file: RemoteFile, lo: int, hi: int, sink: Sink, stop: Stop = never) -> None:
        """Fetch bytes [lo, hi) of ``file`` into ``sink``, in order.

        Raises TryAgain (``hub-unreachable``, ``hub-unavailable``, ``hub-rate-limited``, ``hub-file-changed``), Refused
        (``hub-gated``, ``range-ignored``, ``hub-offline`` …), NotFound (``hub-no-file`` …); Interrupted when ``stop``
        returns true.
        """
        from huggingface_hub.constants import is_offline_mode

        if is_offline_mode() and lo < hi:
            raise errors.offline(file.where)
        super().fetch(file, lo, hi, sink, stop)


def _clean(token: str | None) -> str | None:
    """Strip the end of line that a token read from a file has.

    Raises UsageError for a token that no header can carry.
    """
    token = (token or "").strip()
    if not token.isascii() or not token.isprintable():
        raise UsageError("bad-token", "the token for the Hub has characters that no token has", hint="Check HF_TOKEN.")
    return token or None
