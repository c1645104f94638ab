"""The command line's page, from the typer application: every command with its arguments, options and examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from markdown_text import code, page, prose, table

from trajsvc.cli.main import make_app

INTRO = (
    "Results go to standard output, messages and progress to standard error. `-h` or `--help` after any command shows what "
    "this page has. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 not found or refused, 75 try again, "
    "130 interrupted ([error kinds](../errors.md))."
)


def commands() -> Iterator[tuple[str, Any]]:
    """(name with its group, command) for every command, in the order of the help."""

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from below(inner, (*path, name))
        elif not command.hidden:
            yield " ".join(path), command

    yield from below(typer.main.get_command(make_app()), ("trajsvc",))


def text() -> str:
    parts = [
        table(
            ("command", "what it does"),
            ((f"[`{name}`](#{name.replace(' ', '-')})", _first(command)) for name, command in commands()),
        )
    ]
    parts += [_section(name, command) for name, command in commands()]
    return page("Command line", INTRO, *parts)


def _first(command: Any) -> str:
    return str(command.help or "").strip().partition("\n\n")[0]


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden and "--help" not in p.opts]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *(_shown(p) for p in arguments)])
    blocks = [
        f"## {name}",
        prose(command.help),
        code(usage),
        table(("argument", ""), ((f"`{_shown(p)}`", _help(p)) for p in arguments)),
        table(("option", "value", ""), ((_spelling(p), _value(p), _help(p)) for p in options)),
        _examples(command.epilog),
    ]
    return "\n".join(block for block in blocks if block)


def _shown(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _help(parameter: Any) -> str:
    """Return the help text without the escapes that rich needs."""
    words = str(parameter.help or "").replace("\\[", "[")
    return f"{words} Environment: `{parameter.envvar}`." if parameter.envvar else words


def _spelling(parameter: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _value(parameter: Any) -> str:
    if parameter.secondary_opts or isinstance(parameter.default, bool):
        return ""
    default = parameter.default
    stated = f" ({default})" if default not in (None, (), []) and not callable(default) else ""
    return f"`{parameter.metavar or 'VALUE'}`{stated}"


def _examples(epilog: str | None) -> str:
    """Return the commands of an epilog as one block, its sentences below."""
    lines = [line.strip() for line in (epilog or "").splitlines() if line.strip()]
    lines = [line.removeprefix("Example:").removeprefix("Examples:").strip() for line in lines]
    shown = [line for line in lines if line.startswith(("trajsvc ", "curl "))]
    said = [line for line in lines if line and line not in shown]
    return "\n".join([code("\n".join(shown)) if shown else "", prose("\n".join(said)) if said else ""]).strip()
