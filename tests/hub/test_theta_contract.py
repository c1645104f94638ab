"""Every reader of Θ keeps to one contract: files, ranges over a network, windows read ahead, and the copy in a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contracts.theta import Opened, ThetaContract, states
from hub_repos import Repo, Revision
from hub_runs import safetensors
from hub_server import HubServer
from safetensors.numpy import save_file

from storage_schema.runs.store import RunStore
from trajsvc.gram.plan import Plan, make_plan
from trajsvc.sources.base import Cache
from trajsvc.sources.hub.address import parse_address
from trajsvc.sources.hub.source import HubOptions, HubSource
from trajsvc.sources.local.source import LocalSource
from trajsvc.trajectory.copy import CopiedTheta, ThetaSink
from trajsvc.trajectory.download import import_files
from trajsvc.trajectory.matrix import Trajectory
from trajsvc.trajectory.opening import open_trajectory
from trajsvc.trajectory.prefetch import ReadAhead
from trajsvc.trajectory.remote import RemoteTheta

pytestmark = pytest.mark.slow


def plan_of(trajectory: Trajectory) -> Plan:
    return make_plan(trajectory.columns, len(trajectory.rows), slab=2**19)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Trajectory]:
    for row, state in enumerate(states()):
        place = tmp_path / "run" / f"step{row}"
        place.mkdir(parents=True)
        save_file(dict(state), place / "model.safetensors")
    source = LocalSource(tmp_path / "run")
    yield open_trajectory(source)
    source.close()


@pytest.fixture
def far(hubs: Callable[..., HubServer]) -> Iterator[Trajectory]:
    branches = {f"step{r}": Revision({"model.safetensors": safetensors(s)}) for r, s in enumerate(states())}
    hub = hubs(Repo("local/run", {"main": Revision({"README.md": b"a model"}), **branches}))
    source = HubSource(parse_address("hf://local/run"), HubOptions(endpoint=hub.endpoint, connections=4))
    yield open_trajectory(source)
    source.close()


class TestFiles(ThetaContract):
    @pytest.fixture
    def opened(self, files: Trajectory) -> Opened:
        return Opened(files, files.columns, plan_of(files))


class TestRanges(ThetaContract):
    @pytest.fixture
    def opened(self, far: Trajectory) -> Opened:
        return Opened(RemoteTheta(far), far.columns, plan_of(far))


class TestWindows(ThetaContract):
    @pytest.fixture
    def opened(self, far: Trajectory, tmp_path: Path) -> Iterator[Opened]:
        plan = plan_of(far)
        assert isinstance(far.source, HubSource)
        ahead = ReadAhead(far, far.source, plan, Cache(tmp_path / "windows", 2**24), apart=False)
        assert ahead.useful
        yield Opened(ahead, far.columns, plan)
        ahead.close()


class TestCopy(ThetaContract):
    @pytest.fixture
    def opened(self, files: Trajectory, tmp_path: Path) -> Iterator[Opened]:
        with RunStore(tmp_path / "store").writer("run") as writer:
            import_files(files, ThetaSink(writer, files, 0, "key"), lambda done, total: None, lambda: False)
            yield Opened(CopiedTheta(writer, files), files.columns, plan_of(files))
