"""The measures' page, from the registry and the docstrings of the functions that compute them."""

from __future__ import annotations

import inspect

from markdown_text import page, prose, table

from trajsvc.measures.heterogeneity import qkv_heterogeneity
from trajsvc.measures.phases import phases
from trajsvc.measures.registry import MEASURES

INTRO = """
Every measure is a function of the Gram matrix of one group of parameters, at all checkpoints or a selection of them. For T
checkpoints θ_0 … θ_{T−1} of P parameters, U_t = θ_t − θ_{t−1} is an update and g_t the update divided by its norm. `step` counts
checkpoints, `update` the T − 1 updates between them. A measure of a zero vector is undefined: NaN in arrays, null in JSON.

`trajsvc measures RUN` prints the default choice of a group, `--names` chooses; `GET /v1/runs/{run}/measures` answers the same, and in
Python every measure is a method of a run (`run.update_angle("layer/3", steps="1000..")`).
"""
RECORDS = (phases, qkv_heterogeneity)
"""functions that answer with records, and are no rows of the registry"""


def text() -> str:
    rows = (
        (f"[`{m.name}`](#{m.name})", m.definition, " × ".join(m.dims) or "scalar", m.units, m.source)
        for m in MEASURES.values()
    )
    head = ("measure", "definition", "axes", "unit", "source")
    sections = [f"## {m.name}\n\n{prose(inspect.getdoc(m.compute))}" for m in MEASURES.values()]
    sections += [f"## {function.__name__}\n\n{prose(inspect.getdoc(function))}" for function in RECORDS]
    return page("Measures", INTRO, table(head, rows), *sections)
