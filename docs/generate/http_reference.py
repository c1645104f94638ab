"""The HTTP page, from ``api/openapi.json``: every address with its parameters, body and answers, and the shapes of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markdown_text import escaped, page, table

OPENAPI = Path(__file__).parents[2] / "api" / "openapi.json"
INTRO = """
`trajsvc serve` answers at <http://127.0.0.1:8000>. A running server has this description at `/openapi.json`, and it is committed as
`api/openapi.json`. Errors are problem documents (RFC 9457) whose kinds are listed in [Error kinds](../errors.md). With tokens, send
`Authorization: Bearer TOKEN`.
"""


def text() -> str:
    description = json.loads(OPENAPI.read_text("utf-8"))
    operations = [
        (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    overview = table(
        ("method", "address", ""),
        ((m, f"[`{path}`](#{o['operationId'].lower()})", _first(o)) for m, path, o in operations),
    )
    sections = [_operation(*operation) for operation in operations]
    schemas = description["components"]["schemas"]
    shapes = ["## Shapes", *(_schema(name, schema) for name, schema in sorted(schemas.items()))]
    return page("HTTP API", INTRO, overview, *sections, *shapes)


def _first(operation: dict[str, Any]) -> str:
    return str(operation.get("description", "")).partition("\n\n")[0]


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = operation.get("parameters", [])
    blocks = [
        f"## {method} {path} {{ #{operation['operationId'].lower()} }}",
        escaped(operation.get("description", "")),
        table(
            ("parameter", "in", "type", ""),
            ((f"`{p['name']}`", p["in"], _type(p["schema"]), p.get("description", "")) for p in parameters),
        ),
    ]
    if body := operation.get("requestBody"):
        blocks.append("Body: " + ", ".join(_type(content["schema"]) for content in body["content"].values()))
    answers = (
        (status, ", ".join(f"`{kind}`" for kind in answer.get("content", {})), _shape(answer), answer["description"])
        for status, answer in operation["responses"].items()
    )
    blocks.append(table(("status", "formats", "shape", ""), answers))
    return "\n\n".join(block.strip() for block in blocks if block)


def _shape(answer: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    return _type(schema) if schema else ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(kind) for kind in kinds)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    return str(schema.get("type", "any"))


def _schema(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", []))
    fields = (
        (f"`{field}`" + (" (required)" if field in needed else ""), _type(kind), kind.get("description", ""))
        for field, kind in schema.get("properties", {}).items()
    )
    body = table(("field", "type", ""), fields) or (_type(schema) + "\n")
    return f"### {name} {{ #{name.lower()} }}\n\n{escaped(schema.get('description', ''))}\n\n{body}"
