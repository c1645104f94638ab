"""Every command, option, measure, setting, HTTP operation and public Python name is described, and stands in the reference."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import trajsvc
from trajsvc.cli.main import make_app
from trajsvc.client import Client
from trajsvc.measures.gradients.registry import GRADIENT_MEASURES
from trajsvc.measures.registry import MEASURES
from trajsvc.results.run import Run
from trajsvc.settings import VARIABLES, ServiceSettings

ROOT = Path(__file__).parents[2]
ROOMS = ("trajsvc", "workers", "api", "storage_schema")


def commands() -> Iterator[tuple[str, Any]]:
    def below(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield path, command
        else:
            for name, each in inner.items():
                yield from below(each, f"{path} {name}")

    yield from below(typer.main.get_command(make_app()), "trajsvc")


COMMANDS = dict(commands())


def text(site: Path, name: str) -> str:
    return (site / "reference" / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_and_each_of_its_options_does(name: str, site: Path) -> None:
    command = COMMANDS[name]
    assert command.help, f"give {name} a docstring: its first sentence is its help"
    section = text(site, "cli").split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    for parameter in command.params:
        assert parameter.help, f"give {parameter.opts[0]} of {name} a help text"
        if parameter.param_type_name == "option":
            assert all(f"`{spelling}`" in section for spelling in parameter.opts)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_has_a_definition_a_unit_a_source_and_a_docstring(name: str, site: Path) -> None:
    measure = MEASURES[name]
    assert all((measure.definition, measure.units, measure.source))
    assert inspect.getdoc(measure.compute), f"give {measure.compute.__module__}.{name} a docstring"
    assert f"\n## {name}\n" in text(site, "measures")


@pytest.mark.parametrize("name", GRADIENT_MEASURES)
def test_a_measure_of_gradients_has_a_definition_a_unit_a_source_and_a_docstring(name: str, site: Path) -> None:
    measure = GRADIENT_MEASURES[name]
    assert all((measure.definition, measure.units, measure.source, measure.sets))
    assert inspect.getdoc(measure.function), f"give {measure.function.__module__}.{name} a docstring"
    assert f"\n## {name}\n" in text(site, "gradient-measures")


@pytest.mark.parametrize("name", ServiceSettings.model_fields)
def test_a_setting_is_described(name: str, site: Path) -> None:
    assert ServiceSettings.model_fields[name].description, f"give {name} in trajsvc/settings.py a description"
    assert f"`TRAJSVC_{name.upper()}`" in text(site, "settings")


def test_every_environment_variable_that_the_code_names_is_described(site: Path) -> None:
    known = {f"TRAJSVC_{name.upper()}" for name in ServiceSettings.model_fields} | set(VARIABLES)
    named = {
        found
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for found in re.findall(r"\bTRAJSVC_[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8"))
    }
    assert not named - known, f"describe {sorted(named - known)} in VARIABLES of trajsvc/settings.py"
    assert all(f"`{name}`" in text(site, "settings") for name in VARIABLES)


def test_every_http_operation_is_described(site: Path) -> None:
    paths = json.loads((ROOT / "api" / "openapi.json").read_text("utf-8"))["paths"]
    page = text(site, "http")
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation.get("description"), f"give the function of {method.upper()} {path} a docstring"
            assert f"\n## {method.upper()} {path} " in page


def public(cls: type) -> list[str]:
    """Public methods and properties, those of its bases too; plain values have no docstrings of their own."""
    return [
        n
        for n in dir(cls)
        if not n.startswith("_") and (callable(getattr(cls, n)) or isinstance(getattr(cls, n), property))
    ]


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls in (Run, Client) for name in public(cls)],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_public_method_has_a_docstring(cls: type, name: str, site: Path) -> None:
    assert inspect.getdoc(getattr(cls, name)), f"give {cls.__name__}.{name} a docstring"
    assert f"\n### {cls.__name__}.{name}\n" in text(site, "python")


@pytest.mark.parametrize("name", [name for name in trajsvc.__all__ if name != "__version__"])
def test_a_public_name_has_a_docstring(name: str) -> None:
    assert vars(getattr(trajsvc, name)).get("__doc__") or inspect.getdoc(getattr(trajsvc, name))
