"""Answers that no good server gives, and redirects of all kinds. The servers are scripted."""

from __future__ import annotations

import errno
import gzip
import hashlib
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest
from scripted_server import Answering, Heard, ScriptedServer, answer, part

from trajsvc.errors import Refused, TrajsvcError, TryAgain, UsageError
from trajsvc.sources.hub.remote_file import HubFetcher, HubFile
from trajsvc.sources.transport.rate_limit import RateLimiter
from trajsvc.sources.transport.retry import FailedAttempt, RetryPolicy
from trajsvc.sources.transport.scatter import Scatter

DATA = bytes(range(251)) * 1000
COMMIT = "c" * 40
FILE = HubFile("org/run", COMMIT, "model.safetensors", len(DATA), hashlib.sha256(DATA).hexdigest())
TOKEN = "hf_CANARYcanaryCANARY"

Serve = Callable[[Answering], ScriptedServer]
Fetch = Callable[..., bytes]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answering: stack.enter_context(ScriptedServer(answering))


@pytest.fixture
def fetched() -> Iterator[Fetch]:
    """``fetched(server, lo, hi, …)``: the bytes [lo, hi) of the file by a fetcher of ``server``."""
    made: list[HubFetcher] = []

    def fetch(
        server: ScriptedServer, lo: int = 0, hi: int = len(DATA), file: HubFile = FILE, attempts: int = 4
    ) -> bytes:
        fetcher = HubFetcher(
            server.endpoint, TOKEN, attempts=attempts, backoff=0.001, stall_seconds=1.0, limiter=RateLimiter(base=0.01)
        )
        made.append(fetcher)
        out = bytearray(hi - lo)
        fetcher.fetch(file, lo, hi, Scatter([(hi - lo, memoryview(out))]))
        assert fetcher.counters.bytes == hi - lo
        return bytes(out)

    yield fetch
    for fetcher in made:
        fetcher.close()


def with_head(head: Mapping[str, object], status: int = 206) -> Answering:
    """Right bytes under a head that differs."""

    def answering(heard: Heard, sock: socket.socket) -> bool:
        lo, hi = heard.range
        sock.sendall(answer(status, DATA[lo:hi], {"Content-Range": f"bytes {lo}-{hi - 1}/{len(DATA)}", **head}))
        return True

    return answering


@pytest.mark.parametrize(
    "head",
    [
        {"Content-Range": f"bytes 10-1999/{len(DATA)}"},
        {"Content-Range": "bytes 10-1999/*"},
        {"Content-Range": f"bytes 10-1999/{len(DATA)}", "Content-Length": None, "Connection": "close"},
        {"Content-Encoding": "identity"},
        {"X-Repo-Commit": COMMIT, "ETag": f'W/"{FILE.sha256}"'},
        {"ETag": '"9bb58f26192e4ba00f01e2e7b136bbd8-42"', "X-Linked-Size": len(DATA)},
    ],
)
def test_heads_that_are_as_good(serve: Serve, fetched: Fetch, head: Mapping[str, object]) -> None:
    def closing(heard: Heard, sock: socket.socket) -> bool:
        return with_head(head)(heard, sock) and "Connection" not in head

    assert fetched(serve(closing), 10, 2000) == DATA[10:2000]


@pytest.mark.parametrize(
    "head",
    [
        {"Content-Range": f"bytes 10-1999/{len(DATA) + 1}"},
        {"X-Linked-Size": len(DATA) - 1},
        {"X-Repo-Commit": "d" * 40},
        {"X-Linked-ETag": f'"{"0" * 64}"'},
        {"ETag": f'"{"0" * 64}"'},
        {"ETag": f'"{"0" * 64}"', "X-Linked-ETag": f'"{"0" * 64}"'},
    ],
)
def test_heads_of_another_file(serve: Serve, fetched: Fetch, head: Mapping[str, object]) -> None:
    server = serve(with_head(head))
    with pytest.raises(TryAgain) as caught:
        fetched(server, 10, 2000)
    assert caught.value.kind == "hub-file-changed"
    assert len(server.heard) == 1


@pytest.mark.parametrize(
    "head",
    [
        {"Content-Range": f"bytes 11-2000/{len(DATA)}"},
        {"Content-Range": f"bytes 10-1999/{'9' * 5000}"},
        {"Content-Range": f"bytes {'1' * 5000}-1999/*"},
        {"Content-Range": f"bytes 10-2000/{len(DATA)}"},
        {"Content-Range": f"bytes 10-9/{len(DATA)}"},
        {"Content-Range": f"bytes 10-1899/{len(DATA)}"},
        {"Content-Range": "bytes */5"},
        {"Content-Range": None},
        {"Content-Range": None, "Content-Type": "multipart/byteranges; boundary=x"},
        {"Content-Range": f"items 10-1999/{len(DATA)}"},
    ],
)
def test_parts_that_are_not_what_was_asked_for(serve: Serve, fetched: Fetch, head: Mapping[str, object]) -> None:
    server = serve(with_head(head))
    with pytest.raises(TryAgain) as caught:
        fetched(server, 10, 2000)
    assert caught.value.kind == "hub-file-changed"
    assert len(server.heard) == 2  # asked once more, in case it was a slip
    assert server.accepted == 2  # on another connection: nothing of that body was read


def test_a_body_that_is_compressed_on_its_way_is_refused(serve: Serve, fetched: Fetch) -> None:
    def zipped(heard: Heard, sock: socket.socket) -> bool:
        assert heard.headers["accept-encoding"] == "identity"
        lo, hi = heard.range
        head = {"Content-Range": f"bytes {lo}-{hi - 1}/{len(DATA)}", "Content-Encoding": "gzip"}
        sock.sendall(answer(206, gzip.compress(DATA[lo:hi]), head))
        return True

    with pytest.raises(Refused) as caught:
        fetched(serve(zipped), 0, 500)
    assert caught.value.kind == "hub-encoded"


def test_a_file_that_became_shorter(serve: Serve, fetched: Fetch) -> None:
    def short(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(416, b"", {"Content-Range": "bytes */5"}))
        return True

    with pytest.raises(TryAgain) as caught:
        fetched(serve(short), 1000, 2000)
    assert caught.value.kind == "hub-file-changed"


def test_a_whole_that_is_not_the_whole(serve: Serve, fetched: Fetch) -> None:
    def other(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(200, DATA[:-1]))
        return True

    with pytest.raises(TryAgain) as caught:
        fetched(serve(other))
    assert caught.value.kind == "hub-file-changed"


def test_the_body_of_a_range_that_was_ignored_is_not_read(serve: Serve, fetched: Fetch) -> None:
    sent = []

    def endless(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(200, b"", {"Content-Length": 2**40}))
        try:
            while len(sent) < 10_000:
                sock.sendall(bytes(2**16))
                sent.append(2**16)
        except OSError:
            return False
        return False

    server = serve(endless)
    with pytest.raises(Refused) as caught:
        fetched(server, 10, 20)
    assert caught.value.kind == "range-ignored"
    assert len(server.heard) == 2
    assert sum(sent) < 100 * 2**20  # what the sockets' own buffers took


def test_chunks(serve: Serve, fetched: Fetch) -> None:
    def chunked(heard: Heard, sock: socket.socket) -> bool:
        lo, hi = heard.range
        head = {
            "Content-Range": f"bytes {lo}-{hi - 1}/{len(DATA)}",
            "Content-Length": None,
            "Transfer-Encoding": "chunked",
        }
        sock.sendall(answer(206, b"", head))
        for at in range(lo, hi, 70_000):
            piece = DATA[at : min(hi, at + 70_000)]
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            if heard.number == 0:
                return False  # cut after the first chunk
        sock.sendall(b"0\r\n\r\n")
        return True

    server = serve(chunked)
    assert fetched(server) == DATA
    assert [h.range[0] for h in server.heard] == [0, 70_000]


def test_one_byte_a_try_does_not_go_on_for_ever(serve: Serve, fetched: Fetch) -> None:
    def stingy(heard: Heard, sock: socket.socket) -> bool:
        lo, hi = heard.range
        if heard.number % 2:
            sock.sendall(part(DATA, lo, lo + 1))  # honest about it
            return True
        sock.sendall(part(DATA, lo, hi)[: -(hi - lo) + 1])
        return False

    server = serve(stingy)
    with pytest.raises(TryAgain) as caught:
        fetched(server, 0, 200_000)
    assert caught.value.kind == "hub-unreachable"
    assert len(server.heard) < 40


def test_an_attempt_that_brought_bytes_is_no_failure(serve: Serve, fetched: Fetch) -> None:
    def tenth(heard: Heard, sock: socket.socket) -> bool:
        lo, hi = heard.range
        head, body = part(DATA, lo, hi).split(b"\r\n\r\n", 1)
        sock.sendall(head + b"\r\n\r\n" + body[:25_000])
        return len(body) <= 25_000

    server = serve(tenth)
    assert fetched(server, attempts=2) == DATA
    assert [h.range[0] for h in server.heard] == list(range(0, len(DATA), 25_000))


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 520])
def test_statuses_that_may_pass(serve: Serve, fetched: Fetch, status: int) -> None:
    def sometimes(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(answer(status, b"sorry") if heard.number < 3 else part(DATA, *heard.range))
        return True

    server = serve(sometimes)
    assert fetched(server) == DATA
    assert server.accepted == 1
    with pytest.raises(TryAgain) as caught:
        fetched(serve(lambda h, s: s.sendall(answer(status)) is None), 0, 10)
    assert caught.value.kind == "hub-unavailable"


@pytest.mark.parametrize("status", [204, 304, 400, 402, 405, 451])
def test_statuses_that_will_not_pass(serve: Serve, fetched: Fetch, status: int) -> None:
    server = serve(lambda h, s: s.sendall(answer(status)) is None)
    with pytest.raises(Refused) as caught:
        fetched(server, 0, 10)
    assert caught.value.kind == "hub-refused"
    assert str(status) in str(caught.value)
    assert len(server.heard) == 1


def test_an_error_of_the_sink_is_not_taken_for_the_networks(serve: Serve) -> None:
    class Full:
        def room(self) -> memoryview:
            return memoryview(bytearray(1000))

        def take(self, count: int) -> None:
            raise OSError(errno.ENOSPC, "no space")

    server = serve(with_head({}))
    fetcher = HubFetcher(server.endpoint, None)
    with pytest.raises(OSError, match="no space") as caught:
        fetcher.fetch_all([(FILE, i, i + 1000, Full()) for i in range(0, 100_000, 1000)])
    fetcher.close()
    assert caught.value.errno == errno.ENOSPC
    assert fetcher.counters.bytes == 0
    assert len(server.heard) < 60


# ---------------------------------------------------------------------- redirects


def redirect(location: str, status: int = 302, head: Mapping[str, object] | None = None) -> bytes:
    return answer(status, b"over there", {"Location": location, **(head or {})})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_signed_address_is_asked_without_the_token(serve: Serve, fetched: Fetch, status: int) -> None:
    storage = serve(with_head({}))
    hub = serve(lambda h, s: s.sendall(redirect(f"{storage.endpoint}/x%2Fy?Signature=a%20b", status)) is None)
    assert fetched(hub) == DATA
    assert hub.heard[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert hub.heard[0].target == f"/org/run/resolve/{COMMIT}/model.safetensors"
    assert storage.heard[0].target == "/x%2Fy?Signature=a%20b"
    assert "authorization" not in storage.heard[0].headers
    assert hub.heard[0].headers["user-agent"].startswith("trajsvc/")


def test_a_redirect_of_the_storage_back_to_the_hub_does_not_get_the_token(serve: Serve, fetched: Fetch) -> None:
    def home(heard: Heard, sock: socket.socket) -> bool:
        signed = heard.target.startswith("/signed")
        sock.sendall(part(DATA, *heard.range) if signed else redirect(f"{storage.endpoint}/there"))
        return True

    hub = serve(home)
    storage = serve(lambda h, s: s.sendall(redirect(f"{hub.endpoint}/signed?k=1")) is None)
    assert fetched(hub) == DATA
    assert ["authorization" in h.headers for h in hub.heard] == [True, False]
    assert not any("authorization" in h.headers for h in storage.heard)


def test_a_repository_that_was_renamed_is_still_the_hubs(serve: Serve, fetched: Fetch) -> None:
    def renamed(heard: Heard, sock: socket.socket) -> bool:
        new = heard.target.startswith("/org/new-name/")
        sock.sendall(
            part(DATA, *heard.range, {"X-Repo-Commit": COMMIT})
            if new
            else redirect(f"/org/new-name/resolve/{COMMIT}/model.safetensors", 307)
        )
        return True

    hub = serve(renamed)
    assert fetched(hub) == DATA
    assert all(h.headers["authorization"] == f"Bearer {TOKEN}" for h in hub.heard)


def test_a_path_of_the_storage_is_not_the_hubs(serve: Serve, fetched: Fetch) -> None:
    """Nor is another host whose address leaves out the scheme."""

    def moving(heard: Heard, sock: socket.socket) -> bool:
        sock.sendall(part(DATA, *heard.range) if heard.target == "/moved?k=1" else redirect("/moved?k=1"))
        return True

    storage = serve(moving)
    assert fetched(serve(lambda h, s: s.sendall(redirect(f"//127.0.0.1:{storage.port}/x?k=1")) is None)) == DATA
    assert [h.target for h in storage.heard] == ["/x?k=1", "/moved?k=1"]
    assert not any("authorization" in h.headers for h in storage.heard)


@pytest.mark.parametrize("leads", ["", "ftp://host/x", "http://", "mailto:x", "http://h:99999/", "//"])
def test_redirects_to_nowhere(serve: Serve, fetched: Fetch, leads: str) -> None:
    hub = serve(lambda h, s: s.sendall(redirect(leads)) is None)
    begun = time.monotonic()
    with pytest.raises(TryAgain) as caught:
        fetched(hub, 0, 10)
    assert caught.value.kind == "hub-unreachable"
    assert len(hub.heard) <= 6
    assert time.monotonic() - begun < 30


def test_redirects_are_followed_five_times(serve: Serve, fetched: Fetch) -> None:
    def hops(most: int) -> Answering:
        def hop(heard: Heard, sock: socket.socket) -> bool:
            done = heard.number >= most
            sock.sendall(
                part(DATA, *heard.range) if done else redirect(f"http://{heard.headers['host']}/{heard.number}")
            )
            return True

        return hop

    assert fetched(serve(hops(5))) == DATA
    longer = serve(hops(6))
    with pytest.raises(TryAgain):
        fetched(longer)
    assert len(longer.heard) == 6


def test_no_error_shows_where_a_redirect_led(serve: Serve, fetched: Fetch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    hub = serve(lambda h, s: s.sendall(redirect(f"http://127.0.0.1:{port}/path?Signature=SECRETsecret")) is None)
    with pytest.raises(TrajsvcError) as caught:
        fetched(hub, 0, 10)
    error: BaseException | None = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert "refused" in shown
    while error is not None:
        shown += repr(error) + repr(error.args)
        error = error.__context__ or error.__cause__
    for secret in ("SECRETsecret", "/path", TOKEN, str(port)):
        assert secret not in shown


def test_tokens_and_endpoints_that_are_none() -> None:
    with pytest.raises(UsageError) as caught:
        HubFetcher("http://127.0.0.1:1", "hf_a\r\nX-Evil: 1")
    assert caught.value.kind == "bad-token"
    assert "hf_a" not in str(caught.value)
    fetcher = HubFetcher("nonsense", None)
    with pytest.raises(UsageError) as caught:
        fetcher.fetch(FILE, 0, 10, Scatter([(10, None)]))
    fetcher.close()
    assert caught.value.kind == "bad-endpoint"


def test_a_token_read_from_a_file_may_end_its_line(serve: Serve) -> None:
    server = serve(with_head({}))
    fetcher = HubFetcher(server.endpoint, TOKEN + "\n")
    fetcher.fetch(FILE, 0, 10, Scatter([(10, None)]))
    fetcher.close()
    assert server.heard[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_bytes_that_the_file_does_not_have() -> None:
    fetcher = HubFetcher("http://127.0.0.1:1", None)
    for lo, hi in ((-1, 5), (7, 5), (0, len(DATA) + 1)):
        with pytest.raises(ValueError, match="has no bytes"):
            fetcher.fetch(FILE, lo, hi, Scatter([]))
    fetcher.close()


def test_scatter_wants_lengths_that_are_its_buffers() -> None:
    with pytest.raises(ValueError, match="3 bytes for 4"):
        Scatter([(4, memoryview(bytearray(3)))])
    sink = Scatter([(0, None)])
    assert not sink.room().nbytes


@pytest.mark.timing
def test_who_is_turned_away_while_others_are_served_does_not_fail() -> None:
    policy = RetryPolicy(2, 10)
    limited, failed = (FailedAttempt(kind, RuntimeError) for kind in ("limited", "failed"))  # type: ignore[arg-type]
    for _ in range(100):
        policy.record(limited, progress=False, crowded=True)
    assert not policy.exhausted
    assert not policy.gives_up(limited)
    policy.record(limited, progress=False, crowded=False)
    assert not policy.gives_up(limited)
    policy.record(failed, progress=False, crowded=True)  # that others are served is no excuse for this one
    assert policy.gives_up(failed)
