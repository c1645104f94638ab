"""Logging of the service: one line an event on stderr, as text on a terminal and as JSON elsewhere, without secrets."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_SECRETS: Final = re.compile(
    r"(hf_|tsv_)[A-Za-z0-9_-]{8,}|(?i:bearer)\s+[^\s\"']+|(?i:signature|x-amz-[a-z-]+|policy|key-pair-id|token)=[^&\s\"']+"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
REDACTED: Final = "[redacted]"


def redact(text: str) -> str:
    """Remove tokens, passwords and the signatures of signed addresses from ``text``."""
    return _SECRETS.sub(REDACTED, text)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {k: _redacted(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(v) for v in value]
    return value


def _without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name != "exc_info":
            event[name] = _redacted(value)
    return event


class _Seldom(logging.Filter):
    """Passes one record of a kind in ``seconds``: asyncio logs every connection that it cannot accept, ten thousand a second."""

    def __init__(self, words: str, seconds: float) -> None:
        super().__init__()
        self._words, self._seconds, self._next = words, seconds, -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        if self._words not in str(record.msg):
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


_FULL: Final = _Seldom("socket.accept() out of system resource", 10.0)


def configure(service: str, level: int = logging.INFO) -> None:
    """Log as ``service``: our own events and those of the libraries, through one handler."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # A traceback as Python prints it, redacted: one with the values of variables takes seconds, and would show tokens among them.
    text = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    last: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _without_secrets,
        text if sys.stderr.isatty() else structlog.processors.JSONRenderer(default=str),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("distributed", "httpx2", "httpcore2", "alembic", "uvicorn.access", "asyncio", "tornado"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(_FULL)
    for name in ("uvicorn", "uvicorn.error", "distributed"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    structlog.contextvars.bind_contextvars(service=service)
