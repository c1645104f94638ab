"""The resume journal: results of finished slabs, made durable one by one, so that a killed job loses no slab.

A journal is two files of one folder, named by the job's key. ``<key>.slabs`` is a header and then one record a slab::

    magic 4 bytes | payload length, 8 bytes little-endian | SHA-256 of the payload | payload

with the payload a JSON line (slab, meta, names, types and shapes of the arrays) and the arrays' bytes. ``<key>.state`` is one
such record: the sum of all slabs before its cursor. A record is written and synced as a whole; one that is torn or
altered ends the journal, and what followed it is computed again, which is always right since slabs are deterministic.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage_schema.errors import JournalMismatch
from storage_schema.files.durable import Buffer, make_dir, read_all, replace_file, sync_dir, write_pieces, writing
from storage_schema.files.regular import open_file, open_regular

Arrays = dict[str, NDArray[Any]]
Record = tuple[int, Arrays, dict[str, Any]]

_MAGIC: Final = b"TSJ1"
_HEAD: Final = struct.Struct("<4sQ32s")
_LINE: Final = 4096


class SlabJournal:
    """Durable results of one job's slabs. One process at a time writes it: hold the run's writer.

    ``key`` names the work exactly (plan, bytes, options). A journal of another key is another file and stays untouched;
    JournalMismatch is raised where a file of this key's name was written for another.
    """

    def __init__(self, directory: str | Path, key: str) -> None:
        self.directory = Path(directory)
        self.key = key
        stem = hashlib.sha256(key.encode()).hexdigest()[:32]
        self._slabs = self.directory / f"{stem}.slabs"
        self._states = self.directory / f"{stem}.state"
        self._end = 0
        self._base = 0
        """slabs before this one are in the state"""
        kept = self._read_state()
        if kept is not None:
            self._base = kept[0]
        self._recover()

    @property
    def nbytes(self) -> int:
        """Bytes of the records since the last compaction."""
        return self._end

    def append(self, slab: int, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Keep one slab's results; when this returns they survive a crash. Raises DiskFull, with the journal as before."""
        with writing(self._slabs):
            fd = self._open_for_append()
            try:
                size = write_pieces(fd, encode_record(slab, arrays, meta), self._end)
                os.fsync(fd)
            except BaseException:
                os.ftruncate(fd, self._end)
                raise
            finally:
                os.close(fd)
        self._end += size

    def _open_for_append(self) -> int:
        if self._end:
            return open_regular(self._slabs, os.O_RDWR)
        make_dir(self.directory)
        self._end = replace_file(self._slabs, *self._header())
        return open_regular(self._slabs, os.O_RDWR)

    def _header(self) -> list[Buffer]:
        return encode_record(-1, {}, {"key": self.key})

    def replay(self) -> Iterator[Record]:
        """Yield (slab, arrays, meta) of every slab after the state, in the order in which they were kept."""
        if not self._end:
            return
        with open_file(self._slabs) as file:
            file.seek(sum(len(piece) for piece in self._header()))
            while file.tell() < self._end:
                payload = _read_record(file.fileno(), file.tell(), self._end)
                if payload is None:  # altered since the journal was opened: as if it were torn here
                    return
                file.seek(_HEAD.size + len(payload), os.SEEK_CUR)
                slab, arrays, meta = _decode(payload)
                if slab >= self._base:
                    yield slab, arrays, meta

    def state(self) -> Record | None:
        """Return (cursor, arrays, meta) of the last compaction, the sum of the slabs before ``cursor``.

        None before the first one.
        """
        return self._read_state()

    def compact(self, cursor: int, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Replace everything before slab ``cursor`` by one state. At every instant either the old records or the new
        state can be read, and a record that a crash leaves behind is skipped, not added twice."""
        with writing(self._states):
            make_dir(self.directory)
            replace_file(self._states, *encode_record(cursor, arrays, {"key": self.key, "meta": dict(meta)}))
            end = replace_file(self._slabs, *self._header(), *self._later_records(cursor))
        self._base = cursor
        self._end = end

    def _later_records(self, cursor: int) -> Iterator[Buffer]:
        """Yield the encoded records of the slabs from ``cursor`` on; of the others only the first lines are read."""
        if not self._end:
            return
        with open_file(self._slabs) as file:
            at = sum(len(piece) for piece in self._header())
            while at < self._end and (record := _first_line(file.fileno(), at, self._end)) is not None:
                words, size = record
                if words["slab"] >= cursor:
                    whole = memoryview(bytearray(size))
                    read_all(file.fileno(), whole, at)
                    yield whole
                at += size

    def discard(self) -> None:
        """Forget this job, and what other jobs on the same run left behind: their run is committed, or their bytes changed."""
        if self.directory.is_dir():
            for pattern in ("*.slabs", "*.state", ".*.new"):
                for path in self.directory.glob(pattern):
                    path.unlink(missing_ok=True)
            sync_dir(self.directory)
        self._end = self._base = 0

    def _read_state(self) -> Record | None:
        try:
            fd = open_regular(self._states)
        except FileNotFoundError:
            return None
        try:
            payload = _read_record(fd, 0, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        if payload is None:  # the records that followed it cannot be used without it
            self._states.unlink()
            self._slabs.unlink(missing_ok=True)
            return None
        cursor, arrays, words = _decode(payload)
        self._check_key(self._states, words.get("key"))
        return cursor, arrays, words["meta"]

    def _recover(self) -> None:
        """Find the end of the last whole record and truncate the file there."""
        try:
            fd = open_regular(self._slabs, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            size = os.fstat(fd).st_size
            header = _read_record(fd, 0, size)
            if header is not None:
                self._check_key(self._slabs, _decode(header)[2].get("key"))
            at = 0
            while at < size and (payload := _read_record(fd, at, size)) is not None:
                at += _HEAD.size + len(payload)
            if at < size:
                os.ftruncate(fd, at)
            self._end = at
        finally:
            os.close(fd)

    def _check_key(self, path: Path, key: object) -> None:
        if key != self.key:
            raise JournalMismatch(
                path, "the resume journal belongs to another job", "Remove the file, then run the same command again."
            )


def encode_record(slab: int, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> list[Buffer]:
    """Encode one record in pieces: head, digest and payload.

    The arrays' own memory is among the pieces, since copies would count against the memory budget: write them before
    the arrays change. Raises TypeError for arrays of Python objects.
    """
    whole = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in arrays.items()}
    for name, value in whole.items():
        if value.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects; a journal keeps plain numbers")
    words = {
        "slab": slab,
        "meta": dict(meta),
        "arrays": [[name, value.dtype.str, list(value.shape)] for name, value in whole.items()],
    }
    line = json.dumps(words, allow_nan=False).encode() + b"\n"
    payload: list[Buffer] = [line, *(value.reshape(-1).view(np.uint8).data for value in whole.values())]
    hasher = hashlib.sha256()
    for piece in payload:
        hasher.update(piece)
    return [_HEAD.pack(_MAGIC, sum(len(piece) for piece in payload), hasher.digest()), *payload]


def decode_record(data: bytes) -> Record | None:
    """Return (slab, arrays, meta) of a whole, unaltered record; None for anything else."""
    if len(data) < _HEAD.size:
        return None
    magic, length, digest = _HEAD.unpack_from(data)
    payload = memoryview(data)[_HEAD.size :]
    if magic != _MAGIC or length != len(payload) or hashlib.sha256(payload).digest() != digest:
        return None
    return _decode(payload)


def _read_head(fd: int, at: int, size: int) -> tuple[int, bytes] | None:
    """Return (bytes of the payload, its digest) of the record at byte ``at`` of a file of ``size`` bytes.

    None if it is not whole.
    """
    head = os.pread(fd, _HEAD.size, at)
    if len(head) < _HEAD.size:
        return None
    magic, length, digest = _HEAD.unpack(head)
    return None if magic != _MAGIC or length > size - at - _HEAD.size else (length, digest)


def _first_line(fd: int, at: int, size: int) -> tuple[dict[str, Any], int] | None:
    """Return the JSON line of the record at byte ``at`` and the record's size in bytes; None if it is not whole.

    The digest is not checked.
    """
    head = _read_head(fd, at, size)
    if head is None:
        return None
    length, line = head[0], b""
    while b"\n" not in line:
        more = os.pread(fd, min(_LINE, length - len(line)), at + _HEAD.size + len(line))
        if not more:
            return None
        line += more
    try:
        words = json.loads(line[: line.index(b"\n")])
    except ValueError:
        return None
    return words, _HEAD.size + length


def _read_record(fd: int, at: int, size: int) -> memoryview | None:
    """Return the payload of the record at byte ``at`` of a file of ``size`` bytes.

    None if the record is torn or altered.
    """
    head = _read_head(fd, at, size)
    if head is None:
        return None
    length, digest = head
    payload = memoryview(bytearray(length))
    try:
        read_all(fd, payload, at + _HEAD.size)
    except EOFError:  # cut off since its size was looked up
        return None
    return payload if hashlib.sha256(payload).digest() == digest else None


def _decode(payload: memoryview) -> Record:
    end = _line_end(payload)
    words = json.loads(bytes(payload[:end]))
    arrays: Arrays = {}
    at = end + 1
    for name, dtype, shape in words["arrays"]:
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        # a copy: aligned, and the caller's own to add to
        arrays[name] = np.frombuffer(payload, kind, count, at).reshape(shape).copy()
        at += count * kind.itemsize
    return words["slab"], arrays, words["meta"]


def _line_end(payload: memoryview) -> int:
    at = 0
    while (found := bytes(payload[at : at + _LINE]).find(b"\n")) < 0:
        at += _LINE
        if at >= len(payload):
            raise ValueError("a record without its first line")
    return at + found
