"""What the documentation shows works: consoles and Python are run on the example run, other commands at least parse.

A block ``console`` has commands after ``$ `` and below each lines of its output; ``…`` stands for any text. A block ``python`` is run,
all of a page in one namespace, and the blocks ``text`` are what they print. In a block without a language every line that begins with
``trajsvc`` is parsed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import in_process
import pytest
import typer

from trajsvc.cli.main import make_app

ROOT = Path(__file__).parents[2]
RUN = ("README.md", "docs/first-analysis.md")
"""pages whose consoles and Python are run"""
PARSED = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "trajsvc" / "cli").glob("*.py"))
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass
class Command:
    line: str
    shown: list[str] = field(default_factory=list)


def blocks(page: str, *languages: str) -> list[str]:
    return [body for language, body in BLOCK.findall((ROOT / page).read_text("utf-8")) if language in languages]


def console(page: str) -> list[Command]:
    """The commands of a page's consoles in order, each with the lines shown below it."""
    found: list[Command] = []
    for line in "".join(blocks(page, "console")).splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line.strip():
            found[-1].shown.append(line)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone: with the example run, and without a store."""
    made = tmp_path_factory.mktemp("clone")
    (made / "examples").symlink_to(ROOT / "examples")
    return made


ENVIRONMENT = {name: None for name in os.environ if name.startswith(("TRAJSVC_", "HF_"))} | {
    "COLUMNS": "140", "NO_COLOR": "1",
}  # fmt: skip


def shows(text: str, line: str) -> bool:
    """Whether ``line`` is a line of ``text``; ``…`` stands for any text, spaces for any number of them."""
    pattern = ".*".join(r"\s+".join(map(re.escape, part.split(" "))) for part in " ".join(line.split()).split("…"))
    return re.search(rf"^\s*{pattern}\s*$", text, re.MULTILINE) is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_consoles_of_a_page_do_what_they_show(page: str, folder: Path) -> None:
    commands = console(page)
    assert commands, f"{page} has no console"
    for command in commands:
        words = shlex.split(command.line)
        assert words[0] == "trajsvc", f"{page}: only trajsvc is run in a console, not {words[0]}"
        done = in_process.trajsvc(*words[1:], cwd=folder, environment=ENVIRONMENT)
        assert done.returncode == 0, f"{page}: $ {command.line}\n{done.stderr}"
        for line in command.shown:
            assert line.strip() == "…" or shows(done.stdout, line), (
                f"{page}: $ {command.line}\ndoes not show\n{line}\nbut\n{done.stdout}"
            )


@pytest.mark.parametrize("page", RUN)
def test_python_of_a_page_prints_what_it_shows(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text("utf-8")
    program = "\n".join(blocks(page, "python"))
    assert program, f"{page} has no Python"
    printed = "".join(re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for name, value in ENVIRONMENT.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(program, page, "exec"), {})
    lines = [line.rstrip() for line in out.getvalue().strip().splitlines()]
    assert lines == [line.rstrip() for line in printed.strip().splitlines()], out.getvalue()


def command_lines(page: str) -> list[str]:
    """Every ``trajsvc …`` line of a page: of its blocks, and of examples in the help texts of a module."""
    text = (ROOT / page).read_text("utf-8")
    if page.endswith(".py"):
        return re.findall(r"^\s*(?:Example:\s+)?(trajsvc [a-z]+ .*)$", text, re.MULTILINE)
    lines = [c.line for c in console(page)] + [
        line for body in blocks(page, "", "bash", "sh") for line in body.splitlines()
    ]
    return [line.strip() for line in lines if line.strip().startswith("trajsvc ")]


def parsed(line: str) -> None:
    """Parse a command line without running it. Raises what a wrong option, argument or command raises."""
    words = shlex.split(re.split(r"\s(?:#|\||&&|>)\s|\s{2,}", line)[0], comments=True)[1:]
    command: Any = typer.main.get_command(make_app())
    path = "trajsvc"
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command, path = command.commands[name], f"{path} {name}"
    command.make_context(path, words)


@pytest.mark.parametrize(
    ("page", "line"), [(page, line) for page in PARSED for line in command_lines(page) if "COMMAND" not in line]
)
def test_a_command_that_is_shown_parses(page: str, line: str) -> None:
    parsed(line)
