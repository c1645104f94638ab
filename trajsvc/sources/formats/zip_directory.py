"""Read the table of contents of an uncompressed zip archive strictly.

Members of a torch checkpoint are stored, not compressed, so each is a byte range of the file. Readers of zip files
disagree about odd archives (two members of one name, data before the first, sizes that differ between the two headers);
all of that is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trajsvc.errors import DamagedCheckpoint, UnsafeFile
from trajsvc.sources.files import Region
from trajsvc.sources.formats.limits import MAX_HEADER, MAX_TENSORS, too_much

_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64: Final = struct.Struct("<4sLQL")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_MAX_COMMENT: Final = 2**16
_FULL: Final = 0xFFFFFFFF
_ENCRYPTED: Final = 0x1
_MAX_MEMBERS: Final = MAX_TENSORS + 64


_ALIGNMENT: Final = 64
_EXTRA_HEAD: Final = 4
_ENDS: Final = _END.size + _LOCATOR64.size + _END64.size
"""Bytes of an archive's end without a comment."""
_DESCRIPTORS: Final = (16, 24)
"""Lengths of the record (signature, CRC-32, two sizes of 32 or 64 bits) that may follow a member's data."""


@dataclass(frozen=True, slots=True)
class Member:
    """One stored member; ``header`` is where its local header begins, ``limit`` where the next thing does."""

    name: str
    size: int
    crc32: int
    header: int
    limit: int = 0


class ZipDirectory:
    """Members of the archive that fills ``region``, by name.

    Raises DamagedCheckpoint (``malformed-zip``, ``compressed-member``), UnsafeFile (``unsafe-member``), LimitExceeded.
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        begin, size, count = self._end()
        self.members = self._bounded(self._central(begin, size, count), begin)

    def range(self, name: str) -> tuple[int, int]:
        """Return where the data of a member begins in the region, and its length; the local header is read and checked.

        For a distant archive the place is computed if torch's own layout determines it, since reading each header would
        be a request.
        """
        member = self.members[name]
        if self.region.distant and (reckoned := _as_torch_lays_out(member)) is not None:
            return reckoned, member.size
        raw = self.region.bytes(member.header, _LOCAL.size)
        signature, _, flags, method, _, _, _, stored, size, name_length, extra_length = _LOCAL.unpack(raw)
        if signature != b"PK\x03\x04" or method != 0 or flags & _ENCRYPTED:
            raise self.bad(f"the local header of {name} does not agree with the directory")
        if self.region.bytes(member.header + _LOCAL.size, name_length) != name.encode():
            raise self.bad(f"the local header of {name} has another name")
        if not flags & 0x8 and _FULL not in (stored, size) and (stored != member.size or size != member.size):
            raise self.bad(f"the local header of {name} has another size")
        begin = member.header + _LOCAL.size + name_length + extra_length
        if begin + member.size > member.limit:
            raise self.bad(f"{name} reaches into what follows it")
        return begin, member.size

    def data(self, name: str, limit: int = MAX_HEADER) -> bytes:
        begin, size = self.range(name)
        if size > limit:
            raise too_much(self.region.path, f"{name} of {size:,} bytes", f"{limit:,}")
        return self.region.bytes(begin, size)

    def bad(
        self, what: str, kind: str = "malformed-zip", hint: str = "Fetch or copy the file again."
    ) -> DamagedCheckpoint:
        return DamagedCheckpoint(kind, f"{self.region.path}: {what}", hint=hint, file=self.region.path)

    def _end(self) -> tuple[int, int, int]:
        """Return begin, size and number of entries of the central directory."""
        for most in (_ENDS, _END.size + _MAX_COMMENT):  # few archives have a comment: most ends are at the end
            window = min(self.region.size, most)
            tail = self.region.bytes(self.region.size - window, window)
            at = tail.rfind(b"PK\x05\x06")
            while at >= 0 and not self._ends_at(tail, at):
                at = tail.rfind(b"PK\x05\x06", 0, at)
            if at >= 0:
                break
        else:
            raise self.bad("the zip archive has no end: the file was cut short")
        _, disk, _, _, count, size, begin, _ = _END.unpack_from(tail, at)
        end = self.region.size - window + at
        end, size, begin, count = self._end64(tail, at, end, size, begin, count)
        if disk not in (0, 0xFFFF) or begin + size != end:
            raise self.bad("the zip archive's directory is not where its end says")
        if size > MAX_HEADER or count > _MAX_MEMBERS:
            raise too_much(self.region.path, f"an archive of {count:,} members", f"{_MAX_MEMBERS:,}")
        return begin, size, count

    def _ends_at(self, tail: bytes, at: int) -> bool:
        """Return whether the end record found at ``at`` of the archive's tail ends where the archive ends."""
        if at + _END.size > len(tail):
            return False
        return at + _END.size + int(_END.unpack_from(tail, at)[7]) == len(tail)

    def _end64(self, tail: bytes, at: int, end: int, size: int, begin: int, count: int) -> tuple[int, int, int, int]:
        where = at - _LOCATOR64.size
        if where < 0 or tail[where : where + 4] != b"PK\x06\x07":
            return end, size, begin, count
        offset = _LOCATOR64.unpack_from(tail, where)[2]
        record = _END64.unpack(self.region.bytes(offset, _END64.size))
        if record[0] != b"PK\x06\x06":
            raise self.bad("the zip archive's 64-bit end is not where it should be")
        count, size, begin = record[7], record[8], record[9]
        return offset, size, begin, count

    def _central(self, begin: int, size: int, count: int) -> dict[str, Member]:
        raw = self.region.bytes(begin, size)
        members: dict[str, Member] = {}
        at = 0
        while at < size:
            if size - at < _CENTRAL.size:
                raise self.bad("the zip archive's directory ends within an entry")
            entry = _CENTRAL.unpack_from(raw, at)
            lengths = entry[10], entry[11], entry[12]
            names = at + _CENTRAL.size
            at = names + sum(lengths)
            if entry[0] != b"PK\x01\x02" or at > size:
                raise self.bad("the zip archive's directory is damaged")
            middle = names + lengths[0]
            member = self._member(entry, raw[names:middle], raw[middle : middle + lengths[1]])
            if member.name in members:
                raise self.bad(f"two members are called {member.name}")
            members[member.name] = member
        if len(members) != count:
            raise self.bad(f"the zip archive has {len(members)} members and says {count}")
        return members

    def _member(self, entry: tuple[int, ...], raw_name: bytes, extra: bytes) -> Member:
        flags, method, crc, stored, size, header = entry[3], entry[4], entry[7], entry[8], entry[9], entry[16]
        try:
            name = raw_name.decode()
        except UnicodeDecodeError as error:
            raise self.bad(f"a member's name is not text: {raw_name[:40]!r}") from error
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise UnsafeFile(
                "unsafe-member",
                f"{self.region.path}: the member {name[:80]!r} points out of the archive",
                hint="A checkpoint has no such member: the file was made to do harm.",
                file=self.region.path,
            )
        if flags & _ENCRYPTED or method != 0:
            raise self.bad(
                f"the member {name[:80]} is compressed or encrypted",
                "compressed-member",
                "Torch stores members as they are; save the state dict again with torch.save.",
            )
        size, stored, header = self._wide(extra, size, stored, header)
        if stored != size:
            raise self.bad(f"the member {name[:80]} has two sizes")
        return Member(name, size, crc, header)

    def _wide(self, extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
        """Return size, stored size and header offset, those that are too large for 32 bits from the entry's 64-bit
        field.
        """
        values = [size, stored, header]
        if _FULL not in values:
            return size, stored, header
        at = 0
        while at + 4 <= len(extra):
            tag, length = struct.unpack_from("<HH", extra, at)
            field = extra[at + 4 : at + 4 + length]
            if tag == 1:
                wide = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
                values = [next(wide, v) if v == _FULL else v for v in values]
                break
            at += 4 + length
        return values[0], values[1], values[2]

    def _bounded(self, members: Mapping[str, Member], begin: int) -> dict[str, Member]:
        """Return the members with their limits; none may reach into another or into the directory."""
        ordered = sorted(members.values(), key=lambda m: m.header)
        bounded = {}
        for member, following in zip(ordered, [*(m.header for m in ordered[1:]), begin], strict=True):
            if member.header + _LOCAL.size + len(member.name.encode()) + member.size > following:
                raise self.bad(f"the member {member.name[:80]} reaches into what follows it")
            bounded[member.name] = Member(member.name, member.size, member.crc32, member.header, following)
        return {name: bounded[name] for name in members}


def _as_torch_lays_out(member: Member) -> int | None:
    """Return where a member's data begins if torch wrote the archive, or None when the sizes do not fit that layout.

    That is the next multiple of 64 after its header (whose extra field is made long enough), with a data descriptor and
    nothing more up to the next member.
    """
    begin = member.header + _LOCAL.size + len(member.name.encode()) + _EXTRA_HEAD
    begin += -begin % _ALIGNMENT
    return begin if member.limit - begin - member.size in _DESCRIPTORS else None
