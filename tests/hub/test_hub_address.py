"""The words for a run on the Hub: what they mean, and that nothing else is taken for one."""

from __future__ import annotations

import pytest

from trajsvc.errors import UsageError
from trajsvc.sources.hub.address import HubAddress, parse_address

LONG = "o" * 40 + "/" + "n" * 55


@pytest.mark.parametrize(
    ("text", "pattern", "revision", "folder"),
    [
        ("hf://org/name", "org/name", None, None),
        ("hf://org/name/", "org/name", None, None),
        ("hf://EleutherAI/pythia-1.4b_x", "EleutherAI/pythia-1.4b_x", None, None),
        ("hf://org/name@step1000", "org/name", "step1000", None),
        ("hf://org/name/sub/folder", "org/name", None, "sub/folder"),
        ("hf://org/name@rev/sub", "org/name", "rev", "sub"),
        ("hf://org/name@rev/sub@2/x", "org/name", "rev", "sub@2/x"),
        ("hf://org/name@refs%2Fpr%2f1", "org/name", "refs/pr/1", None),
        ("hf://google/multiberts-seed_0-step_*", "google/multiberts-seed_0-step_*", None, None),
        ("hf://org/run-[0-9]k@v1", "org/run-[0-9]k", "v1", None),
        ("hf://org/run-??", "org/run-??", None, None),
        ("https://huggingface.co/org/name", "org/name", None, None),
        ("https://huggingface.co/org/name/", "org/name", None, None),
        ("https://huggingface.co/org/name/tree/main", "org/name", "main", None),
        ("https://huggingface.co/org/name/tree/step1/a/b", "org/name", "step1", "a/b"),
        ("https://huggingface.co/org/name/tree/refs%2Fpr%2F1", "org/name", "refs/pr/1", None),
        ("hf://" + LONG, LONG, None, None),
    ],
)
def test_what_an_address_means(text: str, pattern: str, revision: str | None, folder: str | None) -> None:
    address = parse_address(text)
    assert address == HubAddress(pattern, revision, folder)
    assert parse_address(str(address)) == address, "its text means the same again"


@pytest.mark.parametrize("text", ["hf://o/a*", "hf://o/a?", "hf://o/a[01]"])
def test_a_wildcard_means_repositories(text: str) -> None:
    assert parse_address(text).wild
    assert not parse_address("hf://o/a").wild


@pytest.mark.parametrize(
    "text",
    [
        "", "hf://", "hf://name", "hf://org/", "hf:///name", "org/name", "hf:org/name", "s3://org/name",
        "hf://org/na--me", "hf://or--g/name", "hf://org/na..me", "hf://org/-name", "hf://org/name.", "hf://.org/name",
        "hf://org/name.git", "hf://org/na me", "hf://org/näme", "hf://org/name\n", "hf://org/na\0me", "hf://org/a%2Fb",
        "hf://" + LONG + "n", "hf://*/name", "hf://o*/name", "hf://org/**--x", "hf://org/run-*/folder",
        "hf://org/name@", "hf://org/name@a..b", "hf://org/name@a b", "hf://org/name@-x", "hf://org/name@a?b",
        "hf://org/name/..", "hf://org/name/a/../b", "hf://org/name/./a", "hf://org/name/a//b", "hf://org/name/a?b=c",
        "hf://org/name?revision=x", "hf://org/name#x", "hf://user:secret@host/name",
        "hf://datasets/org/name", "hf://spaces/org/name", "hf://https://huggingface.co/org/name",
        "http://huggingface.co/org/name", "https://example.com/org/name", "https://huggingface.co.example.com/org/name",
        "https://huggingface.co/", "https://huggingface.co/org", "https://huggingface.co/hf://org/name",
        "https://huggingface.co/datasets/org/name", "https://huggingface.co/org/name?x=1", "https://huggingface.co/org/name?",
        "https://huggingface.co/org/na*", "https://huggingface.co/org/name@rev", "https://huggingface.co/org/name/tree",
        "https://huggingface.co/org/name/blob/main/x", "https://huggingface.co/org/name/resolve/main/x",
    ],
)  # fmt: skip
def test_nothing_else_is_an_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.kind == "bad-hub-address"
    assert "hf://EleutherAI/pythia-70m" in caught.value.hint, "it shows how to write one"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf://org/name", "name"),
        ("hf://org/name@rev", "name-rev"),
        ("hf://org/name@refs%2Fpr%2F1/a/b", "name-refs-pr-1-a-b"),
        ("hf://google/multiberts-seed_0-step_*", "multiberts-seed_0"),
        ("hf://org/*", "run"),
    ],
)
def test_what_a_run_of_it_is_called(text: str, name: str) -> None:
    assert parse_address(text).name == name
