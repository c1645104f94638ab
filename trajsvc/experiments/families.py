"""From trainings to a family: train its members, write its file, analyse each run and keep all of it in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trajsvc.analysis.analyze import analyze
from trajsvc.experiments.base import Setting
from trajsvc.experiments.training import Training, briefer, member_facts, train
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
        results[name, seed] = train(training, setting.folder / "runs" / _run_name(experiment, name, seed), setting)
    file = setting.folder / "family.toml"
    file.write_text(_family_text(experiment, title, chosen), "utf-8")
    family = load_family(file)
    save_family(setting.store, family)
    found: dict[str, list[Trained]] = {name: [] for name in members}
    for (name, seed), training in chosen.items():
        member = family.member(_run_name(experiment, name, seed))
        setting.note(f"analysing {member.name}")
        run = analyze(member.source, store=setting.store, name=member.name, replace=True)
        found[name].append(Trained(training, results[name, seed], run))
    return found


def _run_name(experiment: str, member: str, seed: int) -> str:
    return f"{experiment}-{member}-seed{seed}"


def _family_text(experiment: str, title: str, chosen: Mapping[tuple[str, int], Training]) -> str:
    lines = [f"name = {json.dumps(f'experiment-{experiment}')}", f"title = {json.dumps(title)}"]
    for (name, seed), training in chosen.items():
        run = _run_name(experiment, name, seed)
        lines += [
            "",
            "[[runs]]",
            f"name = {json.dumps(run)}",
            f"source = {json.dumps(f'runs/{run}')}",
            f"seed = {seed}",
        ]
        facts = {"member": name, **member_facts(training)}
        lines += ["[runs.hyperparameters]", *(f"{key} = {json.dumps(value)}" for key, value in facts.items())]
    return "\n".join(lines) + "\n"
