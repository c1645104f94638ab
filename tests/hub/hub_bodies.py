"""Bodies of files of the tests' Hub: ranges, straight from the disk where nothing is to go wrong, and the faults of bodies."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import Final

from hub_exchange import Exchange, Head
from hub_repos import Content

_PIECE: Final = 1 << 20


class FileExchange(Exchange):
    """An exchange that can answer with a file."""

    def send_file(self, content: Content, head: Head) -> None:
        """The file, or the range that is asked for: 200, 206, 304 or 416."""
        etag = f'"{content.etag}"'
        head = {"ETag": etag, "Accept-Ranges": "bytes", **head}
        if self.headers.get("If-None-Match") in (etag, "*"):
            return self.reply(304, b"", head=head)
        status, lo, hi, size = 200, 0, content.size, content.size
        asked = self._range(content.size) if self.headers.get("If-Range", etag) == etag else None
        if asked is not None and not self.faults.take("ignore_range", self.where):
            status, (lo, hi) = 206, asked
            if hi <= lo:
                return self.reply(416, b"", head=head | {"Content-Range": f"bytes */{size}"})
            lo, hi, size = self._mistaken(lo, hi, size)
            head |= {"Content-Range": f"bytes {lo}-{hi - 1}/{size}"}
        self.head(status, "application/octet-stream" if content.lfs else "text/plain; charset=utf-8", hi - lo, head)
        if self.command != "HEAD" and hi > lo:
            self._send_body(content, lo, hi)
        return None

    def _range(self, size: int) -> tuple[int, int] | None:
        """[lo, hi) of the Range header, cut at the end of the file; None where the header asks for no single range."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "").strip())
        if not found or found.groups() == ("", ""):
            return None
        first, last = found.groups()
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1 if last else size)

    def _mistaken(self, lo: int, hi: int, size: int) -> tuple[int, int, int]:
        """The range and total that are answered for the ones that should be."""
        wrong = self.faults.take("wrong_range", self.where)
        if wrong == "total":
            return lo, hi, size + 1
        if wrong:
            return (lo + 1, hi + 1, size) if hi < size else (lo - 1, hi - 1, size) if lo else (lo + 1, hi, size)
        if hi - lo > 1 and self.faults.take("short_range", self.where):
            return lo, lo + (hi - lo) // 2, size
        return lo, hi, size

    def _send_body(self, content: Content, lo: int, hi: int) -> None:
        end, stall, flip = hi, -1, -1
        cut = self.faults.take("cut_at", self.where)
        if cut is not None:
            end = lo + min(int((hi - lo) * cut), hi - lo - 1)
            self.close_connection = True
        if seconds := self.faults.take("stall_s", self.where):
            stall = (lo + hi) // 2
        at = self.faults.peek("corrupt", self.where)
        if at is not None:
            at = content.size // 2 if at is True else at
            flip = at if lo <= at < end and self.faults.take("corrupt", self.where) else -1
        pace = self.faults.take("trickle", self.where)
        for a, b in pairwise(sorted({lo, end, *(m for m in (stall, flip, flip + 1) if lo < m < end)})):
            if a == stall:
                self.pause(seconds)
            if a == flip:
                self.send_bytes(bytes([self._bytes(content, a, b)[0] ^ 0xFF]))
            elif pace:
                self._trickle(content, a, b, pace)
            else:
                self._span(content, a, b)

    def _trickle(self, content: Content, lo: int, hi: int, pace: float) -> None:
        step = max(1, int(pace / 20))
        for at in range(lo, hi, step):
            self.send_bytes(self._bytes(content, at, min(at + step, hi)))
            self.pause(step / pace)

    def _bytes(self, content: Content, lo: int, hi: int) -> bytes:
        if isinstance(content.data, bytes):
            return content.data[lo:hi]
        with open(content.data, "rb") as file:
            file.seek(lo)
            return file.read(hi - lo)

    def _span(self, content: Content, lo: int, hi: int) -> None:
        if isinstance(content.data, bytes):
            for at in range(lo, hi, _PIECE):
                self.send_bytes(memoryview(content.data)[at : min(at + _PIECE, hi)])
            return
        with open(content.data, "rb") as file:
            while lo < hi:
                wanted = min(_PIECE, hi - lo)
                self.state.record.sent(self.where, wanted)
                count = 0
                try:
                    count = os.sendfile(self.connection.fileno(), file.fileno(), lo, wanted)
                finally:
                    if count < wanted:
                        self.state.record.sent(self.where, count - wanted)
                if count == 0:
                    raise ConnectionError("the file ended before its size")
                lo += count
