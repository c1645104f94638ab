"""The made runs: what they say is wrong with them is what a listing shows, and nothing else is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from hub_server import HubServer
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile
from published import PYTHIA_STEPS, faulty_pythia, olmo_like, pythia_like
from safetensors.torch import load_file

StartHub = Callable[..., HubServer]


def digests(served: HubServer, repo: str, revision: str) -> dict[str, str]:
    """File → SHA-256, of a revision's weights, as its listing says."""
    tree = HfApi(endpoint=served.endpoint).list_repo_tree(repo, revision=revision, recursive=True)
    return {e.path: e.lfs.sha256 for e in tree if isinstance(e, RepoFile) and e.lfs is not None}


def test_the_faults_of_a_published_run_are_those_that_it_says(hub: StartHub, tmp_path: Path) -> None:
    published = faulty_pythia(tmp_path, swap=True)
    served, faults, name = hub(published.repos), published.faults, published.repo.id
    branches = {b.name for b in HfApi(endpoint=served.endpoint).list_repo_refs(name).branches}
    assert branches == {"main"} | {f"step{s}" for s in faults["steps"]}
    assert not branches & {f"step{s}" for s in faults["missing"]}
    main = digests(served, name, "main")
    assert len(main) == 3
    found = {step: digests(served, name, f"step{step}") for step in faults["steps"]}
    last = faults["steps"][-1]
    assert {s for s, files in found.items() if files == main} == {*faults["same_as_main"], last}
    a, b = faults["shared"]
    assert found[a] == found[b] != main
    stray, shard = faults["stray_shard"]
    assert [f for f in main if found[stray][f] == main[f]] == [shard]
    assert [s for s, files in found.items() if not files] == [faults["no_weights"]]
    own = [s for s in faults["steps"] if found[s] and s not in (*faults["same_as_main"], last, b)]
    assert len({tuple(found[s].values()) for s in own}) == len(own), "all others differ"
    clean = pythia_like(
        tmp_path / "clean", steps=(*faults["swapped"], last), form="sharded-safetensors", hidden=16, vocab=32
    )
    hub_of_clean = hub(clean.repos)
    one, two = faults["swapped"]
    assert digests(hub_of_clean, clean.repo.id, f"step{one}") == found[two]
    assert digests(hub_of_clean, clean.repo.id, f"step{two}") == found[one]


def test_every_form_holds_the_same_parameters(tmp_path: Path) -> None:
    pythia_like(tmp_path, steps=(0, 1, 2, 4), form="mixed", hidden=16, layers=1, main_dtype="float16")
    files = {s: sorted(p.name for p in (tmp_path / f"step{s}").iterdir()) for s in (0, 1, 2, 4)}
    assert files[0] == ["model.safetensors"]
    assert files[1] == ["pytorch_model.bin"]
    assert [len(files[s]) for s in (2, 4)] == [4, 4]
    states = [
        load_file(tmp_path / "step0" / "model.safetensors"),
        torch.load(tmp_path / "step1" / "pytorch_model.bin", weights_only=True),
    ]
    for step, load in ((2, load_file), (4, lambda path: torch.load(path, weights_only=True))):
        parts = [load(tmp_path / f"step{step}" / n) for n in files[step] if not n.endswith(".json")]
        states.append({n: t for part in parts for n, t in part.items()})
    main = torch.load(tmp_path / "main" / "pytorch_model-00001-of-00003.bin", weights_only=True)
    names = set(states[0])
    assert all(set(state) == names for state in states)
    assert {n.rsplit("attention.", 1)[1] for n in names if n.endswith((".bias", "masked_bias", "inv_freq")) and "0.attention." in n} == {
        "bias", "masked_bias", "rotary_emb.inv_freq", "query_key_value.bias", "dense.bias",
    }  # fmt: skip
    assert states[0]["gpt_neox.layers.0.attention.bias"].dtype == torch.uint8
    weight = states[0]["gpt_neox.layers.0.attention.dense.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, weight.half().float()), "float32 that holds float16 values"
    assert main["gpt_neox.embed_in.weight"].dtype == torch.float16
    assert torch.equal(main["gpt_neox.embed_in.weight"].float(), states[3]["gpt_neox.embed_in.weight"])


def test_paths_of_made_runs_are_smooth_and_not_straight(tmp_path: Path) -> None:
    steps = tuple(range(0, 1001, 100))
    pythia_like(tmp_path, steps=steps, hidden=16, layers=1, buffers=False)
    points = [
        torch.cat([t.flatten() for t in load_file(tmp_path / f"step{s}" / "model.safetensors").values()]).double()
        for s in steps
    ]
    updates = [b - a for a, b in pairwise(points)]
    turns = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in pairwise(updates)]
    assert all(0 < turn < 0.999 for turn in turns)
    away = [float((p - points[0]).norm()) for p in points]
    assert away == sorted(away)


def test_names_of_other_families(hub: StartHub, tmp_path: Path) -> None:
    olmo = olmo_like(tmp_path / "olmo", hidden=8, shared=True)
    served = hub(olmo.repos)
    branches = {b.name for b in HfApi(endpoint=served.endpoint).list_repo_refs(olmo.repo.id).branches}
    assert {"main", "stage1-step101000-tokens424B", "stage2-ingredient1-step11931-tokens100B"} <= branches
    assert branches == {"main", *olmo.faults["branches"]}
    labels, shard = olmo.faults["shared_shard"]
    assert len(labels) == 3
    found = [digests(served, olmo.repo.id, label) for label in labels]
    assert len({f[shard] for f in found}) == 1
    assert len({tuple(f.values()) for f in found}) == 3
    assert len(PYTHIA_STEPS) == 154


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    sums = []
    for name in ("one", "two"):
        pythia_like(tmp_path / name, steps=(0, 1, 2, 4), hidden=16, layers=1, form="mixed")
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        sums.append([(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files])
    assert sums[0] == sums[1]
    assert len(sums[0]) == 12
