"""Read text, numbers, lists and tables from YAML, and nothing else.

Numbers to the base of sixty (``1:30:00``) are text here: the parser takes quadratic time for their digits.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

MOST_MERGED: Final = 10_000
"""entries that ``<<`` may copy from one table to another: a thousand letters may ask for any number"""
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Plain(yaml.SafeLoader):  # type: ignore[misc]
    """Text, numbers, lists and tables; what has a tag of Python's is left out."""

    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Copy what ``<<`` names, if it is not too much. Raises YAMLError."""
        for key, value in node.value:
            if key.tag == _MERGE:
                for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(one, yaml.MappingNode):
                        self.flatten_mapping(one)
                        self.merged += len(one.value)
                    if self.merged > MOST_MERGED:
                        raise yaml.YAMLError(f"<< copies more than {MOST_MERGED} entries")
        super().flatten_mapping(node)

    def number(self, node: yaml.ScalarNode) -> Any:
        """Return a number, or the text of one that has colons."""
        text = self.construct_scalar(node)
        if ":" in text:
            return text
        return self.construct_yaml_int(node) if node.tag.endswith("int") else self.construct_yaml_float(node)


def _nothing(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> None:
    """Return None for a value of an unknown type."""


_Plain.add_constructor("tag:yaml.org,2002:int", _Plain.number)
_Plain.add_constructor("tag:yaml.org,2002:float", _Plain.number)
_Plain.add_multi_constructor("", _nothing)


def parse(text: bytes) -> Any:
    """Return what ``text`` holds. Raises ValueError where it is no YAML.

    The library's constructors raise whatever a text raises that is not of the type which its tag names.
    """
    try:
        return yaml.load(text, _Plain)
    except Exception as error:
        raise ValueError(str(error)) from error
