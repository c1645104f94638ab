"""Examples in the docstrings of public modules do what they show."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "trajsvc.steps",
    "trajsvc.settings",
    "trajsvc.measures.base",
    "trajsvc.measures.maps",
    "trajsvc.measures.norms",
    "trajsvc.measures.angles",
    "trajsvc.measures.registry",
    "trajsvc.gradients",
    "trajsvc.measures.gradients.vector_gram",
    "trajsvc.sources.steps",
    "trajsvc.families.file",
    "storage_schema.errors",
    "storage_schema.format.names",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted, f"{name} has no example: add one, or take it off the list"
    assert not result.failed
