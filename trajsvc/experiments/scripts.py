"""An experiment from a script of your own: it writes checkpoints, trajsvc analyses them and asks you for the verdict.

::

    # mypackage/warmup.py, and in pyproject.toml:
    # [project.entry-points."trajsvc.experiments"]
    # warmup = "mypackage.warmup:EXPERIMENT"
    EXPERIMENT = script_experiment(
        Path(__file__).with_name("train.py"), {"warm": ["--warmup", "100"], "cold": []},
        title="Warm-up", claim="Warm-up raises MDS", criterion="mean MDS of `warm` above that of `cold`", verdict=judged,
    )

The script is called once for every member and seed as ``python train.py --output FOLDER --seed N`` with the member's words, and writes
its checkpoints into ``FOLDER``.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from storage_schema.files.regular import read_file, read_text
from trajsvc.errors import UsageError
from trajsvc.experiments.base import Experiment, Setting, Verdict
from trajsvc.experiments.families import analysed_family, run_folder
from trajsvc.results.run import Run

Judge = Callable[[Setting, Mapping[str, Sequence[Run]]], Verdict]
"""member → its runs, one a seed → what came out"""
_DONE = ".complete"


def script_experiment(
    script: Path,
    members: Mapping[str, Sequence[str]],
    *,
    title: str,
    claim: str,
    criterion: str,
    verdict: Judge,
    paper: str = "",
    figure: str = "",
    small: str = "",
    scale: str = "",
) -> Experiment:
    """Make an experiment of a script that writes checkpoints; its name is that of its entry point.

    A training that ended well is not repeated while the script and its words are the same.
    The recipe raises UsageError (``bad-experiment``) with the end of what the script wrote to standard error where it fails.
    """

    def recipe(setting: Setting) -> Verdict:
        name = setting.folder.name
        for member, words in members.items():
            for seed in setting.seeds:
                _train(script, words, run_folder(setting, name, member, seed), seed, setting)
        facts = {
            (member, seed): {"arguments": " ".join(words)}
            for member, words in members.items()
            for seed in setting.seeds
        }
        runs = analysed_family(setting, name, title, facts)
        return verdict(setting, {member: [runs[member, seed] for seed in setting.seeds] for member in members})

    return Experiment(
        script.stem, title, paper, figure, claim, criterion, small or f"python {script.name}", scale, recipe
    )


def _train(script: Path, words: Sequence[str], folder: Path, seed: int, setting: Setting) -> None:
    done = folder / _DONE
    command = [sys.executable, str(script), "--output", str(folder), "--seed", str(seed), *words]
    told = f"{hashlib.sha256(read_file(script)).hexdigest()} {seed} {' '.join(words)}"
    if done.is_file() and read_text(done) == told:
        return
    folder.mkdir(parents=True, exist_ok=True)
    setting.note(f"{folder.name}: {script.name}")
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        setting.note("stopped")  # an interrupt reaches the script too: then it is none of its faults
        said = ended.stderr.strip()[-500:]
        raise UsageError(
            "bad-experiment", f"{script} ended with exit code {ended.returncode}: {said}", hint=" ".join(command)
        )
    done.write_text(told, "utf-8")
