"""Names of the server's folders over HTTP: ``store:`` and ``ROOT:`` with the path within. Their paths are never shown.

Files of sources have such names from the beginning (``trajsvc.sources.named``). Here the other paths that an error or a
stored job may contain are renamed; a sentence that still names a folder of this machine is withheld as a whole, never
edited.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from trajsvc.settings import ServiceSettings
from trajsvc.sources.named import Naming

WITHHELD: Final = "the reason names a folder of the server; its log has it whole"
ELSEWHERE: Final = "another place"
_PATHS: Final = frozenset({"file", "source"})
"""fields whose value is a path"""


class Places:
    """The folders that a server with these settings knows."""

    def __init__(self, settings: ServiceSettings) -> None:
        named = {"store": settings.store, **settings.roots}
        self._namings = [Naming(f"{n}:", folder) for n, path in named.items() for folder in _spellings(path)]
        self._namings.sort(key=lambda n: -len(n.folder))  # the innermost first
        hidden = [*(n.folder for n in self._namings), *(str(p.parent.resolve()) for p in settings.rules_files.values())]
        hidden += [str(p.parent.resolve()) for p in settings.gradient_data.values()]
        hidden += [str(p.tokenizer.resolve()) for p in settings.probes.values() if p.tokenizer is not None]
        hidden += [str(Path.home()), sys.prefix, *_own(), *_database(settings.database_url)]
        self._hidden = tuple(sorted({h for h in hidden if len(h) > 1}))

    def name(self, path: str) -> str | None:
        """Return the name of ``path``; None for a path elsewhere on this machine. A relative path is a name already."""
        if not os.path.isabs(path):  # noqa: PTH117
            return path
        for naming in self._namings:
            if path == naming.folder or path.startswith(f"{naming.folder}/"):
                return naming.name(path)
        return None

    def shown(self, path: str) -> str:
        """Return ``name(path)``, or a placeholder for a path elsewhere."""
        return self.name(path) or ELSEWHERE

    def tells(self, text: str) -> bool:
        """Return whether a sentence names a folder of this machine."""
        return any(folder in text for folder in self._hidden)

    def plain(self, value: Any) -> Any:
        """Return stored facts without paths of this machine."""
        if isinstance(value, str):
            return WITHHELD if self.tells(value) else value
        if isinstance(value, Mapping):
            return {k: self._field(k, v) for k, v in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.plain(v) for v in value]
        return value

    def _field(self, name: str, value: Any) -> Any:
        if name in _PATHS and isinstance(value, str):
            return self.shown(value)
        return self.plain(value)


def _spellings(path: Path) -> set[str]:
    return {str(path.absolute()), str(path.resolve())}


def _own() -> list[str]:
    """Return the folders that a process has without being told any: the current one, and that of temporary files."""
    found = []
    for folder in (tempfile.gettempdir, Path.cwd):
        with suppress(OSError):  # there is none
            found.append(str(folder()))
    return found


def _database(url: str) -> list[str]:
    place = url.removeprefix("sqlite:///")
    return [str(Path(place).parent.resolve())] if place != url else []
