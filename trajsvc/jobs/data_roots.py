"""Data roots: the folders that submissions over HTTP may name, by an id and a path within.

``ROOT:relative/path`` names a folder or file below a root. No part of it may be a link, and nothing outside the root is
opened, whatever the path says.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from trajsvc.errors import NotFound, Refused, UsageError
from trajsvc.sources.named import Naming

ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_SPEC: Final = re.compile(r"([^:/]+):(?!//)(.*)", re.DOTALL)


class Roots:
    """Folders by their ids."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        for name, folder in folders.items():
            if not ID.fullmatch(name):
                raise UsageError(
                    "bad-root",
                    f"{name!r} is no id for a data root",
                    hint="Use a-z, 0-9, - and _: --root runs=/data/runs",
                )
            if not Path(folder).is_dir():
                raise NotFound("root-missing", f"the data root {name} ({folder}) is no folder", hint="Make it first.")
        self.folders: Final = {name: Path(folder).resolve() for name, folder in folders.items()}

    def __bool__(self) -> bool:
        return bool(self.folders)

    def resolve(self, source: str) -> Path:
        """Return the path that ``ROOT:relative/path`` names.

        Raises Refused (``no-data-roots``), NotFound (``root-not-found``, ``source-not-found``), UsageError (``bad-path``), Refused
        (``unsafe-path``: a link, a device, a way out of the root).
        """
        match = _SPEC.fullmatch(source)
        if match is None:
            raise UsageError(
                "bad-source", "the source is neither hf://org/name nor ROOT:path", hint="For example runs:pythia-70m."
            )
        if not self.folders:
            raise Refused(
                "no-data-roots", "this server reads no folders", hint="Start it with --root NAME=FOLDER, or use hf://."
            )
        root, path = match[1], match[2]
        if root not in self.folders:
            raise NotFound(
                "root-not-found",
                f"there is no data root {root!r}",
                hint=f"There are {', '.join(sorted(self.folders))}.",
            )
        parts = path.split("/") if path not in ("", ".") else []
        if "\0" in path or any(p in ("", ".", "..") or set(p) & set("*?[") for p in parts) or len(path) > 4096:
            raise UsageError("bad-path", "the path must be relative, without . and .. and patterns", hint="runs:my-run")
        self._walk(root, parts)
        return self.folders[root].joinpath(*parts)

    def naming(self, source: str) -> Naming:
        """Return how the files of ``source`` are named: ``ROOT:`` and the path within, so that a data root's location
        is not shown.

        Raises what ``resolve`` raises.
        """
        self.resolve(source)
        root = source.partition(":")[0]
        return Naming(f"{root}:", str(self.folders[root]))

    def _walk(self, root: str, parts: list[str]) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        folder = os.open(self.folders[root], os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for number, part in enumerate(parts):
                try:
                    status = os.stat(part, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISLNK(status.st_mode):
                        raise self._unsafe(root, parts, "is a link")
                    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
                        raise self._unsafe(root, parts, "is neither a folder nor a file")
                    if number == len(parts) - 1:
                        return
                    below = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
                except FileNotFoundError:
                    raise self._missing(root, parts) from None
                except NotADirectoryError:
                    raise self._missing(root, parts) from None
                except (UnicodeError, OSError) as error:
                    if isinstance(error, UnicodeError) or error.errno in (
                        errno.ENAMETOOLONG,
                        errno.ELOOP,
                        errno.EINVAL,
                    ):
                        raise self._missing(root, parts) from None
                    if not isinstance(error, PermissionError):
                        raise
                    raise self._unsafe(root, parts, "may not be read") from None
                os.close(folder)
                folder = below
        finally:
            os.close(folder)

    def _missing(self, root: str, parts: list[str]) -> NotFound:
        return NotFound("source-not-found", f"there is no {root}:{'/'.join(parts)}", hint="Is it spelled as on disk?")

    def _unsafe(self, root: str, parts: list[str], why: str) -> Refused:
        return Refused("unsafe-path", f"{root}:{'/'.join(parts)} {why}", hint="Name the folder itself.")
