"""Tokens and scopes over HTTP: what each may, that a revoked one may nothing, and that a wrong one is refused as an unknown one is."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgi_asking import LOCAL, Answer, App, Headers
from service_process import make_run
from sqlalchemy import text

READS = [
    "/v1/runs",
    "/v1/trash",
    "/v1/jobs",
    "/v1/measures",
    "/v1/families",
    "/metrics",
    "/v1/runs/x",
    "/v1/jobs/" + "0" * 32,
]
WRITES = [
    ("POST", "/v1/runs"), ("POST", "/v1/plan"), ("POST", "/v1/audit"), ("POST", "/v1/runs/x/recompute"), ("PUT", "/v1/families/f"),
    ("DELETE", "/v1/jobs/" + "0" * 32), ("POST", "/v1/jobs/" + "0" * 32 + "/retry"),
    ("DELETE", "/v1/runs/x"), ("PATCH", "/v1/runs/x"), ("POST", "/v1/trash/x@20260101T000000Z/restore"),
]  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("tokens")
    make_run(folder / "data" / "run", steps=2, tensors=1, size=256)
    made = App(folder, runs=folder / "data")
    made.service.auth = True
    return made


def bearer(secret: str) -> Headers:
    return [*LOCAL, (b"authorization", f"Bearer {secret}".encode())]


def write(app: App, method: str, path: str, secret: str) -> Answer:
    given = [*bearer(secret), (b"content-type", b"application/json")]
    return app.ask(path, method, given, b'{"source": "runs:run"}' if method == "POST" else b"{}")


def test_every_route_but_that_it_lives_asks_for_a_token(app: App) -> None:
    for path in READS:
        assert app.ask(path).kind == "unauthorised", path
    for method, path in WRITES:
        assert app.ask(path, method, LOCAL, b"{}").kind == "unauthorised", path


def test_a_token_that_reads_changes_nothing_whatever_it_asks(app: App) -> None:
    secret = app.service.tokens.create("reader", ["read"])
    for path in READS:
        assert app.ask(path, headers=bearer(secret)).status in (200, 404), path
    for method, path in WRITES:
        found = write(app, method, path, secret)
        assert (found.status, found.kind) == (403, "forbidden"), path
    assert app.service.queue.jobs(limit=10) == []


def test_a_token_that_submits_cannot_cancel_anothers_job(app: App) -> None:
    one, other = (app.service.tokens.create(name, ["submit"]) for name in ("one", "other"))
    job = write(app, "POST", "/v1/runs", one)
    assert job.status == 202, job.body
    address = job.headers["location"]
    assert write(app, "DELETE", address, other).kind == "forbidden"
    admin = app.service.tokens.create("admin", ["admin"])
    assert write(app, "DELETE", address, admin).status == 200


def test_a_token_that_submits_cannot_remove_a_run(app: App) -> None:
    secret = app.service.tokens.create("submitter", ["submit"])
    for method, path in WRITES[-3:]:
        assert write(app, method, path, secret).kind == "forbidden", path


def test_a_revoked_token_is_refused_from_that_request_on(app: App) -> None:
    secret = app.service.tokens.create("gone", ["admin"])
    assert app.ask("/v1/runs", headers=bearer(secret)).status == 200
    identity = next(t.id for t in app.service.tokens.all() if t.name == "gone")
    app.service.tokens.revoke(identity)
    for path in READS:
        assert app.ask(path, headers=bearer(secret)).kind == "unauthorised"
    for method, path in WRITES:
        assert write(app, method, path, secret).kind == "unauthorised"


def test_an_expired_token_is_refused_from_that_request_on(app: App) -> None:
    """As one that was never made: the answers are the same to the byte, but for the request's own id."""
    secret = app.service.tokens.create("short", ["admin"], lifetime=3600)
    assert app.ask("/v1/runs", headers=bearer(secret)).status == 200
    with app.service.tokens.engine.begin() as connection:
        connection.execute(text("UPDATE tokens SET expires = expires - 3601 WHERE name = 'short'"))
    for path in READS:
        expired, unknown = app.ask(path, headers=bearer(secret)), app.ask(path, headers=bearer("tsv_unknown"))
        assert expired.kind == "unauthorised"
        told, other = ({k: v for k, v in a.problem.items() if k != "request_id"} for a in (expired, unknown))
        assert told == other
    for method, path in WRITES:
        assert write(app, method, path, secret).kind == "unauthorised"


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer ", b"bearer x", b"Basic dDp0", b"Bearer a b", b"Bearer \xff\xfe", b"Bearer " + b"x" * 8000, b"\x00"],
)  # fmt: skip
def test_what_is_no_token_is_as_one_that_is_not_known(app: App, value: bytes) -> None:
    found = app.ask("/v1/runs", headers=[*LOCAL, (b"authorization", value)])
    assert (found.status, found.kind) == (401, "unauthorised")
    assert found.headers["www-authenticate"] == "Bearer"


def test_secrets_are_looked_up_by_their_digest_so_that_time_tells_nothing_of_them(app: App, tmp_path: Path) -> None:
    """The database compares SHA-256 digests: how many characters of a guess are right has no part in it."""
    secret = app.service.tokens.create("timed", ["read"])
    asked: list[object] = []
    from sqlalchemy import event

    def note(_c: object, _cursor: object, statement: str, parameters: object, _x: object, _m: object) -> None:
        asked.append((statement, parameters))

    event.listen(app.service.queue.engine, "before_cursor_execute", note)
    for guess in (secret, secret[:-1] + "A", "nothing"):
        asked.clear()
        app.ask("/v1/measures", headers=bearer(guess))
        assert asked
        assert guess not in str(asked)
    event.remove(app.service.queue.engine, "before_cursor_execute", note)
