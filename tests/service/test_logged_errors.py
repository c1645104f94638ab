"""What the service logs of an error: the traceback as Python prints it, without secrets, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from trajsvc import logs

SECRET = "hf_canary0123456789ABCDEFGHIJ"


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def _restored() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("terminal", [True, False])
def test_a_traceback_is_whole_and_shows_neither_secrets_nor_variables(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("api")
    held = f"{SECRET[:-1]}Z"
    try:
        raise ValueError(f"refused with {SECRET}, {len(held)}")
    except ValueError as error:
        structlog.get_logger("apart").error("unforeseen", exc_info=error)
    said = stream.getvalue()
    assert "Traceback (most recent call last)" in said
    assert "ValueError: refused with [redacted]" in said
    assert SECRET not in said
    assert held not in said
    if not terminal:
        assert json.loads(said)["event"] == "unforeseen"


@pytest.mark.usefixtures("_restored")
def test_connections_that_cannot_be_accepted_do_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred idle connections and a limit of eighty descriptors wrote two megabytes a second."""
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("api")
    logger = logging.getLogger("asyncio")
    for _ in range(1000):
        logger.error("socket.accept() out of system resource\nsocket: <socket>")
        logger.error("another")
    lines = stream.getvalue().splitlines()
    assert sum("out of system resource" in line for line in lines) == 1
    assert sum("another" in line for line in lines) == 1000
