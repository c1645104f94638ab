"""Write ``openapi.json``, the committed description of every route: ``python -m api``."""

from __future__ import annotations

import json
from pathlib import Path

from api.app import openapi

TARGET = Path(__file__).with_name("openapi.json")


def text() -> str:
    """Return the description as it is committed."""
    return json.dumps(openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), "utf-8")
