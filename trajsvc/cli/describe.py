"""The commands that say something of a run: ``tag``, ``note`` and ``set``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajsvc.cli.completion import complete_runs
from trajsvc.cli.options import FormatOption, StoreOption
from trajsvc.cli.output import choose, emit, json_text, results_console, safe
from trajsvc.cli.terminal import new_table
from trajsvc.errors import UsageError
from trajsvc.results.conditions import text_of

if TYPE_CHECKING:
    from storage_schema.models.results import Scalar
    from storage_schema.runs.store import RunStore

TAG_EPILOG = """
Examples:

  trajsvc tag pythia-70m                      print its tags

  trajsvc tag pythia-70m baseline sweep:lr    add two

  trajsvc tag pythia-70m --remove baseline
"""
NOTE_EPILOG = """
Examples:

  trajsvc note pythia-70m                     print its notes

  trajsvc note pythia-70m "diverged at 3000"  replace them

  git log -1 | trajsvc note pythia-70m -      the same from standard input

  trajsvc note pythia-70m --clear
"""
SET_EPILOG = """
Examples:

  trajsvc set pythia-70m                      print its hyperparameters, and where each is from

  trajsvc set pythia-70m lr=0.1 optimizer=adamw nesterov=true

  trajsvc set pythia-70m --unset lr
"""
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's name in the store.", autocompletion=complete_runs)]


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command("tag", epilog=TAG_EPILOG)(tag)
    app.command("note", epilog=NOTE_EPILOG)(note)
    app.command("set", epilog=SET_EPILOG)(set_)


def tag(
    run: RunName,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="Tags to add.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="TAG", help="A tag to take away; may be given again.")
    ] = None,
    store: StoreOption = None,
    form: FormatOption = None,
) -> None:
    """Add tags to a run, take them away, and print those that it has; `ls --tag` finds runs by them."""
    kind = choose(form, None, ("json",))
    opened = _store(store, run)
    found = opened.tag(run, add=tags or (), remove=remove or ())
    if kind == "json":
        return emit(json_text({"run": run, "tags": list(found)}), None, False)
    for word in found:
        results_console().print(word, markup=False, highlight=False)
    return None


def note(
    run: RunName,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to write; - reads it from standard input.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the notes.")] = False,
    store: StoreOption = None,
    form: FormatOption = None,
) -> None:
    """Print the notes of a run, or replace them."""
    kind = choose(form, None, ("json",))
    opened = _store(store, run)
    if clear and text is not None:
        raise UsageError("bad-option", "--clear and a text say different things", hint="Leave one of the two out.")
    if clear or text is not None:
        given = "" if text is None else sys.stdin.read() if text == "-" else text
        found = opened.describe(run, notes=given).notes
    else:
        found = opened.open(run).notes
    if kind == "json":
        return emit(json_text({"run": run, "notes": found}), None, False)
    if found and text is None:
        results_console().print(found, markup=False, highlight=False, soft_wrap=True)
    return None


def set_(
    run: RunName,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="true, false, a number, or text.")
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="NAME", help="One set by hand to forget; may be given again.")
    ] = None,
    store: StoreOption = None,
    form: FormatOption = None,
) -> None:
    """Set hyperparameters of a run, and print those that it has; those set by hand hold before a family's and the trainer's files'."""
    kind = choose(form, None, ("json",))
    from storage_schema.runs.hyperparameters import BY_HAND

    given = dict(parsed(word) for word in values or ())
    opened = _store(store, run)
    if given or unset:
        missing = [name for name in unset or () if name not in opened.open(run).about.hyperparameters]
        if missing:
            known = ", ".join(opened.open(run).about.hyperparameters) or "none"
            hint = f"Set by hand: {known}. Those of a family or a file change there; NAME=VALUE holds before them."
            raise UsageError("bad-hyperparameter", f"{missing[0]} is not set by hand", hint=hint)
        opened.describe(run, given=given, unset=unset or ())
    rows = opened.open(run).hyperparameters
    if kind == "json":
        return emit(json_text({"run": run, "hyperparameters": [row.model_dump() for row in rows]}), None, False)
    if given or unset:
        rows = [row for row in rows if row.origin == BY_HAND]
    if rows:
        table = new_table(["hyperparameter", "value", "from"])
        for row in rows:
            table.add_row(safe(row.name), safe(text_of(row.value)), safe(row.origin))
        results_console().print(table)
    return None


def parsed(word: str) -> tuple[str, Scalar]:
    """Parse ``NAME=VALUE``: true, false, a number, else text; quotes make text of anything. Raises UsageError (``bad-hyperparameter``).

    >>> parsed("lr=1e-3"), parsed("seed=3"), parsed("amp=true"), parsed("version='3'")
    (('lr', 0.001), ('seed', 3), ('amp', True), ('version', '3'))
    """
    name, equals, text = word.partition("=")
    if not equals:
        hint = f"Write NAME=VALUE: trajsvc set RUN {name or 'lr'}=0.1; --unset NAME forgets one."
        raise UsageError("bad-hyperparameter", f"{word[:80]!a} has no value", hint=hint)
    return name.strip(), scalar(text.strip())


def scalar(text: str) -> Scalar:
    """Return the value that a text stands for."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text in ("true", "false", "True", "False"):
        return text in ("true", "True")
    if re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _store(root: Path | None, run: str) -> RunStore:
    """Return the store, in which ``run`` is. Raises NotFound (``run-not-found``)."""
    from storage_schema.runs.store import RunStore
    from trajsvc.results.run import default_store
    from trajsvc.results.run import open as open_stored

    place = root or default_store()
    open_stored(place, run)
    return RunStore(place)
