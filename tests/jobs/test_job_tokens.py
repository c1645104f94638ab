"""Tokens: the secret is said once and kept nowhere; scopes include those below; a revoked token is none."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from trajsvc.errors import NotFound, UsageError
from trajsvc.jobs.tokens import ANYONE, PREFIX, TokenStore, lifetime


@pytest.fixture
def book(engine: Engine) -> TokenStore:
    return TokenStore(engine)


def test_a_token_is_found_by_its_secret_alone(book: TokenStore) -> None:
    secret = book.create("ci", ["submit"])
    assert secret.startswith(PREFIX)
    assert len(secret) > 40
    found = book.find(secret)
    assert found is not None
    assert (found.name, found.scopes) == ("ci", {"submit"})
    for other in ("", secret[:-1], secret + "x", secret.upper(), PREFIX):
        assert book.find(other) is None
    assert book.create("ci", ["submit"]) != secret


def test_the_secret_is_in_no_column(book: TokenStore, engine: Engine) -> None:
    secret = book.create("ci", ["read"])
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT * FROM tokens")).all()
    assert len(rows) == 1
    kept = repr(rows)
    assert secret not in kept
    assert secret.removeprefix(PREFIX) not in kept
    identity = book.all()[0].id
    assert identity is not None
    assert book.find(identity) is None


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (["read"], {"read"}),
        (["submit"], {"read", "submit"}),
        (["admin"], {"read", "submit", "admin"}),
        (["read", "admin"], {"read", "submit", "admin"}),
    ],
)
def test_a_scope_includes_those_below_it(book: TokenStore, scopes: list[str], may: set[str]) -> None:
    found = book.find(book.create("x", scopes))
    assert found is not None
    assert {s for s in ("read", "submit", "admin") if found.may(s)} == may


def test_anyone_may_everything_where_no_tokens_are_asked_for() -> None:
    assert ANYONE.id is None
    assert all(ANYONE.may(s) for s in ("read", "submit", "admin"))


@pytest.mark.parametrize("scopes", [[], ["write"], ["read", "Admin"], [""]])
def test_a_scope_that_is_none_is_a_usage_error_and_makes_no_token(book: TokenStore, scopes: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        book.create("x", scopes)
    assert caught.value.kind == "bad-scope"
    assert book.all() == []


def test_a_revoked_token_is_listed_and_opens_nothing(book: TokenStore) -> None:
    gone, kept = book.create("gone", ["admin"]), book.create("kept", ["read"])
    found = book.find(gone)
    assert found is not None
    assert found.id is not None
    book.revoke(found.id)
    assert book.find(gone) is None
    assert book.find(kept) is not None
    listed = {t.name: t for t in book.all()}
    assert listed["kept"].revoked is None
    assert (listed["gone"].revoked or 0) >= listed["gone"].created
    with pytest.raises(NotFound) as caught:
        book.revoke("nosuch")
    assert caught.value.kind == "token-not-found"


def test_a_secret_of_ones_own_is_one_token_however_often_it_is_given(book: TokenStore) -> None:
    for _ in range(3):
        assert book.create("env", ["admin"], secret="my secret") == "my secret"
    assert [t.name for t in book.all()] == ["env"]
    assert book.find("my secret") is not None


def set_back(engine: Engine, name: str, seconds: float) -> None:
    """Let ``seconds`` pass for one token."""
    with engine.begin() as connection:
        query = text("UPDATE tokens SET expires = expires - :s, created = created - :s WHERE name = :name")
        connection.execute(query, {"s": seconds, "name": name})


def test_an_expired_token_is_listed_and_opens_nothing(book: TokenStore, engine: Engine) -> None:
    short, long, ever = (
        book.create(n, ["read"], lifetime=s) for n, s in (("short", 600), ("long", 6000), ("ever", None))
    )
    assert all(book.find(secret) is not None for secret in (short, long, ever))
    for name in ("short", "long"):
        set_back(engine, name, 601)
    assert book.find(short) is None
    assert book.find(long) is not None
    assert book.find(ever) is not None
    listed = {t.name: t for t in book.all()}
    assert (listed["short"].expires or 0) - listed["short"].created == pytest.approx(600, abs=1)
    assert listed["ever"].expires is None


def test_a_service_without_a_valid_token_has_none(book: TokenStore, engine: Engine) -> None:
    assert not book.any_valid()
    book.create("short", ["read"], lifetime=60)
    assert book.any_valid()
    set_back(engine, "short", 61)
    assert not book.any_valid()


@pytest.mark.parametrize("text", ["", "0d", "90", "d", "-1d", "1.5h", "1y", "9" * 12 + "d", "²d", "90 d"])
def test_a_lifetime_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        lifetime(text)
    assert caught.value.kind == "bad-option"
    assert "90d" in caught.value.hint
