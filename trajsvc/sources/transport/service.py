"""The protocol of a service that the transport reads from: its files, and the errors that its answers become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from trajsvc.errors import TrajsvcError


class RemoteFile(Protocol):
    """A file that a service publishes. Hashable: equal files are at the same URL."""

    @property
    def where(self) -> str:
        """The file as messages name it."""
        ...

    @property
    def size(self) -> int:
        """Bytes, as listed."""
        ...

    @property
    def target(self) -> str:
        """Its place below the service's endpoint, quoted."""
        ...

    def check_answer(self, headers: Mapping[str, str]) -> None:
        """Raise a TrajsvcError where the service's own answer is about another file than the one that was listed."""
        ...


class ServiceErrors(Protocol):
    """The errors of a service, all with a hint what to do. A module of functions is one."""

    def of_response(self, status: int, headers: Mapping[str, str], where: str, *, signed_in: bool) -> TrajsvcError:
        """Return the error for an unsuccessful answer; ``signed_in``: a token was sent."""
        ...

    def unreachable(self, where: str, why: str) -> TrajsvcError:
        """Return the error for a connection that failed, broke or stalled."""
        ...

    def range_ignored(self, where: str) -> TrajsvcError:
        """Return the error for the whole file in answer to a request for a part."""
        ...

    def changed(self, where: str, what: str) -> TrajsvcError:
        """Return the error for a file that is not the one that was listed."""
        ...

    def insecure(self, where: str) -> TrajsvcError:
        """Return the error for a redirect from https to http."""
        ...

    def encoded(self, where: str) -> TrajsvcError:
        """Return the error for a body that is compressed, though it was asked for uncompressed."""
        ...
