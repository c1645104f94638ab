"""Which tests a worker of ``pytest -n`` takes together, and in which order they are given out.

A file's tests stay together, because they share servers, clusters and runs; some files share a server, and tests that share nothing go
one by one. When the last worker ends depends on what is given out last: folders whose tests start servers, browsers and clusters come
first.
"""

from __future__ import annotations

from typing import Any

import pytest

FIRST = (
    "service", "web", "hub", "jobs", "doors", "analysis", "gram", "store", "experiments", "docs", "gradients", "sources", "field",
)  # fmt: skip
"""Folders whose tests take longest, the longest first."""
APART = ("tests/service/test_service_faults.py", "tests/store/test_store_crash.py", "tests/doors/test_interrupts.py")
"""Files of long tests that share next to nothing: each test goes to whichever worker is free."""
SHARING = {
    **{
        f"tests/service/test_{name}.py": "a server"
        for name in ("gram_store_contract", "http_gradients", "http_jobs", "http_results", "server_commands")
    },
    **{
        f"tests/web/test_web_{name}.py": "a page"
        for name in (
            "access",
            "against",
            "downloads",
            "figures",
            "gradients",
            "layers",
            "page",
            "rows",
            "static",
            "submit",
            "training",
            "unknown",
        )
    },
}
"""Files whose tests use one server."""


def order(item: pytest.Item) -> int:
    """Where an item comes among all, by its folder."""
    folder = item.path.parent.name
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


def group(nodeid: str) -> str:
    """The name of the group of tests that one worker takes."""
    file = nodeid.partition("::")[0]
    return nodeid if file in APART else SHARING.get(file, file)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler of pytest-xdist that gives out groups of tests, in the order in which they were collected."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)
