"""Bound the memory of a process that answers, so that what is too large is refused and takes no memory of the machine."""

from __future__ import annotations

import sys
from pathlib import Path

_first: list[int] = []


def limit_memory(bytes: int) -> None:
    """Let this process take ``bytes`` more than it had at its first call (Linux; elsewhere nothing is bounded).

    Beyond it an allocation fails: MemoryError.
    """
    if sys.platform != "linux":
        return
    import resource

    if not _first:
        _first.append(_data())
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _first[0] + bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _data() -> int:
    """Return the bytes of private memory that the process has mapped."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
