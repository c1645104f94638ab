"""The command as a process: quick, clean streams, quiet on a closed pipe, 130 on ^C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import Cli

COMMAND = [sys.executable, "-c", "from trajsvc.cli.main import run; run()"]
HEAVY = (
    "dask",
    "distributed",
    "fastapi",
    "torch",
    "scipy",
    "llvmlite",
    "xarray",
    "zarr",
    "matplotlib",
    "pandas",
    "ruptures",
)


def trajsvc(store: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=600, env=_environment(store, **environment)
    )


def _environment(store: Path, **extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRAJSVC", "FORCE_COLOR", "COLUMNS"))}
    return {**kept, "TRAJSVC_STORE": str(store), "PYTHONPATH": os.pathsep.join(sys.path), **extra}


@pytest.mark.parametrize(
    "statement", ["import trajsvc", "import trajsvc; trajsvc.TrajsvcError", "import trajsvc.cli.main"]
)
def test_importing_is_cheap(statement: str, store: Path) -> None:
    heavy = HEAVY if "cli" in statement else (*HEAVY, "numpy")
    code = f"import sys\n{statement}\nprint([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=_environment(store), check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_command_is_registered_by_the_module_that_is_imported_for_it() -> None:
    import typer

    from trajsvc.cli.main import COMMANDS, make_app

    assert set(typer.main.get_command(make_app()).commands) == set(COMMANDS)  # type: ignore[attr-defined]
    for command in COMMANDS:
        assert command in typer.main.get_command(make_app(command)).commands  # type: ignore[attr-defined]


def test_the_public_names_are_all_there() -> None:
    import trajsvc as package

    assert package.__version__
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="nothing_such"):
        package.nothing_such  # noqa: B018


def imported(commands: list[list[str]], modules: tuple[str, ...], store: Path) -> list[object]:
    """Run commands one after the other in a process of their own: after each its exit code, and which of ``modules`` were imported."""
    code = (
        f"import json, sys\nfrom trajsvc.cli.main import run\nfor words in {commands!r}:\n"
        "    sys.argv, code = ['trajsvc', *words], 0\n"
        "    try:\n        run()\n    except SystemExit as done:\n        code = done.code or 0\n"
        f"    print('\\n' + json.dumps([code, [m for m in {modules!r} if m in sys.modules]]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(store))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]


@pytest.mark.slow
def test_an_analysis_on_a_cpu_needs_no_torch(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    forms = ("model.safetensors", "pytorch_model.bin", "model.pt")
    for form in forms:
        for step in range(3):
            folder = tmp_path / form / f"step{step}"
            folder.mkdir(parents=True)
            state = {
                "layers.0.weight": torch.full((4, 5), 1.0 + step),
                "layers.1.weight": torch.arange(6.0) * (step + 1),
            }
            save = save_file if form.endswith("safetensors") else torch.save
            save(state, folder / form)
    commands = [["analyze", str(tmp_path / form), "--no-figures", "-q", "--name", form] for form in forms]
    commands += [["show", form] for form in forms]
    assert imported(commands, ("torch",), tmp_path / "store") == [[0, []]] * len(commands)


def test_reading_needs_neither_torch_nor_matplotlib(store: Path) -> None:
    commands = [["ls"], ["map", "nano"], ["measures", "nano"], ["layers", "nano"], ["qkv", "nano"]]
    assert imported(commands, HEAVY, store) == [[0, []]] * len(commands)


def test_stdout_is_clean_json_and_stderr_empty(store: Path) -> None:
    done = trajsvc(store, "measures", "nano", "--group", "layer/0", "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["group"] == "layer/0"
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ls"], 0),
        (["--version"], 0),
        (["--help"], 0),
        (["map", "nobody"], 4),
        (["map", "nano", "--steps", "x"], 2),
        (["nothing"], 2),
    ],
)
def test_exit_codes(store: Path, arguments: list[str], code: int) -> None:
    done = trajsvc(store, *arguments)
    assert done.returncode == code
    assert (done.stdout == "") == (code != 0)
    assert "Traceback" not in done.stderr


def test_a_damaged_store_is_an_error_and_not_an_answer(tmp_path: Path) -> None:
    import made_runs

    made_runs.commit(tmp_path, made_runs.make("hurt", made_runs.transformer_blocks(1), [0, 1, 2]))
    chunk = max(
        (tmp_path / "runs" / "hurt.zarr" / "gram").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else -1
    )
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    done = trajsvc(tmp_path, "map", "hurt")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "gram" in done.stderr


@pytest.mark.slow
def test_colour_only_where_it_is_wanted(store: Path) -> None:
    assert "\x1b[" not in trajsvc(store, "show", "nano").stdout
    assert "\x1b[38" in trajsvc(store, "map", "nano", FORCE_COLOR="1", COLORTERM="truecolor").stdout
    assert "\x1b[38" not in trajsvc(store, "map", "nano", FORCE_COLOR="1", NO_COLOR="1").stdout


@pytest.mark.dear
@pytest.mark.timing
def test_a_closed_pipe_is_quiet(store: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, "groups", "nano", "--format", "json"],
            stdout=writer, stderr=subprocess.PIPE, text=True, env=_environment(store), timeout=600,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.dear
@pytest.mark.timing
@pytest.mark.parametrize("words", [["show", "nano"], ["measures", "nano", "--format", "csv"], ["ls", "--help"]])
def test_a_reader_that_wants_the_first_line_alone(store: Path, words: list[str]) -> None:
    shell = f"set -o pipefail; {shlex.join([*COMMAND, *words])} | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=_environment(store), timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.dear
@pytest.mark.timing
def test_an_interrupt_exits_130_without_a_traceback(store: Path) -> None:
    # Reading is too quick to interrupt: a part of it is made to wait.
    code = (
        "import time\nfrom trajsvc.cli import show\nfrom trajsvc.results import answers\n"
        "def wait(*_):\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "answers.run_row = wait\nfrom trajsvc.cli.main import run\nrun()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ls"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(store),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_help_is_worth_reading(cli: Cli) -> None:
    text = cli("--help", store=False).stdout
    for word in ("ls", "show", "groups", "map", "measures", "qkv", "layers", "compare", "Examples", "Exit codes"):
        assert word in text
    for command in ("ls", "show", "groups", "map", "measures", "qkv", "layers", "compare"):
        assert "Example" in cli(command, "--help", store=False).stdout
