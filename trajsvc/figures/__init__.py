"""Figures for papers: maps, layers, attention, curves, comparisons. Each function takes arrays and returns a matplotlib
``Figure``; ``save`` writes it as PNG, SVG or PDF."""

from trajsvc.figures.compare import Curve, compare_figure, overlay_figure, stacked_figure
from trajsvc.figures.curves import Curves, curves_figure
from trajsvc.figures.grid import layer_grid
from trajsvc.figures.maps import Panel, map_figure
from trajsvc.figures.qkv import qkv_figure
from trajsvc.figures.style import save

__all__ = [
    "Curve",
    "Curves",
    "Panel",
    "compare_figure",
    "curves_figure",
    "layer_grid",
    "map_figure",
    "overlay_figure",
    "qkv_figure",
    "save",
    "stacked_figure",
]
