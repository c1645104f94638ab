"""``trajsvc batch``: analyse a family of runs, one after another; failures are reported at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.batch_beside import check_beside
from trajsvc.cli.batch_members import EmbeddedRunner, MemberRunner, options_of
from trajsvc.cli.batch_outcome import MemberOutcome, State
from trajsvc.cli.interrupts import release_results, stop_on_interrupt
from trajsvc.cli.jobs import connect
from trajsvc.cli.options import FormatOption, QuietOption, StoreOption, takes_options
from trajsvc.cli.output import choose, csv_rows, emit, errors_console, json_text, results_console, safe
from trajsvc.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PARTLY,
    UsageError,
    printable,
)

if TYPE_CHECKING:
    from trajsvc.families.file import Family, Member

BESIDE = ("spectra", "gradients")
STYLES: Mapping[State, str] = {"failed": "red", "stopped": "yellow", "not begun": "dim"}

EPILOG = """Examples:

  trajsvc batch pythia.toml --dry-run

  trajsvc batch pythia.toml --only pythia-70m,pythia-160m

  trajsvc batch pythia.toml --server http://127.0.0.1:8000

  trajsvc compare --family pythia -o pythia.pdf

A family's file, folders relative to it:

  name = "pythia"                            the family's name in the store

  \\[defaults]                                 options of every member: steps, copy, preview, precision, memory,

  steps = "every:8"                          skip_damaged, replace, revisions, commits; a member may set its own

  \\[\\[runs]]                                   one for every member

  source = "hf://EleutherAI/pythia-70m"      a folder, a glob, or a repository on the Hub

  name = "pythia-70m"                        else the source's last part

  size = "70M"                               else the run's own number of parameters

  seed = 0

  \\[runs.hyperparameters]

  lr = 1e-3

  \\[spectra]                                  spectra of every member, with the options of `spectra compute`

  of = \\["weights", "updates"]

  \\[gradients]                                and gradients, with those of `gradients compute`

  probe = "causal-lm"

  data = "text.txt"                          of a server the name that it has for its data

Stopped with ^C, the same command resumes. Exit codes: 0 all well, 3 some failed, 1 all failed, 130 interrupted.
"""


def register(app: typer.Typer) -> None:
    """Add ``batch`` to ``app``."""
    app.command("batch", epilog=EPILOG)(batch)


@takes_options()
def batch(
    file: Annotated[Path, typer.Argument(metavar="FAMILY.toml", help="Family file: a name and its runs.")],
    store: StoreOption = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAME,…", help="Only these members, separated by commas.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry/--no-retry", help="At the end, try members again whose error may be temporary.")
    ] = True,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="Submit all members to this server instead."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; nothing is read or written.")
    ] = False,
    *,
    chosen: dict[str, Any],
    form: FormatOption = None,
    quiet: QuietOption = False,
) -> None:
    """Analyse a family of runs, one after another, and keep the family in the store.

    Spectra and gradients that its file asks for are computed beside each run. Options given here apply to every member and take
    precedence over the family's file.
    """
    from trajsvc.cli.batch_members import runs_in_repository
    from trajsvc.families.file import expanded, load_family, save_family
    from trajsvc.results.run import default_store
    from trajsvc.sources.resolve import is_remote

    kind = choose(form, None, ())
    family = load_family(file)
    if any(is_remote(member.source) and not member.revisions for member in family.runs):
        family = expanded(family, lambda member: runs_in_repository(member, store))
    root = store or default_store()
    members = chosen_members(family, only)
    for member in members:
        options_of(family, member, chosen)
        check_beside(family, member, served=server is not None)
    if dry_run:
        return _show_plan(family, members, root, kind)
    with stop_on_interrupt() as stop:
        runner: MemberRunner
        if server is not None:
            from trajsvc.cli.batch_members import ServerRunner

            runner = ServerRunner(family, connect(server), stop, chosen, members)
        else:
            save_family(root, family)
            runner = EmbeddedRunner(family, root, stop, chosen, quiet=quiet or kind != "human")
        outcomes = run_members(members, runner, stop.is_set, retry=retry, say=_sayer(len(members), quiet))
    _show_outcomes(family, outcomes, server or str(root), kind)
    release_results()
    if stop.is_set() and any(o.state in ("stopped", "not begun") for o in outcomes):
        errors_console().print("stopped; the same command resumes where it was", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not quiet and kind == "human":
        where = f"--server {server}" if server else f"--store {root}"
        errors_console().print(
            f"compare them: trajsvc compare --family {family.name} {where}", markup=False, highlight=False
        )
    if code := exit_code(outcomes):
        raise typer.Exit(code)
    return None


def chosen_members(family: Family, only: str | None) -> list[Member]:
    """Return the members named in ``only``, in the family's order; all without it.

    Raises NotFound (``member-not-found``) and UsageError (``no-members``).
    """
    if only is None:
        return list(family.runs)
    wanted = {family.member(name).name for name in (part.strip() for part in only.split(",")) if name}
    if not wanted:
        raise UsageError("no-members", "--only names no member", hint=f"Say --only {family.runs[0].name}, for example.")
    return [member for member in family.runs if member.name in wanted]


def run_members(
    members: Sequence[Member],
    runner: MemberRunner,
    stopped: Callable[[], bool],
    *,
    retry: bool,
    say: Callable[[int, MemberOutcome], None],
) -> list[MemberOutcome]:
    """Run the members and return their outcomes, in order.

    ``say`` is called with each outcome as it ends, with its number from 1; when ``stopped``, the rest is not begun.
    With ``retry``, members whose error may be temporary are tried once more after the others.
    """
    outcomes = [MemberOutcome(member.name, "not begun") for member in members]
    turns = list(range(len(members)))
    for last in (not retry, True):
        for k in turns:
            if stopped():
                return outcomes
            outcomes[k] = runner.run(members[k])
            say(k + 1, outcomes[k])
        turns = [k for k in turns if outcomes[k].again]
        if last or not turns:
            break
    return outcomes


def exit_code(outcomes: Sequence[MemberOutcome]) -> int:
    """Return 0 if all succeeded, 1 if all failed and none has a run, 3 if some failed, left checkpoints out, or have a run alone."""
    bad = [o for o in outcomes if o.state == "failed"]
    if bad and len(bad) == len(outcomes) and all(o.checkpoints is None for o in bad):
        return EXIT_FAILED
    return EXIT_PARTLY if bad or any(o.left_out for o in outcomes) else 0


def _sayer(count: int, quiet: bool) -> Callable[[int, MemberOutcome], None]:
    """Return a function that writes a line for every member on stderr; with ``quiet`` only for those that failed."""

    def say(number: int, outcome: MemberOutcome) -> None:
        if quiet and outcome.state != "failed":
            return
        what = f"{outcome.kind}: {printable(outcome.error)}" if outcome.state == "failed" else _counts(outcome)
        line = f"[{number}/{count}] {outcome.member}: {outcome.state}{', ' * bool(what)}{what}, {outcome.seconds or 0:.1f} s"
        errors_console().print(line, style=STYLES.get(outcome.state), markup=False, highlight=False)

    return say


def _counts(outcome: MemberOutcome) -> str:
    told = [(outcome.checkpoints, "checkpoints"), (outcome.new, "new"), (outcome.left_out, "left out")]
    beside = [(what, *_beside(outcome, what)) for what in BESIDE]
    said = [f"{what} of {there} ({new} new)" for what, there, new in beside if there is not None]
    return ", ".join([*(f"{count} {what}" for count, what in told if count), *said])


def _beside(outcome: MemberOutcome, what: str) -> tuple[int | None, int | None]:
    """Return at how many checkpoints ``what`` is stored, and at how many of them it was computed now; None where it was not asked for."""
    return getattr(outcome, what), getattr(outcome, f"{what}_new")


def _show_outcomes(family: Family, outcomes: Sequence[MemberOutcome], store: str, kind: str) -> None:
    """Print the table of the members' states, and below it what went wrong and what to do."""
    from trajsvc.cli.terminal import new_table

    rows = [asdict(outcome) for outcome in outcomes]
    if kind == "json":
        return emit(json_text({"family": family.name, "store": store, "members": rows}), None)
    if kind == "csv":
        return emit(csv_rows(rows, [f.name for f in fields(MemberOutcome)]), None)
    beside = [what for what in BESIDE if any(getattr(o, what) is not None for o in outcomes)]
    columns = [name for what in beside for name in (f">{what}", ">new")]
    table = new_table(["member", "state", ">checkpoints", ">new", ">left out", *columns, ">seconds", "error"])
    for o in outcomes:
        found = (o.checkpoints, o.new, o.left_out, *(n for what in beside for n in _beside(o, what)))
        counts = ["" if n is None else str(n) for n in found]
        style = STYLES.get(o.state)
        state = f"[{style}]{o.state}[/{style}]" if style else o.state
        table.add_row(
            safe(o.member), state, *counts, "" if o.seconds is None else f"{o.seconds:.1f}", safe(o.kind or "")
        )
    console = results_console()
    console.print(table)
    for o in outcomes:
        if o.state == "failed":
            console.print(f"\n{o.member}: {printable(o.error)}", markup=False, highlight=False, soft_wrap=True)
            if o.hint:
                console.print(printable(o.hint), markup=False, highlight=False, soft_wrap=True)
    return None


def _show_plan(family: Family, members: Sequence[Member], store: Path, kind: str) -> None:
    """Print what would be done with every member."""
    from trajsvc.cli.terminal import new_table
    from trajsvc.results.run import names

    stored = set(names(store))
    rows: list[dict[str, Any]] = [
        {
            "member": m.name, "source": m.source, "size": m.size, "seed": m.seed,
            "hyperparameters": dict(m.hyperparameters), "options": family.options(m).given(), **_asked(family, m),
            "stored": m.name in stored,
        }
        for m in members
    ]  # fmt: skip
    if kind == "json":
        return emit(json_text({"family": family.name, "store": str(store), "members": rows}), None)
    if kind == "csv":
        words = ("hyperparameters", "options", *BESIDE)
        flat = [{**r, **{name: _pairs(r[name]) for name in words if r[name] is not None}} for r in rows]
        return emit(csv_rows(flat, list(rows[0])), None)
    beside = [what for what in BESIDE if any(row[what] is not None for row in rows)]
    columns = [f"~{what}" for what in ("hyperparameters", "options", *beside)]
    table = new_table(["member", "~source", ">size", ">seed", *columns, "stored"])
    for row in rows:
        told = ["" if row[n] is None else f"{row[n]:,}" for n in ("size", "seed")]
        table.add_row(
            safe(row["member"]),
            safe(row["source"]),
            *told,
            safe(_pairs(row["hyperparameters"])),
            safe(_pairs(row["options"])),
            *("none" if row[what] is None else safe(_pairs(row[what]) or "all") for what in beside),
            "yes" if row["stored"] else "no",
        )
    console = results_console()
    console.print(table)
    console.print(f"\nfamily {family.name}, store {store}; nothing was read or written", markup=False, highlight=False)
    return None


def _asked(family: Family, member: Member) -> dict[str, dict[str, Any] | None]:
    """Return what the family's file says of the spectra and gradients of a member; None where it asks for none."""
    tables = {"spectra": family.spectra_of(member), "gradients": family.gradients_of(member)}
    return {
        what: None if table is None else table.model_dump(mode="json", exclude_unset=True)
        for what, table in tables.items()
    }


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())
