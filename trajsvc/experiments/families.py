"""From trainings to a family: train its members, write its file, analyse each run and keep all of it in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage_schema.runs.store import RunStore
from trajsvc.analysis.analyze import analyze
from trajsvc.experiments.base import Setting
from trajsvc.experiments.result import family_of, tag_of
from trajsvc.experiments.scaled_training import trained_at_scale
from trajsvc.experiments.training import Training, briefer, member_facts, train, trained_on_digits
from trajsvc.families.file import load_family, save_family
from trajsvc.results.run import Run


@dataclass(frozen=True)
class Trained:
    """One member: its training, what it came to on the test data, and its run."""

    training: Training
    result: Mapping[str, Any]
    run: Run

    def measure(self, name: str) -> float:
        """Return a scalar measure of the network."""
        return float(getattr(self.run, name)())


def trained_family(
    setting: Setting, experiment: str, title: str, members: Mapping[str, Training]
) -> dict[str, list[Trained]]:
    """Member → one run for each seed. The family is ``experiment-NAME`` in the store, its file ``family.toml`` in the folder."""
    chosen = {
        (name, seed): briefer(Training(**{**vars(training), "seed": seed}), setting)
        for name, training in members.items()
        for seed in setting.seeds
    }
    results = {}
    for (name, seed), training in chosen.items():
        trainer = trained_on_digits if training.data == "digits" else trained_at_scale
        results[name, seed] = train(training, run_folder(setting, experiment, name, seed), setting, trainer)
    facts = {key: member_facts(training) for key, training in chosen.items()}
    runs = analysed_family(setting, experiment, title, facts)
    found: dict[str, list[Trained]] = {name: [] for name in members}
    for (name, seed), training in chosen.items():
        found[name].append(Trained(training, results[name, seed], runs[name, seed]))
    return found


def run_folder(setting: Setting, experiment: str, member: str, seed: int) -> Path:
    """Return the folder of a member's checkpoints."""
    return setting.folder / "runs" / _run_name(experiment, member, seed)


def analysed_family(
    setting: Setting, experiment: str, title: str, facts: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[tuple[str, int], Run]:
    """Write the family of trained members, analyse each, and tag family and runs ``experiment:NAME``: (member, seed) → its run.

    ``facts`` are hyperparameters.
    """
    file = setting.folder / "family.toml"
    file.write_text(_family_text(experiment, title, facts), "utf-8")
    family = load_family(file)
    save_family(setting.store, family)
    found = {}
    for name, seed in facts:
        member = family.member(_run_name(experiment, name, seed))
        setting.note(f"analysing {member.name}")
        found[name, seed] = analyze(member.source, store=setting.store, name=member.name, replace=True)
        RunStore(setting.store).tag(member.name, add=[tag_of(experiment)])
    return found


def _run_name(experiment: str, member: str, seed: int) -> str:
    return f"{experiment}-{member}-seed{seed}"


def _family_text(experiment: str, title: str, facts: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    lines = [
        f"name = {json.dumps(family_of(experiment))}",
        f"title = {json.dumps(title)}",
        f"tags = {json.dumps([tag_of(experiment)])}",
    ]
    for (name, seed), values in facts.items():
        run = _run_name(experiment, name, seed)
        lines += [
            "",
            "[[runs]]",
            f"name = {json.dumps(run)}",
            f"source = {json.dumps(f'runs/{run}')}",
            f"seed = {seed}",
        ]
        told = {"member": name, **values}
        lines += ["[runs.hyperparameters]", *(f"{key} = {json.dumps(value)}" for key, value in told.items())]
    return "\n".join(lines) + "\n"
