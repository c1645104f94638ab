"""Listings of the Hub, over real sockets: what they say, and who may see what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from hub_repos import Repo, Revision
from huggingface_hub import constants
from listing_asking import CANARY, COMMIT, ID, Hubs, asked, failure, files, run

from trajsvc.errors import NotFound, Refused, UsageError
from trajsvc.sources.hub.api import HubApi
from trajsvc.sources.hub.selection import RefInfo, select_commits

# ---------------------------------------------------------------- what is listed


def test_branches_and_tags_with_their_commits(hub: Hubs) -> None:
    repo = run()
    assert asked(hub([repo])).refs(ID) == [
        RefInfo("main", "branch", repo.heads["main"].id), RefInfo("step1", "branch", repo.heads["step1"].id),
        RefInfo("v1", "tag", repo.heads["main"].id),
    ]  # fmt: skip


@pytest.mark.parametrize("page", [0, 1, 2])
def test_files_of_a_commit_with_sizes_and_digests(hub: Hubs, page: int) -> None:
    repo = run()
    commit = repo.heads["step1"].id
    tree = asked(hub([repo], page_size=page)).tree(ID, commit)
    kept = repo.heads["step1"].files
    assert tree.commit == commit
    assert {f.path: (f.size, f.blob_id, f.sha256) for f in tree.files} == {
        p: (c.size, c.blob_id, c.sha256 if c.lfs else None) for p, c in kept.items()
    }
    assert len(tree.files) == 3, "folders are no files"


@pytest.mark.parametrize("page", [0, 2])
def test_commits_of_a_branch_newest_first(hub: Hubs, page: int) -> None:
    repo = run()
    commits = asked(hub([repo], page_size=page)).commits(ID, "main")
    assert [(c.id, c.title) for c in commits] == [(c.id, c.title) for c in repo.heads["main"].history()]
    assert commits[0].date.startswith("20")
    assert [c.step for c in select_commits(commits, "main").chosen] == [500, 1000]


@pytest.mark.parametrize("page", [0, 2])
def test_repositories_that_a_pattern_meets_exactly(hub: Hubs, page: int) -> None:
    names = ["o/run-step_2k", "o/run-step_1k", "o/run-step", "o/Run-step_3k", "other/run-step_4k", "o/a-run-step_5k"]
    server = hub([Repo(n, {"main": Revision(files(1))}) for n in names], page_size=page)
    assert asked(server).repositories("o/run-step_*") == ["o/run-step_1k", "o/run-step_2k"]
    assert asked(server).repositories("o/run-step_[2-9]k") == ["o/run-step_2k"]
    assert asked(server).repositories("o/nothing-*") == []


def test_revisions_whose_names_need_quoting(hub: Hubs) -> None:
    repo = Repo(ID, {"main": Revision(files(1)), "run/a b": Revision(files(2), title="step 7")})
    assert [c.title for c in asked(hub([repo])).commits(ID, "run/a b")] == ["step 7"]


@pytest.mark.timing
def test_files_of_many_commits_several_at_once(hub: Hubs) -> None:
    repo = Repo(ID, {f"step{i}": Revision(files(i)) for i in range(40)})
    server = hub([repo])
    server.faults.latency_ms = 20
    wanted = [(ID, c.id) for c in repo.heads.values()]
    trees = asked(server).trees_of([*wanted, wanted[0]], None)
    assert [t.commit for t in trees] == [c for _, c in [*wanted, wanted[0]]]
    assert [{f.path: f.size for f in t.files}["deep/er/notes.txt"] for t in trees] == [*range(40), 0]
    stats = server.stats()
    assert stats["kinds"]["tree"] == 40, "the same one is asked for once"
    assert 2 <= stats["most_in_flight"] <= 8


def test_what_a_commit_holds_is_kept(hub: Hubs, tmp_path: Path) -> None:
    repo = run()
    server = hub([repo])
    wanted = [(ID, c.id) for c in repo.heads.values()]
    first = asked(server).trees_of(wanted, tmp_path)
    server.reset_stats()
    assert asked(server).trees_of(wanted, tmp_path) == first
    assert server.stats()["requests"] == 0
    for kept in (tmp_path / "trees").rglob("*.json"):
        kept.write_text("[[1")
    assert asked(server).trees_of(wanted, tmp_path) == first, "what cannot be read is asked for again"
    assert server.stats()["kinds"]["tree"] == 2


# ---------------------------------------------------------------- who may see what


def test_what_is_not_there(hub: Hubs) -> None:
    api = asked(hub([run()]))
    assert "HF_TOKEN" in failure(lambda: api.refs("org/none"), "hub-no-repository", NotFound).hint
    assert "org/none" in failure(lambda: api.tree("org/none", COMMIT), "hub-no-repository").message
    failure(lambda: api.commits("org/none", "main"), "hub-no-repository")
    failure(lambda: api.tree(ID, COMMIT), "hub-no-revision", NotFound)
    failure(lambda: api.commits(ID, "none"), "hub-no-revision", NotFound)


def test_a_private_repository_is_for_those_who_may_read_it(hub: Hubs) -> None:
    server = hub([run(private=True, readers=[CANARY])], tokens=[CANARY, "hf_other"])
    assert asked(server, CANARY).refs(ID)
    assert asked(server, f" {CANARY}\n").refs(ID), "as it comes out of a file"
    failure(lambda: asked(server, False).refs(ID), "hub-no-repository", NotFound)
    assert "token" in failure(lambda: asked(server, "hf_other").refs(ID), "hub-no-repository", NotFound).hint
    failure(lambda: asked(server, "hf_expired" + CANARY).refs(ID), "hub-unauthorized", Refused)


@pytest.mark.timing
def test_gated_disabled_and_forbidden(hub: Hubs, scripted: Any) -> None:
    failure(lambda: asked(hub([run(disabled=True)])).refs(ID), "hub-disabled", Refused)
    gate = scripted(lambda path: (403, {"X-Error-Code": "GatedRepo"}, b"{}"))
    assert "granted" in failure(lambda: asked(gate, CANARY).tree(ID, COMMIT), "hub-gated", Refused).message
    assert "account" in failure(lambda: asked(gate).tree(ID, COMMIT), "hub-gated", Refused).message
    failure(lambda: asked(scripted(lambda path: (403, {}, b""))).refs(ID), "hub-forbidden", Refused)
    assert len(scripted.servers[0].seen) == 2, "a refusal is not asked for again"


def test_the_token_is_the_one_given_else_that_of_the_machine(hub: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    server = hub([run()])
    asked(server, None).refs(ID)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    assert asked(server, None).signed_in
    assert not asked(server, False).signed_in
    for token in (None, True, False, "hf_mine"):
        asked(server, token).refs(ID)
    assert [s.authorization for s in server.seen] == [
        None, f"Bearer {CANARY}", f"Bearer {CANARY}", None, "Bearer hf_mine",
    ]  # fmt: skip


@pytest.mark.parametrize("token", [f"{CANARY}\r\nX-Evil: 1", f"{CANARY} two", f"{CANARY}é"])
def test_a_token_that_is_none(hub: Hubs, token: str) -> None:
    server = hub([run()])
    failure(lambda: asked(server, token).refs(ID), "bad-token", UsageError)
    assert server.seen == []


def test_the_endpoint_is_the_environment_s_of_now(hub: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = hub([run()]), hub([run()])
    monkeypatch.setattr(constants, "ENDPOINT", one.endpoint)
    assert HubApi().endpoint == one.endpoint
    monkeypatch.setenv("HF_ENDPOINT", other.endpoint + "/")
    assert HubApi().endpoint == other.endpoint
    assert HubApi(one.endpoint).endpoint == one.endpoint
    HubApi(token=False).refs(ID)
    assert (one.stats()["requests"], other.stats()["requests"]) == (0, 1)


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://host", "http://", f"file:///{CANARY}"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    failure(lambda: HubApi(endpoint), "bad-endpoint", UsageError)


@pytest.mark.parametrize("session", ["the library's", "the user's"])
def test_offline_asks_nothing(hub: Hubs, monkeypatch: pytest.MonkeyPatch, session: str) -> None:
    if session == "the user's":  # which may not look at HF_HUB_OFFLINE
        monkeypatch.setattr("huggingface_hub.utils._http._GLOBAL_CLIENT_FACTORY", httpx2.Client)
        huggingface_hub.close_session()
    server = hub([run()])
    api = asked(server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for attempt in (
        lambda: api.refs(ID), lambda: api.tree(ID, COMMIT), lambda: api.commits(ID, "main"), lambda: api.repositories("org/r*"),
    ):  # fmt: skip
        failure(attempt, "hub-offline", Refused)
    assert server.seen == []
