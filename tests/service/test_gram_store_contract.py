"""A stored run and a server's run keep to one contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contracts.gram_store import GramStoreContract
from service_process import Server

from storage_schema.runs.reader import StoredRun
from storage_schema.runs.store import RunStore
from trajsvc.client import Client
from trajsvc.errors import NotFound
from trajsvc.results.remote_run import ServerGrams


class OfTheExample(GramStoreContract):
    @pytest.fixture
    def stored(self, server: Server, stored: str) -> StoredRun:
        return RunStore(server.store).open(stored)


class TestStored(OfTheExample):
    @pytest.fixture
    def grams(self, stored: StoredRun) -> StoredRun:
        return stored


class TestServer(OfTheExample):
    @pytest.fixture
    def grams(self, server: Server, stored: StoredRun) -> Iterator[ServerGrams]:
        with Client(server.address) as client:
            yield ServerGrams(client, stored.name)

    def test_a_group_that_the_server_does_not_know_is_not_found(self, grams: ServerGrams) -> None:
        with pytest.raises(NotFound) as caught:
            grams.group_gram("layer/99", [0])
        assert caught.value.kind == "group-not-found"
