"""The tests' own Hub: the real client takes it for the Hub; it also runs as a process that can be steered and killed."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_asking import BODY, ask
from hub_server import HubServer, Repo, Revision
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from published import commits_like, multiberts_like, pythia_like

StartHub = Callable[..., HubServer]


def test_branches_tags_and_their_commits(hub: StartHub) -> None:
    same = Revision({"config.json": b"{}"}, title="Upload")
    served = hub(
        [Repo("org/run", {"main": same, "step0": same}, tags={"v1": same, "old": Revision({"config.json": b"[]"})})]
    )
    refs = HfApi(endpoint=served.endpoint).list_repo_refs("org/run")
    commits = {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}
    assert [b.ref for b in refs.branches] == ["refs/heads/main", "refs/heads/step0"]
    assert commits["main"] != commits["step0"], "two branches with the same files have commits of their own"
    assert commits["v1"] == commits["main"]
    assert len(set(commits.values())) == 3
    assert all(len(commit) == 40 and int(commit, 16) for commit in commits.values())


def test_commit_ids_are_those_of_another_server_over_the_same_files(tmp_path: Path) -> None:
    pythia_like(tmp_path / "run", steps=(0, 1), hidden=16)
    ids = []
    for _ in range(2):
        with HubServer(root=tmp_path) as served:
            ids.append({name: head.id for name, head in served.repos["local/run"].heads.items()})
    assert ids[0] == ids[1]
    assert list(ids[0]) == ["main", "step0", "step1"]


def test_a_tree_has_sizes_and_digests_page_by_page(hub: StartHub) -> None:
    files = {"config.json": b"{}", "model.safetensors": BODY, "deep/er/part.bin": b"part"}
    served = hub({"org/run": Revision(files)}, page_size=2)
    found = list(HfApi(endpoint=served.endpoint).list_repo_tree("org/run", recursive=True))
    by_path = {e.path: e for e in found if isinstance(e, RepoFile)}
    assert sorted(e.path for e in found if e.path not in by_path) == ["deep", "deep/er"]
    assert {path: e.size for path, e in by_path.items()} == {path: len(data) for path, data in files.items()}
    large = by_path["model.safetensors"].lfs
    assert large is not None
    assert large.sha256 == hashlib.sha256(BODY).hexdigest()
    assert by_path["config.json"].lfs is None
    assert by_path["config.json"].blob_id == hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert served.stats()["kinds"]["tree"] == 3


def test_a_flat_tree_and_one_of_a_folder(hub: StartHub) -> None:
    served = hub({"org/run": Revision({"a.json": b"", "in/b.json": b"", "in/deep/c.json": b""})})
    api = HfApi(endpoint=served.endpoint)
    assert [e.path for e in api.list_repo_tree("org/run")] == ["a.json", "in"]
    assert [e.path for e in api.list_repo_tree("org/run", "in")] == ["in/b.json", "in/deep"]
    assert [e.path for e in api.get_paths_info("org/run", ["in/b.json", "in", "nowhere"])] == ["in/b.json", "in"]


def test_downloads_are_the_bytes_through_another_host(apart: HubServer, tmp_path: Path) -> None:
    path = hf_hub_download(
        "org/run", "model.safetensors", endpoint=apart.endpoint, cache_dir=tmp_path, token="hf_canary"
    )
    assert Path(path).read_bytes() == BODY
    hosts = {s.path.split("/")[1]: (s.host.split(":")[0], s.authorization) for s in apart.seen}
    assert hosts == {"org": ("127.0.0.1", "Bearer hf_canary"), "_cdn": ("localhost", None)}


def test_headers_of_safetensors_are_read_by_the_client(hub: StartHub, tmp_path: Path) -> None:
    published = pythia_like(tmp_path, steps=(0, 1), hidden=16, layers=1)
    served = hub(published.repos)
    found = HfApi(endpoint=served.endpoint).get_safetensors_metadata(published.repo.id, revision="step1")
    assert "gpt_neox.layers.0.attention.query_key_value.weight" in found.weight_map


def test_history_is_newest_first_and_every_commit_can_be_read(hub: StartHub, tmp_path: Path) -> None:
    published = commits_like(tmp_path / "run", steps=(500, 1000), hidden=16, layers=1)
    served = hub(published.repos, page_size=2)
    api = HfApi(endpoint=served.endpoint)
    commits = api.list_repo_commits(published.repo.id)
    assert [c.title for c in reversed(commits)] == list(published.faults["titles"])
    assert sorted((c.created_at for c in commits), reverse=True) == [c.created_at for c in commits]
    for commit in commits:
        names = {e.path for e in api.list_repo_tree(published.repo.id, revision=commit.commit_id)}
        assert ("model.safetensors" in names) == (commit.title not in published.faults["no_weights"])
    oldest = hf_hub_download(
        published.repo.id,
        "model.safetensors",
        revision=commits[-2].commit_id,
        endpoint=served.endpoint,
        cache_dir=tmp_path / "cache",
    )
    assert Path(oldest).read_bytes() == (tmp_path / "run" / "step500" / "model.safetensors").read_bytes()


def test_a_branch_moves_and_its_old_commit_stays(hub: StartHub, tmp_path: Path) -> None:
    served = hub({"org/run": Revision({"config.json": b"old"})})
    api = HfApi(endpoint=served.endpoint)
    (before,) = api.list_repo_refs("org/run").branches
    after = served.move_branch("org/run", "main", Revision({"config.json": b"new"}))
    (now,) = api.list_repo_refs("org/run").branches
    assert now.target_commit == after != before.target_commit
    for revision, text in (("main", "new"), (before.target_commit, "old")):
        got = hf_hub_download("org/run", "config.json", revision=revision, endpoint=served.endpoint, cache_dir=tmp_path)
        assert Path(got).read_text() == text
    back = served.move_branch("org/run", "main", Revision({"config.json": b"old"}))
    assert [c.commit_id for c in api.list_repo_commits("org/run")] == [back, after, before.target_commit]
    assert back != before.target_commit, "the same files again are another commit"


def test_repositories_are_found_by_word_and_author(hub: StartHub, tmp_path: Path) -> None:
    published = multiberts_like(tmp_path, hidden=8, thousands=(0, 20))
    served = hub(
        [*published.repos, Repo("google/secret-multiberts", {"main": Revision({})}, private=True)], page_size=2
    )
    api = HfApi(endpoint=served.endpoint)
    assert [m.id for m in api.list_models(search="Seed_0-step")] == [
        f"google/multiberts-seed_0-step_{k}k" for k in (0, 20)
    ]
    assert len(list(api.list_models(author="google"))) == len(published.repos) == 6
    assert len(list(HfApi(endpoint=served.endpoint, token="hf_any").list_models(search="multiberts"))) == 7
    assert list(api.list_models(author="goog")) == []


@pytest.mark.parametrize("token", [False, "hf_stranger", "hf_reader"])
def test_who_may_read_what(hub: StartHub, tmp_path: Path, token: str | bool) -> None:
    main, readers = {"main": Revision({"model.safetensors": BODY})}, {"hf_reader"}
    private = Repo("org/private", main, private=True, readers=readers)
    served = hub([private, Repo("org/gated", main, gated=True, readers=readers)])
    api = HfApi(endpoint=served.endpoint, token=token)
    assert len(list(api.list_repo_tree("org/gated"))) == 1, "a gate hides no listing"
    for repo, error in (("org/private", RepositoryNotFoundError), ("org/gated", GatedRepoError)):
        if token == "hf_reader":
            assert Path(api.hf_hub_download(repo, "model.safetensors", cache_dir=tmp_path)).read_bytes() == BODY
        else:
            with pytest.raises(error):
                api.hf_hub_download(repo, "model.safetensors", cache_dir=tmp_path)


@pytest.mark.parametrize(("repo", "token", "status", "code"), [
    ("private", None, 401, "RepoNotFound"), ("private", "hf_b", 404, "RepoNotFound"), ("private", "hf_a", 302, None),
    ("gated", None, 401, "GatedRepo"), ("gated", "hf_b", 403, "GatedRepo"), ("gated", "hf_a", 302, None),
    ("nowhere", None, 401, "RepoNotFound"), ("nowhere", "hf_a", 404, "RepoNotFound"), ("disabled", "hf_a", 403, "DisabledRepo"),
    ("public", "hf_wrong", 401, None), ("public", None, 302, None),
])  # fmt: skip
def test_refusals_have_the_statuses_and_codes_of_the_hub(
    hub: StartHub, repo: str, token: str | None, status: int, code: str | None
) -> None:
    main = {"main": Revision({"w.bin": b"w"})}
    served = hub(
        [
            Repo("org/private", main, private=True, readers={"hf_a"}), Repo("org/gated", main, gated=True, readers={"hf_a"}),
            Repo("org/disabled", main, disabled=True), Repo("org/public", main),
        ],
        tokens={"hf_a", "hf_b"},
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = ask(f"{served.endpoint}/org/{repo}/resolve/main/w.bin", headers=headers)
    assert (answer.status, answer.headers["X-Error-Code"]) == (status, code)


def test_what_is_not_there_is_told_apart(hub: StartHub) -> None:
    served = hub(
        [Repo("org/run", {"main": Revision({"a": b""})}), Repo("org/off", {"main": Revision({})}, disabled=True)]
    )
    api = HfApi(endpoint=served.endpoint)
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree("org/run", revision="step9"))
    with pytest.raises(RepositoryNotFoundError):
        api.list_repo_refs("org/nowhere")
    with pytest.raises(DisabledRepoError):
        api.list_repo_refs("org/off")
    assert ask(f"{served.endpoint}/org/run/resolve/main/b").headers["X-Error-Code"] == "EntryNotFound"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    pythia_like(tmp_path / "runs" / "tiny", steps=(0, 1), hidden=16, layers=1)
    command = [
        sys.executable,
        str(Path(__file__).with_name("hub_server.py")),
        "--root",
        str(tmp_path / "runs"),
        "--fault",
        "latency_ms=1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "local/tiny: 3 branch(es)\n"
        yield child, child.stdout.readline().removeprefix("listening on ").strip()
        child.kill()


@pytest.mark.dear
@pytest.mark.timing
def test_as_a_process_it_is_steered_over_http_and_can_be_killed(process: tuple[subprocess.Popen[str], str]) -> None:
    child, endpoint = process
    assert [b.name for b in HfApi(endpoint=endpoint).list_repo_refs("local/tiny").branches] == [
        "main",
        "step0",
        "step1",
    ]

    def admin(path: str, wanted: object = None) -> dict[str, object]:
        data = json.dumps(wanted).encode() if wanted is not None else None
        with urllib.request.urlopen(f"{endpoint}{path}", data, timeout=600) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    assert admin("/_health") == {"repos": ["local/tiny"]}
    assert admin("/_stats")["requests"] == 1
    assert admin("/_stats/reset", {})["requests"] == 0
    assert admin("/_faults")["latency_ms"] == {"value": 1.0, "limit": None, "rate": 1.0, "path": "", "times": 1}
    admin("/_faults", {"fail_rate": {"value": 1, "limit": 1}, "latency_ms": None})
    url = f"{endpoint}/local/tiny/resolve/main/config.json"
    assert [ask(url).status for _ in range(2)] == [500, 200]
    assert ask(f"{endpoint}/_faults", method="POST", body=b'{"nothing": 1}').status == 400
    child.send_signal(signal.SIGKILL)
    assert child.wait(600) == -signal.SIGKILL
    with pytest.raises(ConnectionRefusedError):
        ask(url)
