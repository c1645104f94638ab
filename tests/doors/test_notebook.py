"""A run in a notebook: its HTML, its plots on axes, and its tables; of a stored run, and of a server's."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from made_runs import STEPS, Made, commit, cosines, make, transformer_blocks

import trajsvc
from trajsvc.errors import NotFound, UsageError

matplotlib.use("Agg")


@pytest.fixture
def run(store: Path) -> trajsvc.Run:
    return trajsvc.open(store, "nano")


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    from matplotlib import pyplot

    pyplot.close("all")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_a_run_shows_what_it_is_and_a_map_whose_pixels_are_its_cosines(run: trajsvc.Run, made: Made) -> None:
    from matplotlib.image import imread

    from trajsvc.figures.maps import scale_of

    html = run._repr_html_()
    said = "|".join(parsed(html).text)
    assert "nano" in said
    assert f"{len(STEPS)}, step 0 … 64" in said
    assert f"MDS {run.mds():.4g}" in said
    assert "steps 8, 16 hold [the same]" in said
    found = re.search(r"base64,([^\"]+)", html)
    assert found is not None
    pixels = imread(io.BytesIO(base64.b64decode(found[1])))
    expected = cosines(made.vectors())
    scale = scale_of([expected])
    colours = scale.colormap()((expected - scale.low) / (scale.high - scale.low))
    np.testing.assert_allclose(pixels, colours, atol=1.01 / 255)


def test_text_of_a_run_is_escaped_and_its_summary_bounded(tmp_path: Path) -> None:
    hostile = "<script>alert('x')</script>" + "y" * 10_000
    findings = [
        {
            "kind": "identical",
            "severity": "warning",
            "message": f"{k} {hostile}",
            "steps": [],
            "tensors": [],
            "details": {},
        }
        for k in range(400)
    ]
    steps = list(range(400))
    commit(tmp_path, make("long", transformer_blocks(1, 2), steps), findings=findings, source=f"/data/{hostile}")
    html = trajsvc.open(tmp_path, "long")._repr_html_()
    tags = parsed(html)
    assert set(tags.names) <= {"div", "img", "table", "tr", "th", "td", "strong"}
    assert "&lt;script&gt;" in html
    assert "and 395 more in run.findings" in "".join(tags.text)
    assert len(html) < 200_000


def test_a_run_of_one_checkpoint_shows_no_map(tmp_path: Path) -> None:
    commit(tmp_path, make("one", transformer_blocks(1), [7]))
    html = trajsvc.open(tmp_path, "one")._repr_html_()
    assert "<img" not in html
    assert "1, step 7" in html


def test_a_map_is_drawn_on_the_axes_that_are_given_or_on_new_ones(run: trajsvc.Run, made: Made) -> None:
    from matplotlib import pyplot

    _, (left, right) = pyplot.subplots(1, 2)
    assert run.plot.map("layer/1", right, origin=0) is right
    assert not left.images
    points = made.vectors(layer="1")
    expected = cosines(np.delete(points - points[0], 0, axis=0))
    np.testing.assert_allclose(np.asarray(right.images[0].get_array()), expected, rtol=1e-9)
    assert "layer/1, relative to step 0" in right.get_title()
    alone = run.plot.map()
    assert alone.figure is not right.figure


def test_curves_lie_on_one_axis_with_the_numbers_of_the_measures(run: trajsvc.Run, made: Made) -> None:
    axes = run.plot.curves(["norm", "distance_from_init"], group="layer/0")
    points = made.vectors(layer="0")
    norm, distance = axes.get_lines()
    assert norm.get_xdata().tolist() == STEPS
    np.testing.assert_allclose(norm.get_ydata(), np.linalg.norm(points, axis=1), rtol=1e-9)
    np.testing.assert_allclose(distance.get_ydata(), np.linalg.norm(points - points[0], axis=1), rtol=1e-9)
    assert run.plot.curves("update_angle", axes) is axes
    assert len(axes.get_lines()) == 3
    for names in (["norm", "update_angle"], ["mds"], ["trajectory_map"], ["mu_lag", "norm"]):
        with pytest.raises(UsageError) as caught:
            run.plot.curves(names)
        assert caught.value.kind == "no-curve"


def test_layers_and_attention_are_drawn_by_depth(run: trajsvc.Run, store: Path) -> None:
    axes = run.plot.layers("mds")
    (line,) = axes.get_lines()
    assert line.get_ydata().tolist() == run.layers()["mds"].values.tolist()
    for what, columns in (
        ("rms", "rms_qk rms_qv rms_kv"),
        ("settling", "settling_step_q settling_step_k settling_step_v"),
    ):
        drawn = [line.get_ydata() for line in run.plot.qkv(what).get_lines()]
        table = run.qkv()
        np.testing.assert_allclose(drawn, [table[name].values for name in columns.split()])
    with pytest.raises(UsageError, match="nothing_such"):
        run.plot.layers("nothing_such")
    with pytest.raises(UsageError, match="colour"):
        run.plot.qkv("colour")
    with pytest.raises(NotFound) as caught:
        trajsvc.open(store, "mlp").plot.qkv()
    assert caught.value.kind == "no-attention"


def test_answers_are_tables(run: trajsvc.Run, made: Made) -> None:
    frame = run.measures(names=["mds", "update_norm"]).to_dataframe()
    assert list(frame.columns) == ["measure", "axis", "at", "axis_2", "at_2", "value"]
    assert frame.value.dtype == np.float64
    norms = frame[frame.measure == "update_norm"]
    assert norms["at"].tolist() == STEPS[1:]
    np.testing.assert_allclose(norms.value, np.linalg.norm(np.diff(made.vectors(), axis=0), axis=1))
    groups = run.groups().to_dataframe()
    assert groups.loc["layer/1", "parameters"] == made.vectors(layer="1").shape[1]
    assert run.findings.to_dataframe()["message"].tolist() == ["steps 8, 16 hold [the same]"]
    assert run.excluded.to_dataframe()["step"].tolist() == [48]
    assert run.explain().to_dataframe()["text"].tolist() == [said.text for said in run.explain()]
    phases = run.phases().to_dataframe()
    assert phases["start_step"].tolist() == [phase.start_step for phase in run.phases()]
    assert run.measures()["measures"]["mds"] == run.mds()


def test_opening_a_run_imports_no_figures(store: Path) -> None:
    import subprocess
    import sys

    program = (
        f"import sys, trajsvc; run = trajsvc.open({str(store)!r}, 'nano'); run.mds(); "
        "assert 'matplotlib' not in sys.modules and 'pandas' not in sys.modules; "
        "run._repr_html_(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
