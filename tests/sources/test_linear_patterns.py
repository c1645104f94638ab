"""Patterns of users match what Python's would, and in linear time whatever they are."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajsvc.anatomy.linear_patterns import LONGEST, LONGEST_GLOB, Glob
from trajsvc.anatomy.patterns import excluded
from trajsvc.anatomy.rules_toml import rules_in
from trajsvc.errors import TrajsvcError, UsageError
from trajsvc.sources.hub.selection import RefInfo, select, select_repositories
from trajsvc.sources.patterns import StepPattern
from trajsvc.sources.renames import read_renames

GLOBS = st.text(st.sampled_from("ab*?[]!-.^é/"), max_size=12)


@given(GLOBS, st.text(st.sampled_from("ab!-]^.é/\n"), max_size=8))
def test_a_glob_means_what_the_shell_s_does(pattern: str, name: str) -> None:
    assert Glob.of(pattern).meets(name) == fnmatchcase(name, pattern)


@given(st.text(st.sampled_from("ab*?."), max_size=10), st.text(st.sampled_from("ab."), max_size=8))
def test_stars_are_what_a_regular_expression_finds(pattern: str, name: str) -> None:
    regex = "".join("(.*)" if c == "*" else "(.)" if c == "?" else re.escape(c) for c in pattern)
    match = re.fullmatch(regex, name)
    assert Glob.of(pattern).stars(name) == (None if match is None else match.groups())


@pytest.mark.parametrize(
    ("text", "name", "new"),
    [
        (r"^h\.(\d+)\.=layers.\1.", "h.12.w", "layers.12.w"), (r"^(?P<a>x)(y)?=\g<a>-\2", "xz", "x-z"), (r"^a*=\g<0>b", "aac", "aabc"),
        (r"^a=", "ab", "b"), (r"^a=c", "ba", None), (r"^(\w+)\.(\w+)=\2.\1", "a.b.c", "b.a.c"),
    ],
)  # fmt: skip
def test_a_regular_expression_renames(text: str, name: str, new: str | None) -> None:
    assert read_renames([text])[0].of(name) == new


@pytest.mark.parametrize(
    "text", [r"^(a)=\2", r"^a=\g<no>", r"^(?=a)b=c", r"^(a)\1=b", "^(=b", rf"^{'a' * LONGEST}=b", r"^a=b\n"]
)
def test_what_is_no_rename_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_renames([text])
    assert caught.value.kind == "bad-rename"
    assert caught.value.hint


NAME = "a" * 250
NESTED = r"(\w*" * 10 + ")+" * 10
DOORS: dict[str, Callable[[], object]] = {
    "a step": lambda: StepPattern.of(f"(?P<step>{NESTED})!").read(NAME),
    "revisions": lambda: select([RefInfo(NAME, "branch", "0" * 40)], None, revisions=[f"(?P<step>{NESTED})!"]),
    "revisions as globs": lambda: select([RefInfo(NAME, "branch", "0" * 40)], None, revisions=["*a" * 200 + "b"]),
    "repositories": lambda: select_repositories([NAME[:90]] * 100, "*a" * 40 + "b"),
    "rename": lambda: read_renames([r"^(\w*\w*\w*)!=x"])[0].of(NAME * 4),
    "rename without groups": lambda: read_renames([r"^(.*)(.*)(.*)x=y"])[0].of(NAME * 4),
    "rename by stars": lambda: read_renames(["*a" * 200 + "b=c"])[0].of(NAME * 4),
    "exclude": lambda: excluded(["*a" * 200 + "b"], [NAME]),
    "rules": lambda: _of_rules(rf"(\w+\w+)+x|{NESTED}!"),
    "rules around a number": lambda: _of_rules("a", layers=rf"{NESTED}!.#"),
}


def _of_rules(inside: str, layers: str = "layers.#") -> object:
    from trajsvc.anatomy.module_paths import place

    (rule,) = rules_in(f"[net]\nlayers = '{layers}'\n[net.inside]\n'{inside}' = 'mlp.in'\n", "rules.toml")
    return place(rule, f"layers.0.{NAME}.weight")


@pytest.mark.timing
@pytest.mark.parametrize("door", DOORS)
def test_no_pattern_of_a_user_takes_long(door: str) -> None:
    begun = time.monotonic()
    expected = pytest.raises(TrajsvcError) if door.startswith(("revisions", "repositories")) else nullcontext()
    with expected:
        DOORS[door]()
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: Glob.of("x" * (LONGEST_GLOB + 1)), lambda: StepPattern.of("(?P<step>" + "x" * LONGEST + ")"),
        lambda: excluded(["*" * 5000], ["a"]),
        lambda: rules_in(f"[net]\nlayers='layers.#'\n[net.inside]\n'{'x' * (LONGEST + 1)}'='mlp.in'\n", "f"),
        lambda: rules_in("[net]\nlayers='layers.#'\n[net.inside]\n'(?=a)b'='mlp.in'\n", "f"),
    ],
)  # fmt: skip
def test_what_is_too_long_or_not_linear_is_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        attempt()
    assert caught.value.kind in ("bad-pattern", "bad-rules")
