"""Small runs shaped like published ones, with what is known to be wrong with those. The same arguments give the same bytes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hub_repos import Repo, Revision, files_of, repo_of
from published_weights import (
    FORMS,
    ROUNDED,
    Form,
    State,
    bert_shapes,
    olmo_shapes,
    pythia_buffers,
    pythia_shapes,
    state_at,
    weights_in,
    write_json,
    write_state,
)

PYTHIA_STEPS: Final = (0, *(2**k for k in range(10)), *range(1000, 143001, 1000))
"""The steps of every Pythia run: 154."""
SOME_STEPS: Final = (*PYTHIA_STEPS[:12], *range(10000, 143000, 10000), 143000)


@dataclass(frozen=True)
class Published:
    """Repositories, the folder that they are served from, and what is wrong (or to be known) about them."""

    repos: tuple[Repo, ...]
    folder: Path
    faults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def repo(self) -> Repo:
        """The repository of a run that has one."""
        (only,) = self.repos
        return only


def _pythia_config(folder: Path, layers: int, hidden: int, heads: int, vocab: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": hidden, "intermediate_size": 4 * hidden,
        "num_attention_heads": heads, "num_hidden_layers": layers, "vocab_size": vocab, "max_position_embeddings": 16,
        "rotary_pct": 0.25, "rotary_emb_base": 10000, "hidden_act": "gelu", "layer_norm_eps": 1e-05,
        "tie_word_embeddings": False, "use_parallel_residual": True, "torch_dtype": "float16",
    })  # fmt: skip


def pythia_like(
    folder: Path, *, id: str = "EleutherAI/pythia-tiny", layers: int = 2, hidden: int = 64, heads: int = 4, vocab: int = 128,
    steps: Sequence[int] = (0, 1, 2, 4, 8, 16, 1000, 2000), form: Form = "safetensors", dtype: str = ROUNDED,
    main_dtype: str | None = None, buffers: bool = True, seed: int = 0,
) -> Published:  # fmt: skip
    """A run with a branch ``step<N>`` for each step; ``main`` is the last, stored in ``main_dtype`` if that is given.

    ``form`` is that of every revision; ``mixed`` takes the four of ``FORMS`` in turn. Folders ``step<N>`` lie in ``folder``.
    """
    shapes, extra = pythia_shapes(layers, hidden, vocab), pythia_buffers(layers, hidden, heads) if buffers else {}
    _pythia_config(folder, layers, hidden, heads, vocab)
    (folder / "README.md").write_text(f"A network of {layers} layers, made for tests.\n")

    def write(name: str, step: int, number: int, dtype: str) -> None:
        state = state_at(shapes, step, max(steps), seed=seed, dtype=dtype) | extra
        write_state(folder / name, state, FORMS[number % len(FORMS)] if form == "mixed" else form)

    for number, step in enumerate(steps):
        write(f"step{step}", step, number, dtype)
    if main_dtype is not None:
        write("main", steps[-1], len(steps) - 1, main_dtype)
    return Published((repo_of(id, folder),), folder)


def faulty_pythia(
    folder: Path, *, id: str = "EleutherAI/pythia-faulty", steps: Sequence[int] = SOME_STEPS,
    swap: bool = False, hidden: int = 16, vocab: int = 32,
) -> Published:  # fmt: skip
    """A run in three shards a revision, with the faults that published Pythia runs have. ``steps`` are at least 16.

    ``faults``: ``same_as_main`` (steps whose every file is that of ``main``, without the last), ``shared`` (two steps with the same
    files), ``stray_shard`` ((step, file): the file is that of ``main``, the step's others are its own), ``no_weights`` (a step with
    a config alone), ``missing`` (steps without a branch), ``swapped`` (two steps, each with the other's weights; empty without
    ``swap``), ``steps`` (those that have a branch).
    """
    ordered = sorted(steps)
    if len(ordered) < 16:
        raise ValueError("16 steps at least, so that the faults do not meet")
    third, last = len(ordered) // 3, ordered[-1]
    same = ordered[1:third]
    shared, stray, empty, swapped = (
        ordered[third : third + 2],
        ordered[third + 3],
        ordered[third + 5],
        ordered[third + 7 : third + 9],
    )
    missing = [ordered[third + 4], ordered[-3]]
    there = [s for s in ordered if s not in missing]
    run = pythia_like(folder, id=id, steps=there, form="sharded-safetensors", hidden=hidden, vocab=vocab)
    for step in same:
        _copy_weights(folder, last, step)
    _copy_weights(folder, *shared)
    (shard, *_) = weights_in(files_of(folder / f"step{last}"))
    shutil.copyfile(folder / f"step{last}" / shard, folder / f"step{stray}" / shard)
    for path in files_of(folder / f"step{empty}").values():
        path.unlink()
    (folder / f"step{empty}" / "generation_config.json").write_text("{}\n")
    if swap:
        a, b = (folder / f"step{step}" for step in swapped)
        a.rename(folder / "swapped")
        b.rename(a)
        (folder / "swapped").rename(b)
    faults = {
        "same_as_main": tuple(same), "shared": tuple(shared), "stray_shard": (stray, shard), "no_weights": empty,
        "missing": tuple(sorted(missing)), "swapped": tuple(swapped) if swap else (), "steps": tuple(there),
    }  # fmt: skip
    return Published((repo_of(run.repo.id, folder),), folder, faults)


def _copy_weights(folder: Path, source: int, target: int) -> None:
    for name, path in files_of(folder / f"step{source}").items():
        shutil.copyfile(path, folder / f"step{target}" / name)


def olmo_like(
    folder: Path, *, id: str = "allenai/OLMo-2-tiny", stage1: Sequence[int] = (1000, 101000, 175000, 300000, 928646),
    stage2: Sequence[int] = (1000, 5000, 11931), ingredients: int = 3, layers: int = 2, hidden: int = 32, heads: int = 4, vocab: int = 64,
    shared: bool = False,
) -> Published:  # fmt: skip
    """A run in two stages; branches as ``stage1-step101000-tokens424B`` and ``stage2-ingredient1-step11931-tokens100B``.

    Every ingredient goes on from the end of stage 1; ``main`` is the mean of their ends. ``shared``: steps 101000, 175000 and
    300000 hold the same first shard, as published. ``faults``: ``branches`` (label → (stage, ingredient or None, step)),
    ``shared_shard`` (labels, file).
    """
    shapes, end = olmo_shapes(layers, hidden, vocab), stage1[-1] + stage2[-1]
    _olmo_config(folder, layers, hidden, heads, vocab)
    labels: dict[str, tuple[int, int | None, int]] = {}
    for step in stage1:
        label = f"stage1-step{step}-tokens{math.ceil(step * 4.194304e-3)}B"
        labels[label] = (1, None, step)
        write_state(folder / label, state_at(shapes, step, end, dtype="bfloat16"), "sharded-safetensors", shards=2)
    ends: list[State] = []
    for ingredient in range(1, ingredients + 1):
        for step in stage2:
            label = f"stage2-ingredient{ingredient}-step{step}-tokens{math.ceil(step * 8.388e-3 - 0.5)}B"
            labels[label] = (2, ingredient, step)
            before = state_at(shapes, stage1[-1] + step, end, dtype="float32")
            own = state_at(shapes, step, end, seed=ingredient, dtype="float32")
            state = {n: (before[n] + step / end * own[n]).bfloat16() for n in shapes}
            write_state(folder / label, state, "sharded-safetensors", shards=2)
        ends.append(state)
    mean = {n: sum((s[n].float() for s in ends[1:]), ends[0][n].float()).div(len(ends)).bfloat16() for n in shapes}
    write_state(folder / "main", mean, "sharded-safetensors", shards=2)
    alike = [label for label, (stage, _, step) in labels.items() if stage == 1 and step in (101000, 175000, 300000)]
    (shard, *_) = weights_in(files_of(folder / "main"))
    for label in alike[1:] if shared else ():
        shutil.copyfile(folder / alike[0] / shard, folder / label / shard)
    faults: dict[str, Any] = {"branches": labels, "shared_shard": (tuple(alike), shard) if shared else ((), "")}
    return Published((repo_of(id, folder, "branches"),), folder, faults)


def _olmo_config(folder: Path, layers: int, hidden: int, heads: int, vocab: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {
        "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "hidden_size": hidden, "intermediate_size": 2 * hidden,
        "num_attention_heads": heads, "num_key_value_heads": heads, "num_hidden_layers": layers, "vocab_size": vocab,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    })  # fmt: skip


def multiberts_like(
    folder: Path, *, author: str = "google", seeds: Sequence[int] = (0, 1), thousands: Sequence[int] = (0, 20, 40, 100, 2000),
    layers: int = 2, hidden: int = 32, heads: int = 4, vocab: int = 64,
) -> Published:  # fmt: skip
    """A repository for each checkpoint, ``google/multiberts-seed_0-step_20k``, and one for each end, ``google/multiberts-seed_0``.

    ``faults``: ``ends`` (ids that name no step).
    """
    shapes = bert_shapes(layers, hidden, vocab)
    repos: list[Repo] = []
    for seed in seeds:
        names = {f"multiberts-seed_{seed}-step_{k}k": k for k in thousands} | {f"multiberts-seed_{seed}": thousands[-1]}
        for name, k in names.items():
            write_state(folder / name, state_at(shapes, k, thousands[-1], seed=seed, dtype="float32"), "bin")
            write_json(folder / name / "config.json", {
                "architectures": ["BertForPreTraining"], "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers,
                "num_attention_heads": heads, "intermediate_size": 4 * hidden, "vocab_size": vocab,
            })  # fmt: skip
            repos.append(repo_of(f"{author}/{name}", folder / name))
    return Published(tuple(repos), folder, {"ends": tuple(f"{author}/multiberts-seed_{seed}" for seed in seeds)})


def commits_like(
    folder: Path, *, id: str = "someone/run-in-commits", steps: Sequence[int] = (500, 1000, 1500, 2000), layers: int = 2,
    hidden: int = 32, heads: int = 4, vocab: int = 64,
) -> Published:  # fmt: skip
    """A run whose checkpoints are the commits of ``main``, as trainers push them, with commits between that change the README alone.

    ``faults``: ``titles`` (of all commits, oldest first), ``steps`` (title → step, of those that bring weights), ``readme_only``
    and ``no_weights`` (titles).
    """
    shapes = pythia_shapes(layers, hidden, vocab)
    attributes, readme = {".gitattributes": b"*.safetensors filter=lfs\n"}, "A run.\n"
    history: list[tuple[str, Mapping[str, Path | bytes]]] = [("initial commit", attributes)]
    brought: dict[str, int] = {}
    edits: list[str] = []
    for number, step in enumerate(steps):
        at = folder / f"step{step}"
        _pythia_config(at, layers, hidden, heads, vocab)
        write_state(at, state_at(shapes, step, steps[-1]), "safetensors")
        title = f"Training in progress, step {step}"
        brought[title] = step
        history.append((title, {**attributes, **files_of(at), "README.md": readme.encode()}))
        if number % 2 == 1:
            readme += f"Seen at step {step}.\n"
            edits.append(f"Update README.md ({len(edits) + 1})")
            history.append((edits[-1], {**history[-1][1], "README.md": readme.encode()}))
    (title, files), older = history[-1], history[:-1]
    faults = {
        "titles": tuple(t for t, _ in history),
        "steps": brought,
        "readme_only": tuple(edits),
        "no_weights": ("initial commit",),
    }
    return Published((Repo(id, {"main": Revision(files, older, title)}),), folder, faults)
