"""Methods of a run say what the registry says of their measures: definition, axes, unit, source."""

from __future__ import annotations

import inspect

import pytest

from trajsvc.measures.gradients.registry import GRADIENT_MEASURES
from trajsvc.measures.registry import MEASURES
from trajsvc.results.gradient_methods import GradientMethods
from trajsvc.results.gradients import RunGradients
from trajsvc.results.measure_methods import MeasureMethods
from trajsvc.results.run import Run


@pytest.mark.parametrize("name", MEASURES)
def test_a_method_begins_with_what_the_registry_says(name: str) -> None:
    expected = MEASURES[name].description()
    method = getattr(Run, name, None)
    assert method is not None, f"add the method {name} to trajsvc/results/measure_methods.py:\n{expected}"
    found = " ".join((inspect.getdoc(method) or "").split())
    assert found.startswith(expected), (
        f"the docstring of MeasureMethods.{name} must begin with what trajsvc/measures/registry.py says:\n{expected}"
    )


def test_no_method_is_of_another_measure() -> None:
    own = {n for n, m in vars(MeasureMethods).items() if inspect.isfunction(m) and not n.startswith("_")}
    abstract = MeasureMethods.__abstractmethods__
    assert own - abstract - {"measure"} <= set(MEASURES), "a method of MeasureMethods has no row in the registry"


@pytest.mark.parametrize("name", GRADIENT_MEASURES)
def test_a_method_of_a_set_begins_with_what_the_registry_says(name: str) -> None:
    expected = GRADIENT_MEASURES[name].description()
    method = getattr(RunGradients, name, None)
    assert method is not None, f"add the method {name} to trajsvc/results/gradient_methods.py:\n{expected}"
    found = " ".join((inspect.getdoc(method) or "").split())
    assert found.startswith(expected), (
        f"the docstring of GradientMethods.{name} must begin with what the registry of gradient measures says:\n{expected}"
    )


def test_no_method_of_a_set_is_of_another_measure() -> None:
    own = {n for n, m in vars(GradientMethods).items() if inspect.isfunction(m) and not n.startswith("_")}
    assert own - GradientMethods.__abstractmethods__ == set(GRADIENT_MEASURES)
