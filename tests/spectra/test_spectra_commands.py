"""``trajsvc spectra`` on the command line: what is printed, written and refused; killed, it goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_checkpoints import STEPS, stored_run, walk
from typer.testing import CliRunner, Result

from trajsvc.cli.main import make_app
from trajsvc.cli.spectrum_options import SPECTRA, make_spectrum_options
from trajsvc.errors import UsageError
from trajsvc.spectra.options import SpectrumOptions

Cli = Callable[..., Result]
LAYERS = {
    f"layers.{i}.{name}.weight": shape for i in range(3) for name, shape in (("up", (30, 22)), ("down", (22, 30)))
}


@pytest.fixture(scope="module")
def store(memory_folders: Callable[[], Path]) -> Path:
    made = {name: walk(shape, torch.float32, seed) for seed, (name, shape) in enumerate(LAYERS.items())}
    return stored_run(memory_folders(), [{name: values[t] for name, values in made.items()} for t in range(len(STEPS))])


@pytest.fixture(scope="module")
def cli(store: Path) -> Cli:
    def run(command: str, *more: str, code: int = 0) -> Result:
        words = ["spectra", command, "run", "--store", str(store), *more]
        done = CliRunner().invoke(make_app("spectra"), words)
        assert done.exit_code == code, done.output
        return done

    assert "no spectra" in run("ls").stdout
    assert json.loads(run("compute", "--format", "json").stdout)["computed"] == list(STEPS)
    return run


def test_measures_are_in_the_shape_of_machine_output(cli: Cli) -> None:
    found = json.loads(cli("measures", "--tensor", "layers.1.up.weight", "--of", "updates", "--format", "json").stdout)
    assert {"run", "tensor", "of", "steps", "measures"} <= set(found)
    assert (found["run"], found["tensor"], found["of"]) == ("run", "layers.1.up.weight", "updates")
    assert found["steps"] == list(STEPS[1:])
    assert {"sigma_1", "frobenius", "stable_rank", "effective_rank", "power_law"} <= set(found["measures"])
    assert all(len(values) == 3 for values in found["measures"].values())
    by_id = json.loads(
        cli("measures", "--tensor", "tensor/layers.1.up.weight", "--of", "updates", "--format", "json").stdout
    )
    assert by_id == found


@pytest.mark.slow
def test_tables_for_people_and_programs(cli: Cli, tmp_path: Path) -> None:
    assert "weights" in cli("ls").stdout
    assert "stable_rank" in cli("measures", "--tensor", "layers.0.up.weight").stdout
    assert "layers.2.down.weight" in cli("layers").stdout
    assert "svd" in cli("plan").stdout
    plan = json.loads(cli("plan", "--format", "json", "--of", "weights").stdout)
    assert (len(plan["matrices"]), plan["decompositions"]) == (6, 4)
    rows = list(csv.DictReader(cli("layers", "--names", "rank", "--format", "csv").stdout.splitlines()))
    assert len(rows) == 6 * 4
    assert {row["value"] for row in rows} == {"22.0"}
    values = list(
        csv.DictReader(cli("values", "--tensor", "layers.0.up.weight", "--format", "csv").stdout.splitlines())
    )
    assert len(values) == 22 * 4
    for words in (["measures", "--tensor", "layers.0.up.weight"], ["layers"], ["layers", "--names", "stable_rank"]):
        target = tmp_path / f"{len(words)}.png"
        cli(*words, "-o", str(target))
        assert target.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_figure_is_of_the_measures_that_are_named(cli: Cli, tmp_path: Path) -> None:
    words = ("measures", "--tensor", "layers.0.up.weight")
    cli(*words, "--names", "frobenius,rank", "-o", str(tmp_path / "named.svg"))
    cli(*words, "-o", str(tmp_path / "all.svg"))
    named, every = ((tmp_path / f"{name}.svg").read_text() for name in ("named", "all"))
    assert "frobenius" in named
    assert ">rank<" in named
    assert "stable rank" not in named
    assert "stable rank" in every
    for said in ("run: layers.0.up.weight", ">step<"):
        assert said in named
    refused = cli("layers", "--heads", "-o", str(tmp_path / "heads.png"), code=2)
    assert "whole matrices" in refused.output


def test_what_is_wrong_is_said(cli: Cli) -> None:
    assert "layers.0" in cli("measures", "--tensor", "layers.9.up.weight", code=4).output
    assert "--of is one of" in cli("measures", "--tensor", "layers.0.up.weight", "--of", "gradients", code=2).output
    assert "no layer of run has Q, K and V" in cli("qkv", "-o", "x.png", code=2).output
    with pytest.raises(UsageError):
        make_spectrum_options({"of": "gradients"})


def test_every_option_is_a_field() -> None:
    assert set(SPECTRA) == set(SpectrumOptions.model_fields)


@pytest.mark.slow
@pytest.mark.dear
@pytest.mark.timing
def test_a_killed_computation_goes_on_where_it_was(memory_folders: Callable[[], Path]) -> None:
    walks = [walk((40, 40), torch.float32, seed) for seed in range(4)]
    made = [{f"{i}.weight": found[t] for i, found in enumerate(walks)} for t in range(len(STEPS))]
    store = stored_run(memory_folders(), made)
    line = [sys.executable, "-m", "trajsvc", "spectra", "compute", "run", "--store", str(store)]
    killed = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=dict(os.environ))
    assert killed.stderr is not None
    with killed.stderr:
        for said in killed.stderr:
            if b"step 20" in said:  # those before are stored
                killed.send_signal(signal.SIGKILL)
                break
    assert killed.wait() == -signal.SIGKILL
    done = subprocess.run([*line, "--format", "json"], capture_output=True, text=True, check=True, env=dict(os.environ))
    found = json.loads(done.stdout)
    assert {0, 10} <= set(found["there"])
    assert set(found["computed"]) <= {20, 30}
    assert sorted([*found["there"], *found["computed"]]) == list(STEPS)
