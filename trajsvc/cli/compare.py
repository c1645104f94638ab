"""``trajsvc compare``: runs side by side, or the members of a family, as a table or a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.compare_against import chosen_runs, compare_against
from trajsvc.cli.completion import complete_families, complete_measures, complete_runs
from trajsvc.cli.jobs import connect
from trajsvc.cli.open_run import open_run
from trajsvc.cli.options import (
    FormatOption,
    GroupOption,
    OriginOption,
    OutputOption,
    QuietOption,
    StepsOption,
    StoreOption,
)
from trajsvc.cli.output import (
    FIGURES,
    choose,
    csv_rows,
    emit,
    errors_console,
    json_text,
    results_console,
    safe,
    save_figure,
)
from trajsvc.cli.terminal import estimate_mark, new_table, number, step_number
from trajsvc.errors import NotFound, UsageError

if TYPE_CHECKING:
    from storage_schema.models.families import FamilyRow
    from storage_schema.models.results import CompareRow, Finding
    from trajsvc.families.file import Family
    from trajsvc.results.run import Run

SHOWN = (
    "mds",
    "mds_by_length",
    "relative_mds",
    "random_walk_mds",
    "path_length",
    "tortuosity",
    "mean_update_angle",
    "mu",
    "alpha",
)
FAMILY_SHOWN = (
    "mds", "mds_by_length", "relative_mds", "random_walk_mds", "heterogeneity", "rms", "settling_depth_slope",
)  # fmt: skip
FAMILY_TITLES = (
    "MDS",
    "MDS by\nlength",
    "relative\nMDS",
    "random\nwalk's",
    "Q/K/V\nshape",
    "Q/K/V\nrms",
    "settling\nslope",
)
FAMILY_COLUMNS = ("member", "run", "state", "size", "seed", "parameters", "checkpoints", "estimate", *FAMILY_SHOWN)
DEPTH_COLUMNS = ("distance_qk", "distance_qv", "distance_kv", "heterogeneity", "rms_qk", "rms_qv", "rms_kv", "rms")

EPILOG = """Examples:

  trajsvc compare baseline no-decay no-momentum -o compare.pdf

  trajsvc compare baseline no-decay --curves update_angle,apex_angle_init -o angles.pdf

  trajsvc compare --family pythia -o pythia.pdf           measures against size

  trajsvc compare --family pythia --maps -o maps.pdf

  trajsvc compare --family pythia --qkv --format csv      a row for every layer of every member

  trajsvc compare --family mlp --by weight_decay

  trajsvc compare --where tag=sweep --by lr --names mds,tortuosity -o sweep.pdf     runs of no family

  trajsvc compare --where 'lr<1' --parallel lr,weight_decay,mds -o parallel.pdf
"""


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command("compare", epilog=EPILOG)(compare)


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN RUN…", help="Two or more runs.", autocompletion=complete_runs),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family",
            metavar="NAME",
            help="Compare a family's members (`trajsvc families ls`).",
            autocompletion=complete_families,
        ),
    ] = None,
    group: GroupOption = "network",
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="WHAT",
            help="layer: a row for every layer of every run. Else what runs or members stand against: size, seed, a hyperparameter; "
            "of runs a measure too.",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONDITION", help="Compare the runs for which it holds, as of `trajsvc ls`."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Compare the runs with this tag.")
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option("--names", metavar="A,B", help="With --by: these measures.", autocompletion=complete_measures),
    ] = None,
    ignore: Annotated[
        str | None,
        typer.Option(
            "--ignore", metavar="A,B", help="With --by: hyperparameters in which runs of one line may differ."
        ),
    ] = None,
    parallel: Annotated[
        str | None,
        typer.Option(
            "--parallel",
            metavar="A,B",
            help="With -o FILE.png|svg|pdf: parallel coordinates of these fields; all: of what differs.",
        ),
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="With -o FILE.png|svg|pdf: the maps, on one scale.")] = False,
    curves: Annotated[
        str | None,
        typer.Option(
            "--curves", metavar="A,B", help="With -o FILE.png|svg|pdf: these measures over training, a line a run."
        ),
    ] = None,
    qkv: Annotated[bool, typer.Option("--qkv", help="Of a family: Q, K and V against relative depth.")] = False,
    origin: OriginOption = None,
    steps: StepsOption = None,
    store: StoreOption = None,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="Address of the server that has the family, or the runs."),
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Compare runs: directional similarity, length and straightness of the path, correlation of updates."""
    from storage_schema.models.results import CompareRow
    from trajsvc.figures import of_run as figures
    from trajsvc.results import answers

    kind = choose(form, output, ("json", "csv", *FIGURES))
    for wanted, flag in ((maps, "--maps"), (curves is not None, "--curves"), (parallel is not None, "--parallel")):
        if wanted and kind not in FIGURES:
            raise UsageError("needs-figure", f"{flag} makes a figure", hint="add -o compare.png")
    if maps and curves is not None:
        raise UsageError("needs-figure", "--maps and --curves are two figures", hint="Leave one of the two out.")
    if family is not None:
        if curves is not None:
            raise UsageError("family-option", "--curves compares runs", hint="Name the runs instead of the family.")
        if runs or where or tag or measures or ignore or parallel:
            hint = "Leave out what chooses and shows runs, or --family."
            raise UsageError("family-and-runs", "either runs or a family are compared", hint=hint)
        return _family(server or store, family, by, group, origin, steps, kind, output, quiet, maps=maps, qkv=qkv)
    if qkv:
        raise UsageError("family-option", "--qkv compares a family", hint="`trajsvc qkv RUN` shows one run's.")
    if parallel is not None or by not in (None, "layer"):
        _not_with_by(maps, curves, origin)
        names = [one.strip() for one in (measures or "").split(",") if one.strip()]
        ignored = [one.strip() for one in (ignore or "").split(",") if one.strip()]
        return compare_against(
            store, server, runs or [], where or [], tag or [], by, names, group, steps, ignored, parallel, kind, output, quiet
        )  # fmt: skip
    if measures is not None or ignore is not None:
        raise UsageError(
            "compare-option", "--names and --ignore go with --by", hint="Add --by lr, or what the runs differ in."
        )
    if where or tag:
        runs = [one.run.name for one in chosen_runs(store, runs or [], where or [], tag or [])]
    if not runs:
        hint = (
            "Name runs (`trajsvc ls` lists them), choose them (--where, --tag), or a --family (`trajsvc families ls`)."
        )
        raise UsageError("runs-needed", "there is nothing to compare", hint=hint)
    opened = [open_run(store, name) for name in runs]
    if not quiet and (maps or curves is not None):
        _say(answers.sampled_differently(opened, steps))
    if curves is not None and output is not None:
        from trajsvc.measures.registry import names_in

        return save_figure(figures.overlaid(opened, group, names_in(curves) or [], steps), output, quiet)
    if maps and output is not None:
        return save_figure(figures.maps_beside(opened, group, origin, steps), output, quiet)
    answer = answers.compare(opened, _groups(opened, group, by), steps)
    if not quiet:
        _say(answer.findings)
    if kind in FIGURES and output is not None:
        return save_figure(figures.comparison(answer), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump()), output, quiet)
    if kind == "csv":
        return emit(csv_rows([r.model_dump() for r in answer.rows], list(CompareRow.model_fields)), output, quiet)
    return results_console().print(_table(answer.rows))


def _not_with_by(maps: bool, curves: str | None, origin: int | None) -> None:
    """Raise UsageError for options that say nothing of runs against a hyperparameter."""
    for given, flag in ((maps, "--maps"), (curves is not None, "--curves"), (origin is not None, "--origin")):
        if given:
            hint = f"Leave out {flag}, or --by and --parallel."
            raise UsageError("compare-option", f"{flag} is not for runs against a hyperparameter", hint=hint)


def _say(findings: Sequence[Finding]) -> None:
    for finding in findings:
        errors_console().print(f"[yellow]{finding.kind}[/yellow]: {safe(finding.message)}", highlight=False)


def _groups(runs: Sequence[Run], group: str, by: str | None) -> list[str]:
    """Return the group asked for, or every layer that any of the runs has, in order of depth."""
    return [group] if by is None else list(dict.fromkeys(layer for run in runs for layer in run.layer_ids()))


def _table(rows: Sequence[CompareRow]) -> Any:
    table = new_table(
        ["run", "group", ">checkpoints", *(f">{name.replace('_', ' ')}" for name in SHOWN), ">settles at"]
    )
    for row in rows:
        values = (number(getattr(row, name)) for name in SHOWN)
        table.add_row(safe(row.run), safe(row.group), str(row.checkpoints), *values, step_number(row.settling_step))
    return table


def _family(
    store: Path | str | None,
    name: str,
    by: str | None,
    group: str,
    origin: int | None,
    steps: str | None,
    kind: str,
    output: Path | None,
    quiet: bool,
    *,
    maps: bool,
    qkv: bool,
) -> None:
    """Show the members of a family side by side."""
    from storage_schema.runs.store import RunStore
    from storage_schema.runs.trash import removed_runs
    from trajsvc.families.compare import compare_family, value_of
    from trajsvc.families.file import open_family
    from trajsvc.figures import of_family
    from trajsvc.results.run import default_store, names

    if maps and qkv:
        raise UsageError("family-option", "--maps and --qkv are two figures", hint="Leave one of the two out.")
    if not maps and (group != "network" or steps is not None):
        hint = "Add --maps, or leave out --group and --steps."
        raise UsageError("family-option", "of a family, a group or steps are chosen for maps", hint=hint)
    root = store or default_store()
    if isinstance(root, str):
        found, runs = _of_server(root, name)
        removed: dict[str, str] = {}
    else:
        found = open_family(root, name)
        stored = set(names(root))
        runs = {m.name: open_run(root, m.name) for m in found.runs if m.name in stored}
        removed = removed_runs(RunStore(root))
    by = _by_known(by, found.name, found.hyperparameter_names())
    answer = compare_family(found, runs, removed, None if maps else origin)
    rows = sorted(answer.rows, key=lambda row: _place(value_of(row, by)))
    answer = answer.model_copy(update={"rows": rows})
    missing = [
        row.member + (f" (removed: trajsvc trash restore {row.removed})" if row.removed else "")
        for row in rows
        if row.state == "missing"
    ]
    if missing and not quiet and kind not in ("json", "csv"):
        errors_console().print(f"not analysed: {', '.join(missing)}", style="yellow", markup=False, highlight=False)
    if not quiet:
        _say(answer.findings)
    if kind in FIGURES and output is not None:
        if not runs:
            hint = f"`trajsvc batch FAMILY.toml --store {root}` analyses them."
            raise NotFound("run-not-found", f"no member of the family {name} is in the store {root}", hint=hint)
        if maps:
            return save_figure(of_family.maps_of(answer, runs, group, origin, steps), output, quiet)
        return save_figure(of_family.qkv_of(answer) if qkv else of_family.measures_of(answer, by), output, quiet)
    if kind == "json":
        return emit(json_text(answer.model_dump(mode="json")), output, quiet)
    if kind == "csv":
        return emit(_depth_csv(rows) if qkv else _family_csv(rows, found.hyperparameter_names()), output, quiet)
    return results_console().print(_depth_table(rows) if qkv else _family_table(rows, found.hyperparameter_names()))


def _of_server(server: str, name: str) -> tuple[Family, dict[str, Run]]:
    """Return a family of a server, and those of its runs that exist."""
    from trajsvc.families.file import Family
    from trajsvc.results.remote_run import RemoteRun

    client = connect(server)
    found = Family.model_validate(client.get(f"families/{name}"))
    there = {run["run"] for run in client.runs()}
    return found, {m.name: RemoteRun(client, m.name) for m in found.runs if m.name in there}


def _by_known(by: str | None, family: str, hyperparameters: Sequence[str]) -> str:
    """Return what a family is ordered by. Raises UsageError (``bad-by``)."""
    known = ["size", "seed", *hyperparameters]
    if by is not None and by not in known:
        hint = f"Use one of {', '.join(known)}."
        raise UsageError("bad-by", f"cannot compare the family {family} by {by!r}", hint=hint)
    return by or "size"


def _place(value: bool | int | float | str | None) -> tuple[bool, bool, float, str]:
    """Return a sort key: numbers in their order, then words, then unknown values."""
    if isinstance(value, str) or value is None:
        return (value is None, True, 0.0, value or "")
    return (False, False, float(value), "")


def _family_table(rows: Sequence[FamilyRow], hyperparameters: Sequence[str]) -> Any:
    """Make a table with a row a member; values that no member has, or that repeat the size, have no column."""
    columns: dict[str, list[str]] = {"member": [safe(row.member) + _remark(row) for row in rows]}
    columns[">size"] = [_count(row.size) for row in rows]
    if any(row.seed is not None for row in rows):
        columns[">seed"] = [_plain(row.seed) for row in rows]
    for name in hyperparameters:
        columns[f">{safe(name)}"] = [_plain(row.hyperparameters.get(name)) for row in rows]
    if any(row.parameters not in (None, row.size) for row in rows):
        columns[">para-\nmeters"] = [_count(row.parameters) for row in rows]
    columns[">check-\npoints"] = [_plain(row.checkpoints) for row in rows]
    for name, title in zip(FAMILY_SHOWN, FAMILY_TITLES, strict=True):
        columns[f">{title}"] = [number(getattr(row, name)) for row in rows]
    table = new_table(list(columns))
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _remark(row: FamilyRow) -> str:
    if row.state == "missing":
        return " [yellow](not analysed)[/yellow]"
    return estimate_mark(row.fraction) if row.estimate else ""


def _depth_table(rows: Sequence[FamilyRow]) -> Any:
    table = new_table(["member", "layer", ">depth", *(f">{name.replace('_', ' ')}" for name in DEPTH_COLUMNS)])
    for row in rows:
        for depth in row.heterogeneity_by_depth:
            values = (number(getattr(depth, name)) for name in DEPTH_COLUMNS)
            table.add_row(safe(row.member), safe(depth.layer), f"{depth.depth:.2f}", *values)
    return table


def _count(value: float | None) -> str:
    """Format a number of parameters: 70M, 1.4B."""
    from trajsvc.figures.family import size_label

    return "–" if value is None else size_label(value)


def _plain(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else safe(str(value))


def _family_csv(rows: Sequence[FamilyRow], hyperparameters: Sequence[str]) -> str:
    """Make CSV with a row a member; hyperparameters are columns ``hyperparameter.NAME``."""
    columns = [f"hyperparameter.{name}" for name in hyperparameters]
    flat = [
        {name: getattr(row, name) for name in FAMILY_COLUMNS}
        | {c: row.hyperparameters.get(h) for c, h in zip(columns, hyperparameters, strict=True)}
        for row in rows
    ]
    return csv_rows(flat, [*FAMILY_COLUMNS, *columns])


def _depth_csv(rows: Sequence[FamilyRow]) -> str:
    """Make CSV with a row for every layer with attention of every member."""
    flat = [
        {"member": row.member, "size": row.size, "seed": row.seed, **depth.model_dump()}
        for row in rows
        for depth in row.heterogeneity_by_depth
    ]
    return csv_rows(flat, ["member", "size", "seed", "depth", "layer", *DEPTH_COLUMNS])
