"""The settings' page, from the pydantic models of ``trajsvc.settings``."""

from __future__ import annotations

from typing import Any

from markdown_text import page, table
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trajsvc.settings import VARIABLES, ServiceSettings, Settings

INTRO = """
A setting is an environment variable, or a key of a TOML file: `TRAJSVC_CONFIG`, else `trajsvc.toml` in the current folder. The
environment comes before the file, and an option of the command line before both. Sizes may have a unit (`512MiB`, `2GB`). Tables and
lists are JSON in the environment (`TRAJSVC_ROOTS='{"runs": "/data/checkpoints"}'`) and TOML in the file.
"""
HEAD = ("environment", "key", "type", "default", "")


def text() -> str:
    own = Settings.model_fields
    service = {name: field for name, field in ServiceSettings.model_fields.items() if name not in own}
    return page(
        "Settings",
        INTRO,
        "## Of every command\n\n" + table(HEAD, (_row(name, field) for name, field in own.items())),
        "## Of the service\n\n" + table(HEAD, (_row(name, field) for name, field in service.items())),
        "## Other environment variables\n\n"
        + table(("environment", ""), ((f"`{k}`", v) for k, v in VARIABLES.items())),
    )


def _row(name: str, field: FieldInfo) -> tuple[str, ...]:
    return (
        f"`TRAJSVC_{name.upper()}`",
        f"`{name}`",
        f"`{_type(field.annotation)}`",
        _default(field),
        field.description or "",
    )


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and not getattr(annotation, "__args__", ()):
        return annotation.__name__
    return str(annotation).replace("pathlib._local.", "").replace("pathlib.", "").replace("trajsvc.settings.", "")


def _default(field: FieldInfo) -> str:
    default = field.get_default()
    if default is PydanticUndefined or default in (None, "", {}, ()):
        return ""  # the description says what holds instead
    return f"`{default}`"
