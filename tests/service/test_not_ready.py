"""What ``/ready`` says of a store and a database that were deleted, or replaced by something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from asgi_asking import App
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from storage_schema.tables import jobs
from trajsvc.jobs.database import Replaced, connect


def gone(store: Path) -> None:
    shutil.rmtree(store)


def a_file(store: Path) -> None:
    shutil.rmtree(store)
    store.write_text("no folder")


def a_dangling_link(store: Path) -> None:
    shutil.rmtree(store)
    store.symlink_to(store.with_name("nowhere"))


def another_folder(store: Path) -> None:
    shutil.rmtree(store)
    (store / "runs").mkdir(parents=True)


def another_database(store: Path) -> None:
    (store / "other.db").write_bytes((store / "jobs.db").read_bytes())
    (store / "other.db").replace(store / "jobs.db")


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (gone, {"store", "database"}),
        (a_file, {"store", "database"}),
        (a_dangling_link, {"store", "database"}),
        (another_folder, {"database"}),
        (another_database, {"database"}),
    ],
)
def test_it_is_not_ready_and_says_what_and_what_next(
    tmp_path: Path, change: Callable[[Path], None], failing: set[str]
) -> None:
    """A file in the place of the store was said to be ready, and jobs went into a database that nobody could see any more."""
    app = App(tmp_path)
    assert app.ask("/ready").status == 200
    change(tmp_path / "store")
    found = app.ask("/ready")
    checks = json.loads(found.body)["checks"]
    assert found.status == 503
    assert failing <= {name for name, said in checks.items() if said != "ok"}
    assert all("bring it back, and start the server anew" in checks[name] for name in failing)
    assert str(tmp_path) not in found.body.decode()
    assert app.ask("/live").status == 200
    assert app.ask("/v1/jobs").kind == "database-unreachable"


def test_a_database_that_is_put_back_goes_on(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'jobs.db'}")
    (tmp_path / "jobs.db").rename(tmp_path / "away.db")
    with pytest.raises(OperationalError) as raised, engine.begin():
        pass
    assert isinstance(raised.value.orig, Replaced)
    (tmp_path / "away.db").rename(tmp_path / "jobs.db")
    with engine.begin() as connection:
        assert connection.execute(select(jobs)).all() == []
    engine.dispose()
