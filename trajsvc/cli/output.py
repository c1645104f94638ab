"""Write results to stdout or a file, in a format for people or programs, and errors to stderr with an exit code."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperGroup

from storage_schema.files.outputs import whole_file
from storage_schema.files.system_errors import of_any
from trajsvc.cli.interrupts import results, unfinished
from trajsvc.errors import EXIT_INTERRUPTED, Cancelled, TrajsvcError, UsageError, printable

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("human", "json", "csv")
FIGURES = ("png", "svg", "pdf")


class Commands(TyperGroup):
    """The command group: the one place where an error becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with ExitStack() as opened:
                _opened.set(opened)
                return super().invoke(ctx)
        except TrajsvcError as error:
            report(error)
            ctx.exit(error.outcome.exit_code)
        except (OSError, ImportError) as error:
            if isinstance(error, BrokenPipeError) or (found := of_any(error)) is None:
                raise
            report(found)
            ctx.exit(found.outcome.exit_code)
        except (KeyboardInterrupt, Cancelled):
            errors_console().print("interrupted", style="yellow")
            ctx.exit(EXIT_INTERRUPTED)


_opened: Final[ContextVar[ExitStack]] = ContextVar("opened")


def close_at_end(close: Callable[[], None]) -> None:
    """Call ``close`` when the command that is running ends, however it ends."""
    _opened.get().callback(close)


def report(error: TrajsvcError) -> None:
    """Write an error to stderr: what and where, then what to do next. With ``TRAJSVC_DEBUG=1`` its traceback too."""
    if os.environ.get("TRAJSVC_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    console = errors_console()
    what, _, hint = str(error).partition("\n")
    console.print("error:", style="bold red", end=" ")
    console.print(what, markup=False, highlight=False, soft_wrap=True)
    if hint:
        console.print(hint, markup=False, highlight=False, soft_wrap=True)


def errors_console() -> Console:
    """Return the console for messages and progress."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


def results_console() -> Console:
    """Return the console for results for people: as wide as the terminal, or wide enough for any table if there is
    none.
    """
    from rich.console import Console

    console = Console(file=results(), highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(file=results(), highlight=False, width=240)
    return console


def safe(text: str) -> str:
    """Escape text from a checkpoint for a terminal and for rich's markup."""
    from rich.markup import escape

    return escape(printable(text))


def choose(form: str | None, output: Path | None, allowed: Sequence[str]) -> str:
    """Choose the format of a result: ``--format``, else the suffix of ``-o``, else ``human``.

    Raises UsageError: ``bad-format`` for an unknown format, ``bad-suffix`` for a file's, ``format-conflict`` when they differ.
    """
    if form is not None and form not in (*FORMATS, *allowed):
        raise UsageError("bad-format", f"no format {form!r}", hint=f"use one of {', '.join(FORMATS)}")
    if output is None:
        if form is not None and form not in FORMATS:
            raise UsageError("bad-format", f"{form} is written to a file", hint=f"add -o FILE.{form}")
        return form or "human"
    suffix = output.suffix.lower().removeprefix(".")
    if suffix not in allowed:
        raise UsageError(
            "bad-suffix",
            f"this command cannot write {output.name!r}",
            hint=f"end the file's name in one of {', '.join('.' + a for a in allowed)}",
        )
    if form is not None and form != suffix:
        raise UsageError(
            "format-conflict", f"--format {form} and -o {output.name} disagree", hint="leave one of the two out"
        )
    return suffix


def emit(text: str, output: Path | None, quiet: bool = False) -> None:
    """Write text to stdout, or to a file and say so."""
    if output is None:
        results().write(text)
    else:
        write_file(output, lambda out: out.write(text.encode()), quiet=quiet)


def write_file(output: Path, fill: Callable[[Any], object], *, quiet: bool = False) -> None:
    """Let ``fill`` write ``output`` as a binary file; an old file stays until the new one is whole."""
    with whole_file(output, unfinished) as out:
        fill(out)
    wrote(output, quiet)


def save_figure(figure: Any, output: Path, quiet: bool = False) -> None:
    """Write a figure by the suffix of ``output``, which is one of ``FIGURES``."""
    from trajsvc.figures.style import write

    write_file(output, lambda out: write(figure, out, output.suffix.lower()[1:]), quiet=quiet)


def wrote(output: Path, quiet: bool) -> None:
    """Say on stderr what was written."""
    if not quiet:
        errors_console().print(f"wrote {output}", markup=False, highlight=False)


def json_text(value: Any) -> str:
    """Encode as one line of JSON. NaN must have been replaced by null; a remaining NaN is an error."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Encode as CSV with a header; undefined values are empty fields, floats keep every digit."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if v is None else v for v in row] for row in rows)
    return out.getvalue()


def csv_rows(rows: Sequence[Mapping[str, Any]], header: Sequence[str]) -> str:
    """Encode dictionaries that share the keys ``header`` as CSV."""
    return csv_text(header, ([row[name] for name in header] for row in rows))
