"""The Python page, from the public names of ``trajsvc`` and their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from markdown_text import code, page, prose

import trajsvc
from storage_schema import errors as store_errors
from trajsvc import client, errors, gradients
from trajsvc.client import Client
from trajsvc.families.against_runs import Against
from trajsvc.gradients import examples
from trajsvc.measures.gradients import clustering, conditioning, correlations, estimators, perturbed
from trajsvc.measures.gradients.vector_gram import VectorGram
from trajsvc.results.cross import CrossRun
from trajsvc.results.gradients import RunGradients

INTRO = """
`import trajsvc` loads nothing else; each name is imported when it is first used. Measures answer as labelled `xarray` objects, or as floats
where they are scalars; undefined values are NaN. [Measures](measures.md) has the definition of each.
"""
FUNCTIONS = (
    "analyze", "open", "runs", "against", "audit", "cross", "average", "compute_spectra", "compute_gradients",
)  # fmt: skip


def text() -> str:
    return page(
        "Python API",
        INTRO,
        prose(inspect.getdoc(trajsvc)),
        *(_function(f"trajsvc.{name}", getattr(trajsvc, name)) for name in FUNCTIONS),
        _class("trajsvc.Run", trajsvc.Run),
        _class("trajsvc.families.against_runs.Against", Against),
        "# Gradients\n\n" + prose(inspect.getdoc(gradients)),
        _class("trajsvc.results.gradients.RunGradients", RunGradients),
        _class("trajsvc.results.cross.CrossRun", CrossRun),
        _class("VectorGram", VectorGram),
        *(_functions(module) for module in (examples, correlations, conditioning, estimators, perturbed, clustering)),
        "# Client of a server\n\n" + prose(inspect.getdoc(client)),
        _class("trajsvc.client.Client", Client),
        "# Errors\n\n" + prose(inspect.getdoc(store_errors)),
        prose(inspect.getdoc(errors)),
    )


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class, its own first, then those of its bases."""
    seen = set()
    for base in cls.__mro__[:-1]:
        for name, member in vars(base).items():
            documented = inspect.isfunction(member) or isinstance(member, property) or hasattr(member, "func")
            if not name.startswith("_") and name not in seen and documented:
                seen.add(name)
                yield name, getattr(cls, name)


def _functions(module: ModuleType) -> str:
    """Return the section of the public functions and classes that a module defines."""
    parts = []
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__ or not callable(member):
            continue  # a type variable, for one
        parts.append(_class(name, member) if inspect.isclass(member) else _function(name, member))
    return "\n".join(parts)


def _function(name: str, function: Any, level: str = "##") -> str:
    return "\n".join([f"{level} {name}\n", code(_signature(name, function), "python"), prose(inspect.getdoc(function))])


def _class(name: str, cls: type) -> str:
    parts = [f"## {name}\n", prose(inspect.getdoc(cls))]
    for member_name, member in members(cls):
        heading = f"{name.rsplit('.', 1)[-1]}.{member_name}"
        if inspect.isfunction(member):
            parts.append(_function(heading, member, "###"))
        else:
            parts.append(f"### {heading}\n\n{prose(inspect.getdoc(member))}")
    return "\n".join(parts)


def _signature(name: str, function: Any) -> str:
    """Return the signature as one would write it: on one line if it fits, else a parameter a line."""
    signature = inspect.signature(function)
    shown = [p for p in signature.parameters.values() if p.name != "self"]
    one = _plain(f"{name}{signature.replace(parameters=shown)}")
    if len(one) <= 110:
        return one
    lines = [_plain(str(p)) for p in shown]
    star = next((i for i, p in enumerate(shown) if p.kind is p.KEYWORD_ONLY), None)
    if star is not None:
        lines.insert(star, "*")
    body = "".join(f"    {line},\n" for line in lines)
    return _plain(f"{name}(\n{body}) -> {signature.return_annotation!r}")


def _plain(text: str) -> str:
    """``text`` with annotations that are kept as strings written without their quotes."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
