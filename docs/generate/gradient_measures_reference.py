"""The page of gradient measures, from their registry and the docstrings of the functions that compute them."""

from __future__ import annotations

import inspect

from markdown_text import page, prose, table

from trajsvc.measures.gradients.registry import GRADIENT_MEASURES

INTRO = """
Every measure is a function of the Gram matrix K of the n vectors g_1 … g_n of a set, for one group of parameters at one checkpoint; some
need sums beside it (norms of weights and of perturbations). ḡ is the mean of the vectors, V₁ = tr K/n − ‖ḡ‖² the trace of their covariance,
P the number of parameters of the group. Ratios, cosines and minima of a group are those of the summed K, never means over its blocks. A
measure of a zero vector is undefined: NaN in arrays, null in JSON, and counted.

`trajsvc gradients measures RUN --set SET` prints what a set can answer, `--names` chooses, and in Python every measure is a method of a set
(`run.gradients("example").coherence("layer/3", steps="1000..")`).
"""


def text() -> str:
    rows = (
        (f"[`{m.name}`](#{m.name})", m.definition, ", ".join(m.sets), " × ".join(m.dims) or "number", m.units, m.source)
        for m in GRADIENT_MEASURES.values()
    )
    head = ("measure", "definition", "sets", "at a step", "units", "source")
    sections = [_section(m.name, m.function, m.parameters) for m in GRADIENT_MEASURES.values()]
    return page("Measures of gradients", INTRO, table(head, rows), *sections)


def _section(name: str, function: object, parameters: tuple[str, ...]) -> str:
    options = f"\n\nParameters: {', '.join(f'`{p}`' for p in parameters)}." if parameters else ""
    return f"## {name}\n\n{prose(inspect.getdoc(function))}{options}"
