"""From names of branches, commits and repositories to the checkpoints of a run."""

from __future__ import annotations

import random

import pytest

from trajsvc.errors import NotFound, Refused, TrajsvcError, UsageError
from trajsvc.sources.hub.known_families import PYTHIA_STEPS, family_of
from trajsvc.sources.hub.selection import (
    CommitInfo,
    RefInfo,
    Selected,
    select,
    select_commits,
    select_repositories,
)  # fmt: skip

PYTHIA = family_of("EleutherAI/pythia-70m")
OLMO = family_of("allenai/OLMo-2-1124-7B")


def branches(*names: str) -> list[RefInfo]:
    return [RefInfo(n, "branch", f"commit of {n}") for n in names]


def tags(*names: str) -> list[RefInfo]:
    return [RefInfo(n, "tag", f"commit of {n}") for n in names]


def labels(selected: Selected) -> list[str]:
    return [c.label for c in selected.chosen]


def kinds(selected: Selected) -> list[str]:
    return [f.kind for f in selected.findings]


def failure(expected: type[TrajsvcError], kind: str, *args: object, **options: object) -> TrajsvcError:
    with pytest.raises(expected) as caught:
        select(*args, **options)  # type: ignore[arg-type]
    assert caught.value.kind == kind
    assert caught.value.hint
    return caught.value


def test_branches_that_name_a_step_in_numeric_order() -> None:
    refs = branches("main", "step1000", "step2", "step20k", "step0", "dev")
    chosen = select(refs, None)
    assert [(c.step, c.label, c.commit) for c in chosen.chosen] == [
        (0, "step0", "commit of step0"), (2, "step2", "commit of step2"),
        (1000, "step1000", "commit of step1000"), (20_000, "step20k", "commit of step20k"),
    ]  # fmt: skip
    assert chosen.others == ("main", "dev")
    assert chosen.missing == ()


def test_nothing_names_a_step() -> None:
    chosen = select(branches("main", "dev") + tags("v1.0", "2"), None)
    assert chosen.chosen == ()
    assert chosen.others == ("main", "dev", "v1.0", "2")
    assert select([], PYTHIA) == Selected(())


def test_tags_stand_in_where_no_branch_names_a_step() -> None:
    assert labels(select(branches("main") + tags("step2", "step1"), None)) == ["step1", "step2"]
    assert labels(select(branches("main", "step1") + tags("step2"), None)) == ["step1"]


def test_a_tag_and_a_branch_of_one_step_and_commit_are_one() -> None:
    refs = [RefInfo("step1", "branch", "a"), RefInfo("run-step1", "tag", "a"), RefInfo("step2", "tag", "b")]
    assert labels(select(refs, None, revisions=["*step*"])) == ["step1", "step2"]
    moved = [RefInfo("step1", "branch", "a"), RefInfo("run-step1", "tag", "b")]
    assert "run-step1" in str(failure(Refused, "step-conflict", moved, None, revisions=["*step*"]))


def test_two_branches_of_one_step() -> None:
    error = failure(Refused, "step-conflict", branches("step2", "step02"), None)
    assert "--revisions" in error.hint


def test_all_of_pythia_is_there() -> None:
    refs = branches("main", *(f"step{s}" for s in PYTHIA_STEPS))
    random.Random(0).shuffle(refs)
    chosen = select(refs, PYTHIA)
    assert tuple(c.step for c in chosen.chosen) == PYTHIA_STEPS
    assert (chosen.missing, kinds(chosen), chosen.others) == ((), [], ("main",))


def test_what_a_family_publishes_and_the_repository_lacks() -> None:
    refs = branches("main", *(f"step{s}" for s in PYTHIA_STEPS if s not in (0, 40_000, 111_000)))
    chosen = select(refs, PYTHIA)
    assert chosen.missing == (0, 40_000, 111_000)
    (finding,) = [f for f in chosen.findings if f.kind == "missing-revisions"]
    assert finding.steps == chosen.missing
    assert "3 of the 154" in finding.message
    assert "40000" in finding.message
    assert "gap" not in kinds(chosen), "once is enough"
    assert select(refs, PYTHIA, revisions=["step1*"]).missing == (), "a choice is not a lack"


def test_in_a_family_only_its_own_spelling_counts() -> None:
    chosen = select(branches("step1000", "step1000-fixed", "step2000"), PYTHIA)
    assert labels(chosen) == ["step1000", "step2000"]
    assert chosen.others == ("step1000-fixed",)
    smol = family_of("HuggingFaceTB/SmolLM3-3B-checkpoints")
    later = select(branches("lc-4k-to-32k-step-4000", "stage2-step-3480000", "stage1-step-40000", "it-SFT"), smol)
    assert [c.step for c in later.chosen] == [40_000, 3_480_000]
    assert later.others == ("lc-4k-to-32k-step-4000", "it-SFT")
    assert labels(select(branches("lc-4k-to-32k-step-4000", "stage1-step-40000"), smol, revisions=["lc-*"])) == [
        "lc-4k-to-32k-step-4000"
    ]
    assert labels(select(branches("iter_5", "iter_7"), PYTHIA)) == ["iter_5", "iter_7"], "unless nothing is spelt so"


def test_stages_and_ingredients() -> None:
    refs = branches(
        "stage1-step100-tokens1B", "stage2-ingredient2-step5-tokens1B", "stage1-step200-tokens2B",
        "stage2-ingredient1-step10-tokens1B", "stage2-ingredient1-step5-tokens1B", "main",
    )  # fmt: skip
    chosen = select(refs, OLMO)
    assert [(c.step, c.extra.get("stage_step")) for c in chosen.chosen] == [
        (100, None),
        (200, None),
        (205, 5),
        (210, 10),
    ]
    assert kinds(chosen) == ["stage-steps", "other-ingredients"]
    assert "--revisions 'stage2-ingredient2-*'" in chosen.findings[1].message
    other = select(refs, OLMO, revisions=["stage1-*", "stage2-ingredient2-*"])
    assert [(c.step, c.extra.get("ingredient")) for c in other.chosen] == [(100, None), (200, None), (205, 2)]
    assert kinds(other) == ["stage-steps"]
    assert "alternatives" in str(failure(Refused, "step-conflict", refs, OLMO, revisions=["stage2-*"]))


def test_a_glob_is_case_sensitive_and_meets_tags() -> None:
    refs = branches("step1", "Step2", "main") + tags("step3")
    assert labels(select(refs, None, revisions=["step*"])) == ["step1", "step3"]
    assert labels(select(refs, None, revisions=["[sS]tep[12]"])) == ["step1", "Step2"]


def test_what_a_glob_meets_beside_the_steps_is_no_checkpoint() -> None:
    chosen = select(branches("main", "step0", "step1"), None, revisions=["*"])
    assert labels(chosen) == ["step0", "step1"]
    assert chosen.others == ("main",)


def test_one_revision_without_a_step_may_be_chosen_by_name() -> None:
    (only,) = select(branches("main", "step1"), None, revisions=["main"]).chosen
    assert (only.step, only.kind, only.label) == (0, "index", "main")


def test_a_regular_expression_says_where_the_numbers_are() -> None:
    refs = branches("main", "run_7at20k_2B", "run_7at300k_30B", "run_8at1k_1B", "run_7at5x_1B")
    chosen = select(refs, None, revisions=[r"run_7at(?P<step>\w+)_(?P<tokens>\w+)"])
    assert [(c.step, dict(c.extra)) for c in chosen.chosen] == [
        (20_000, {"tokens": 2 * 10**9}), (300_000, {"tokens": 30 * 10**9}),
    ]  # fmt: skip
    staged = select(branches("b10", "a5"), None, revisions=[r"a(?P<step>\d+)", r"(?P<stage>)?b(?P<epoch>\d+)"])
    assert [(c.step, c.kind) for c in staged.chosen] == [(5, "step")]
    assert kinds(staged) == ["other-axis"], "steps and epochs share no axis"


@pytest.mark.parametrize("pattern", [r"(?P<step>[", r"(?P<step>\d+", r"run(?P<stepp>\d+)", r"s(?P<stage>\d+)"])
def test_a_pattern_that_cannot_be_used(pattern: str) -> None:
    for refs in (branches("step1"), []):
        assert "(?P<step>" in failure(UsageError, "bad-pattern", refs, None, revisions=[pattern]).hint


def test_every_pattern_must_meet_something() -> None:
    refs = branches(*(f"step{i}" for i in range(10)))
    error = failure(NotFound, "no-revisions", refs, None, revisions=["step*", "stage*"])
    assert "stage*" in error.message
    assert "step0, step1" in error.hint
    assert error.hint.endswith("….")
    failure(NotFound, "no-revisions", [], None, revisions=["*"])
    unnamed = failure(NotFound, "no-revisions", branches("main", "dev"), None, revisions=["*"])
    assert "main, dev" in unnamed.message
    failure(NotFound, "no-revisions", branches("a" + "9" * 30), None, revisions=[r"a(?P<step>\d+)"])


def test_one_revision_that_is_pinned() -> None:
    refs = branches("main", "step1", "step2") + tags("v1")
    one = select(refs, None, pin="step2")
    assert [(c.step, c.commit) for c in one.chosen] == [(2, "commit of step2")]
    assert one.others == ("main", "step1", "v1")
    for name in ("main", "v1", "step9"):
        assert select(refs, None, pin=name).chosen == ()
    assert select(branches("step1000"), family_of("EleutherAI/pythia-160m-v0"), pin="step1000").chosen[0].extra == {
        "true_step": 500
    }


def history(*titles: str) -> list[CommitInfo]:
    """Commits with these titles, oldest first, as the Hub lists them: newest first."""
    return [CommitInfo(f"{i:040x}", t, f"2024-01-{i + 1:02}") for i, t in enumerate(titles)][::-1]


def test_commits_by_the_steps_in_their_titles() -> None:
    chosen = select_commits(history("Training in progress, step 500", "step_1000", "checkpoint-1.5k"), "main")
    assert [(c.step, c.kind, c.commit[-1]) for c in chosen.chosen] == [
        (500, "step", "0"),
        (1000, "step", "1"),
        (1500, "step", "2"),
    ]
    assert chosen.chosen[0].extra == {"title": "Training in progress, step 500", "date": "2024-01-01"}
    assert (chosen.others, kinds(chosen)) == ((), ["commits"])
    epochs = select_commits(history("epoch 1", "Epoch 2"), "main")
    assert [(c.step, c.kind) for c in epochs.chosen] == [(1, "epoch"), (2, "epoch")]


def test_commits_that_say_no_step_among_those_that_do() -> None:
    chosen = select_commits(history("initial commit", "step 500", "step 1000", "Update README.md"), "main")
    assert [c.step for c in chosen.chosen] == [500, 1000]
    assert [o.split(" ", 1)[1] for o in chosen.others] == ["initial commit", "Update README.md"]


@pytest.mark.parametrize(
    "titles",
    [
        ("first", "second", "third"),
        ("a", "b", "c", "step 5", "e", "step 9"),  # a few mentions do not make the rest vanish
        ("step 500", "step 100"),  # back in time
        ("step 5", "step 5"),
        ("epoch 1", "step 500"),  # two clocks
        ("version 2", "misstep 3"),
    ],
)
def test_commits_in_order_of_time_where_titles_do_not_say(titles: tuple[str, ...]) -> None:
    chosen = select_commits(history(*titles), "dev")
    assert [(c.step, c.kind) for c in chosen.chosen] == [(i, "index") for i in range(len(titles))]
    assert [c.extra["title"] for c in chosen.chosen] == list(titles)
    assert "dev" in chosen.findings[0].message


def test_no_commits() -> None:
    assert select_commits([], "main").chosen == ()


def test_a_repository_for_each_checkpoint() -> None:
    ids = [f"google/multiberts-seed_0-step_{s}" for s in ("1000k", "20k", "0k")]
    chosen = select_repositories(ids, "google/multiberts-seed_0-step_*")
    assert [(c.step, c.label, c.commit) for c in chosen.chosen] == [
        (0, "google/multiberts-seed_0-step_0k", ""), (20_000, "google/multiberts-seed_0-step_20k", ""),
        (1_000_000, "google/multiberts-seed_0-step_1000k", ""),
    ]  # fmt: skip


def test_the_step_in_a_name_where_the_wildcard_is_wider() -> None:
    ids = ["o/run-step_20k", "o/run", "o/run-step_1k"]
    chosen = select_repositories(ids, "o/run*")
    assert [c.step for c in chosen.chosen] == [1000, 20_000]
    assert chosen.others == ("o/run",)
    assert [c.step for c in select_repositories(["o/step-7", "o/step-3"], "o/step-[0-9]").chosen] == [3, 7]


def test_repositories_that_name_no_step() -> None:
    for ids in (["o/a", "o/b"], []):
        with pytest.raises(NotFound) as caught:
            select_repositories(ids, "o/*")
        assert caught.value.kind == "no-revisions"
        assert caught.value.hint
    with pytest.raises(Refused, match="both step 5"):
        select_repositories(["o/a-5", "o/a-05"], "o/a-*")
