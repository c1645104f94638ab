"""Recognise by its first bytes a file that is not what its name says."""

from __future__ import annotations

from typing import Final

from trajsvc.errors import DamagedCheckpoint, UnsupportedFormat
from trajsvc.sources.files import Region

SNIFFED: Final = 512
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_CONVERT: Final = (
    "Load it once in the environment that wrote it, if you trust it, and save its weights alone: "
    "torch.save(torch.load(OLD, map_location='cpu', weights_only=True), NEW)"
)


def refuse_impostors(region: Region) -> bytes:
    """Return the first bytes of a file that may be a checkpoint.

    Raises DamagedCheckpoint (``empty-file``, ``lfs-pointer``, ``html-instead-of-file``) for what downloads leave in its
    place.
    """
    path = region.path
    if region.size == 0:
        raise DamagedCheckpoint("empty-file", f"{path} is empty", hint="Fetch or copy it again.", file=path)
    head = region.bytes(0, min(SNIFFED, region.size))
    if head.startswith(_LFS):
        raise DamagedCheckpoint(
            "lfs-pointer",
            f"{path} is a Git LFS pointer, not the file itself",
            hint="Fetch the contents with `git lfs pull`.",
            file=path,
        )
    if head.lstrip()[:1] == b"<" and any(word in head.lower() for word in (b"<html", b"<!doctype", b"<?xml", b"<head")):
        raise DamagedCheckpoint(
            "html-instead-of-file",
            f"{path} is a web page, not a checkpoint: the download answered with an error or a login page",
            hint="Open it in a text editor to see what the server said, then fetch it again.",
            file=path,
        )
    return head


def refuse_other_torch(region: Region, head: bytes) -> None:
    """Return for a zip archive. Raises UnsupportedFormat (``legacy-torch``) for what torch or pickle wrote otherwise, and
    DamagedCheckpoint (``malformed-torch``) for anything else."""
    path = region.path
    if head.startswith(b"PK\x03\x04"):
        return
    what = ""
    if head.startswith(b"\x80") or head[:1] in b"(c}]":
        # torch before 1.6 writes several pickles in a row, the first of them a magic number.
        old = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in head[:16]
        what = "torch's format of before version 1.6" if old else "a plain pickle"
    elif head[257:262] == b"ustar":
        what = "a tar archive"
    elif head.startswith(b"\x1f\x8b"):
        what = "compressed with gzip"
    if what:
        raise UnsupportedFormat(
            "legacy-torch",
            f"{path} is {what}: its tensors cannot be found without running the code in it",
            hint=_CONVERT,
            file=path,
        )
    raise DamagedCheckpoint(
        "malformed-torch",
        f"{path} is not a torch checkpoint (no zip archive)",
        hint="Fetch or copy it again.",
        file=path,
    )
