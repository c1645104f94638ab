"""``trajsvc compare --by KEY``: runs of no family against a hyperparameter, with the spread over seeds; and parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajsvc.cli.jobs import connect
from trajsvc.cli.output import FIGURES, csv_text, emit, errors_console, json_text, results_console, safe, save_figure
from trajsvc.cli.terminal import estimate_mark, new_table, number
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from storage_schema.models.against import AgainstAnswer, SpreadRow
    from storage_schema.models.results import Scalar
    from trajsvc.results.listing import Listed


def chosen_runs(store: Path | None, names: Sequence[str], where: Sequence[str], tags: Sequence[str]) -> list[Listed]:
    """Return the runs of a store that are named and meet the conditions; without names, of all of them.

    Raises NotFound (``run-not-found``), UsageError (``runs-needed``, ``bad-condition``, ``bad-field``).
    """
    from storage_schema.runs.store import RunStore
    from trajsvc.cli.open_run import open_run
    from trajsvc.results import listing
    from trajsvc.results.run import default_store
    from trajsvc.results.run import names as stored

    root = store or default_store()
    if not names:
        RunStore(root).check()
    every = listing.listed(open_run(store, name) for name in (names or stored(root)))
    found = listing.select(every, where, None, tags)
    if not found:
        said = " and ".join([*where, *(f"tag={word}" for word in tags)])
        hint = "`trajsvc ls` lists the runs, with the same --where and --tag."
        raise UsageError("runs-needed", f"no run in {root}{f' for which {said}' if said else ''}", hint=hint)
    return found


def compare_against(
    store: Path | None,
    server: str | None,
    names: Sequence[str],
    where: Sequence[str],
    tags: Sequence[str],
    by: str | None,
    measures: Sequence[str],
    group: str,
    steps: str | None,
    ignore: Sequence[str],
    parallel: str | None,
    kind: str,
    output: Path | None,
    quiet: bool,
) -> None:
    """Show runs against a hyperparameter as a table with the spread over seeds, as JSON or CSV, or as a figure."""
    from storage_schema.models.against import AgainstAnswer
    from trajsvc.families.against import USUAL, against, csv_of, unjoined

    taken = list(measures) or list(USUAL)
    if server is not None:
        asked = {"run": list(names), "where": list(where), "tag": list(tags), "by": by, "names": ",".join(taken)}
        more = {"group": group, "steps": steps, "ignore": ",".join(ignore) or None}
        answer = AgainstAnswer.model_validate(connect(server).get("against", **asked, **more))
    else:
        answer = against(chosen_runs(store, names, where, tags), by, taken, group, steps, ignore)
    if not quiet:
        for finding in answer.findings:
            errors_console().print(f"[yellow]{finding.kind}[/yellow]: {safe(finding.message)}", highlight=False)
        _say(unjoined(answer), answer)
    if kind in FIGURES and output is not None:
        from trajsvc.figures import of_against

        if parallel is not None:
            fields = [name.strip() for name in parallel.split(",") if name.strip() and name.strip() != "all"]
            return save_figure(of_against.parallel_of(answer, fields), output, quiet)
        return save_figure(of_against.scatter_of(answer), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump(mode="json")), output, quiet)
    if kind == "csv":
        return emit(csv_text(*csv_of(answer)), output, quiet)
    console = results_console()
    console.print(_table(answer))
    if answer.spreads:
        console.print("\nequal in all but the seed: mean (least … largest)")
        console.print(_spread_table(answer))
    return None


def _say(why: str | None, answer: AgainstAnswer) -> None:
    """Say why there are no lines, and which runs are not shown."""
    if why is not None:
        hint = f"; --ignore {answer.parting[0]} leaves one out of that" if answer.parting else ""
        errors_console().print(f"no lines: {why}{hint}", markup=False, highlight=False)
    if answer.left_out:
        names = ", ".join(answer.left_out)
        errors_console().print(
            f"without {answer.group}, left out: {names}", style="yellow", markup=False, highlight=False
        )


def _table(answer: AgainstAnswer) -> Any:
    seeds = answer.by != "seed" and len({str(row.seed) for row in answer.rows}) > 1
    heads = ["run", f">{safe(answer.by)}"]
    parting = [name for name in answer.parting if name != "size"]
    heads += [f">{safe(name)}" for name in parting]
    heads += [">seed"] if seeds else []
    heads += [f">{name.replace('_', ' ')}" for name in answer.measures]
    table = new_table(heads)
    for row in answer.rows:
        cells = [safe(row.run) + (estimate_mark(None) if row.estimate else ""), _plain(row.place)]
        cells += [_plain(row.hyperparameters.get(name)) for name in parting]
        cells += [_plain(row.seed)] if seeds else []
        table.add_row(*cells, *(number(row.measures[name]) for name in answer.measures))
    return table


def _spread_table(answer: AgainstAnswer) -> Any:
    several = len({row.line for row in answer.spreads}) > 1
    table = new_table(
        [
            f">{safe(answer.by)}",
            *(["line"] if several else []),
            ">runs",
            *(f">{n.replace('_', ' ')}" for n in answer.measures),
        ]
    )
    for row in answer.spreads:
        cells = [_plain(row.place), *([safe(row.line)] if several else []), str(len(row.runs))]
        table.add_row(*cells, *(_range(row, name) for name in answer.measures))
    return table


def _range(row: SpreadRow, name: str) -> str:
    found = row.measures[name]
    return "–" if found.mean is None else f"{number(found.mean)} ({number(found.low, 3)} … {number(found.high, 3)})"


def _plain(value: Scalar | None) -> str:
    from trajsvc.families.against import said

    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else safe(said(value))
