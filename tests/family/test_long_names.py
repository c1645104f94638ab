"""Names of runs may be long, and measures undefined: a figure shows both, and nothing of it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trajsvc.figures.compare import Curve, compare_figure, overlay_figure
from trajsvc.figures.style import fitting

LONG = [
    f"resnet50-imagenet-momentum-0.9-weight-decay-{d}-batch-4096-seed-{s}" for d in ("1e-4", "5e-4") for s in range(4)
]
LONGER = [f"{name}-{'x' * 150}-{i}" for i, name in enumerate(LONG)]


def inside(figure: Any) -> bool:
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    return bool(legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0)


@pytest.mark.parametrize("names", [["a", "b"], LONG, LONGER], ids=["short", "long", "longer than the page"])
def test_a_legend_is_whole(names: list[str]) -> None:
    curves = [Curve(name, [0, 1, 2], np.arange(3.0) + i) for i, name in enumerate(names)]
    figure = overlay_figure([("norm", "step", curves), ("angle", "step", curves)])
    assert inside(figure)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(set(shown)) == len(names)
    if names is not LONGER:
        assert shown == names
    panels = [axes.get_window_extent() for axes in figure.axes]
    assert all(panel.height > 0.5 * figure.dpi for panel in panels)
    assert min(panel.y0 for panel in panels) > figure.legends[0].get_window_extent().y1


def test_an_undefined_value_is_no_bar() -> None:
    figure = compare_figure(LONG[:3], {"mds": [0.0, None, 0.8], "alpha": [None, float("nan"), None]})
    figure.draw_without_rendering()
    first, second = figure.axes[:2]
    assert [bar.get_width() for bar in first.patches] == [0.0, 0.8]
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in first.patches] == [0, 2]
    assert [text.get_text() for text in first.texts] == ["undefined"]
    assert not second.patches
    assert len(second.texts) == 3
    assert first.get_window_extent().width > 1.0 * figure.dpi


def test_a_name_keeps_its_ends() -> None:
    assert fitting("seed-1", 6) == "seed-1"
    assert fitting("resnet-lr-0.1-seed-17", 11) == "resne…ed-17"
    assert len(fitting("x" * 50, 20)) == 20
