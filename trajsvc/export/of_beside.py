"""The tables of what was computed beside a run: sets of gradients, and spectra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from trajsvc.export.table import Column, Part, Table
from trajsvc.measures.gradients.registry import GRADIENT_MEASURES
from trajsvc.measures.spectra.registry import SPECTRUM_MEASURES

if TYPE_CHECKING:
    from storage_schema.models.spectra import Of
    from trajsvc.results.run import Run

STEP: Final = Column("step", "integer", "step", "number of the checkpoint")


def gradient_table(run: Run, groups: Sequence[str]) -> Table | None:
    """Return the measures of all sets of gradients, those that are one number a step; a measure that a set has not is NaN there.

    None if no set was computed.
    """
    from trajsvc.results.gradient_tables import default_measures

    sets = [run.gradients(name) for name in run.gradient_sets()]
    if not sets:
        return None
    names = list(dict.fromkeys(name for found in sets for name in default_measures(found)))
    about = [GRADIENT_MEASURES[name] for name in names]
    columns = [
        Column("set", "string", "", "name of the set of gradients"),
        Column("group", "string", "", "id of the group of parameters"),
        STEP,
        *(Column(m.name, "number", m.units, m.definition) for m in about),
    ]

    def parts() -> Iterator[Part]:
        for found in sets:
            steps, known, mine = found.selection(None), found.groups(), default_measures(found)
            for group in groups:
                if group in known:
                    undefined = np.full(len(steps), np.nan)
                    values = {n: np.asarray(found.values(n, group, steps), dtype=np.float64) for n in mine}
                    yield {
                        "set": np.full(len(steps), found.name, dtype=object),
                        "group": np.full(len(steps), group, dtype=object),
                        "step": np.array(steps, dtype=np.int64),
                        **{name: values.get(name, undefined) for name in names},
                    }

    return Table("gradients", "measures of the gradients at checkpoints", columns, parts)


def spectrum_tables(run: Run) -> Iterator[Table]:
    """Yield the measures of every decomposed matrix by step, and the singular values that are kept; nothing if there are none."""
    answers = run.spectrum_answers()
    kinds: list[Of] = [row.of for row in answers.rows()]
    if not kinds:
        return
    matrix = [
        Column("of", "string", "", "weights, displacement from the first checkpoint, or updates"),
        Column("matrix", "string", "", "tensor, part of one, or head"),
    ]
    place = [Column("layer", "string", ""), Column("component", "string", "")]
    about = [Column(m.name, "number", m.units, m.definition) for m in SPECTRUM_MEASURES.values()]

    def measured() -> Iterator[Part]:
        for of in kinds:
            found = answers.layers(of, list(SPECTRUM_MEASURES), heads=True)
            count = len(found.steps)
            for row in found.matrices:
                words = {"of": of, "matrix": row.name, "layer": row.layer, "component": row.component}
                yield {
                    **{name: np.full(count, word, dtype=object) for name, word in words.items()},
                    "step": np.array(found.steps, dtype=np.int64),
                    **{name: np.array(values, dtype=np.float64) for name, values in row.measures.items()},
                }

    def values() -> Iterator[Part]:
        for of in kinds:
            for row in answers.details(of).matrix_table:
                found = answers.values(row.name, of)
                counts = [len(kept) for kept in found.values]
                yield {
                    "of": np.full(sum(counts), of, dtype=object),
                    "matrix": np.full(sum(counts), row.name, dtype=object),
                    "step": np.repeat(np.array(found.steps, dtype=np.int64), counts),
                    "component": np.concatenate([np.arange(1, count + 1) for count in [0, *counts]]),
                    "singular_value": np.array([v for kept in found.values for v in kept], dtype=np.float64),
                }

    yield Table("spectra", "measures of the singular values of every matrix", [*matrix, *place, STEP, *about], measured)
    component = Column("component", "integer", "1", "number of the singular value, from 1, the largest")
    value = Column("singular_value", "number", "parameter")
    yield Table("singular_values", "singular values that are kept", [*matrix, STEP, component, value], values)
