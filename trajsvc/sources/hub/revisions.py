"""Find the revisions of repositories that are the checkpoints of a run, each pinned to its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from storage_schema.models.results import Finding
from trajsvc.errors import NotFound
from trajsvc.sources.hub.address import HubAddress
from trajsvc.sources.hub.api import HubApi
from trajsvc.sources.hub.known_families import Family, family_of
from trajsvc.sources.hub.selection import RefInfo, select, select_commits, select_repositories
from trajsvc.sources.patterns import StepPattern
from trajsvc.sources.steps import Kind
from trajsvc.sources.transport.cancel import Stoppable

MAIN = "main"


@dataclass(frozen=True)
class Revision:
    """One checkpoint: a commit of a repository, with what its name says."""

    step: int
    label: str
    repo: str
    commit: str
    ref: str
    """branch, tag or commit, as files are named by it"""
    kind: Kind = "step"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Revisions:
    """The run's revisions in order; ``head`` (repository, label, commit) is ``main`` or the revision that was asked for."""

    chosen: tuple[Revision, ...]
    head: tuple[str, str, str] | None = None
    family: Family | None = None
    missing: tuple[int, ...] = ()
    """steps that the family publishes and this repository does not have"""
    others: tuple[str, ...] = ()
    """branches and tags that are not checkpoints of the run"""
    findings: tuple[Finding, ...] = ()
    history: bool = False
    """the commits of a branch: those that change no weights are no checkpoints"""

    def pinned(self, pins: Mapping[str, str]) -> Revisions:
        """Return those revisions that are in ``pins`` (label → commit), at their commits there."""
        chosen = tuple(replace(r, commit=pins[r.label]) for r in self.chosen if r.label in pins)
        head = self.head
        if head is not None and head[1] in pins:
            head = (head[0], head[1], pins[head[1]])
        return replace(self, chosen=chosen, head=head)


def list_revisions(
    api: HubApi,
    address: HubAddress,
    patterns: Sequence[str] = (),
    commits: str | None = None,
    step_pattern: StepPattern | None = None,
) -> Revisions:
    """Ask for what ``address`` names. Raises NotFound (``no-revisions``, ``hub-no-revision``, ``hub-no-repository``), Refused."""
    if address.wild:
        return _repositories(api, address)
    repo = address.pattern
    family = family_of(repo)
    refs = Stoppable(api.refs(repo), api.stop)
    if commits is not None:
        return _commits(api, repo, commits, refs, family)
    head = _head(repo, refs, address.revision)
    if address.revision is not None and not patterns:
        selected = select(refs, family, pin=address.revision, step_pattern=step_pattern)
    else:
        selected = select(refs, family, revisions=patterns, step_pattern=step_pattern)
    chosen = tuple(Revision(c.step, c.label, repo, c.commit, c.label, c.kind, c.extra) for c in selected.chosen)
    if address.folder and not patterns:
        chosen = ()  # a folder is looked into for checkpoints of its own
    return Revisions(chosen, head, family, selected.missing, selected.others, tuple(selected.findings))


def _head(repo: str, refs: Sequence[RefInfo], revision: str | None) -> tuple[str, str, str] | None:
    wanted = revision or MAIN
    found = next((r for r in refs if r.name == wanted), None)
    if found is not None:
        return repo, found.name, found.commit
    if revision is None:
        return None
    if len(revision) == 40 and all(c in "0123456789abcdef" for c in revision):
        return repo, revision, revision
    near = ", ".join(r.name for r in refs[:6])
    raise NotFound(
        "hub-no-revision", f"{repo} has no revision {revision}", hint=f"It has {near}{' …' if len(refs) > 6 else ''}."
    )


def _commits(api: HubApi, repo: str, branch: str, refs: Sequence[RefInfo], family: Family | None) -> Revisions:
    selected = select_commits(api.commits(repo, branch), branch)
    chosen = tuple(Revision(c.step, c.label, repo, c.commit, c.label, c.kind, c.extra) for c in selected.chosen)
    return Revisions(chosen, _head(repo, refs, branch), family, (), selected.others, selected.findings, history=True)


def _repositories(api: HubApi, address: HubAddress) -> Revisions:
    found = select_repositories(api.repositories(address.pattern), address.pattern)
    chosen = []
    for one in found.chosen:
        head = _head(one.label, api.refs(one.label), address.revision)
        if head is not None:
            chosen.append(Revision(one.step, one.label, one.label, head[2], head[1], one.kind, one.extra))
    if not chosen:
        raise NotFound(
            "no-revisions", f"no repository is called {address.pattern}", hint="Check the spelling of the pattern."
        )
    return Revisions(tuple(chosen), None, family_of(chosen[0].repo), (), found.others, tuple(found.findings))
