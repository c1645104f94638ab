"""Read text, numbers, lists and tables from YAML, and nothing else."""

from __future__ import annotations

from typing import Any

import yaml


class _Plain(yaml.SafeLoader):  # type: ignore[misc]
    """Text, numbers, lists and tables; what has a tag of Python's is left out."""


def _nothing(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> None:
    """Return None for a value of an unknown type."""


_Plain.add_multi_constructor("", _nothing)


def parse(text: bytes) -> Any:
    """Return what ``text`` holds. Raises ValueError where it is no YAML."""
    try:
        return yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
