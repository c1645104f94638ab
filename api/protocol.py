"""uvicorn's HTTP/1.1 protocol, with problem+json also for requests that are not valid HTTP."""

from __future__ import annotations

import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.errors import MEDIA, PREFIX


class ProblemProtocol(H11Protocol):
    """uvicorn's protocol, which answers an invalid request with problem+json."""

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed, and close."""
        body = {
            "type": f"{PREFIX}bad-request", "title": "Bad Request", "status": 400, "detail": msg, "instance": "",
            "hint": "Send HTTP/1.1 with headers of at most 32 KiB.", "request_id": "",
        }  # fmt: skip
        headers = [(b"content-type", MEDIA.encode()), (b"cache-control", b"no-store"), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=json.dumps(body).encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
