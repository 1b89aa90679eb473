"""ZEO's own tests of what others are told: threads and storages that work on one BTree, which is checked to its last bucket."""

from __future__ import annotations

import tempfile

from serving import Server
from test_suites import DummyDB
from ZEO.tests.InvalidationTests import InvalidationTests
from ZODB.tests import StorageTestBase

from zeolite.zodb import Storage


class TestInvalidations(StorageTestBase.StorageTestBase, InvalidationTests):
    # Seconds that the threads work at least, and at most.
    MINTIME = 3
    MAXTIME = 60

    def setUp(self) -> None:
        super().setUp()
        self.server = Server(tempfile.mkdtemp(prefix="zeolite-"))
        self.clients = 0
        self._storage = self.openClientStorage()

    def openClientStorage(self, *_: object, **__: object) -> Storage:
        self.clients += 1
        storage = Storage(self.server.address, client_label=f"client {self.clients}", server_sync=True)
        storage.registerDB(DummyDB())
        return storage

    def tearDown(self) -> None:
        self._close()
        self._storage = None
        self.server.stop()
        super().tearDown()

    def test_all_of_them_are_found(self) -> None:
        assert len([name for name in dir(self) if name.startswith("check")]) == 6


def _test(name: str) -> None:
    def run(self: TestInvalidations) -> None:
        getattr(self, name)()

    setattr(TestInvalidations, "test_" + name, run)


for _name in dir(InvalidationTests):
    # They are called check..., which pytest does not collect.
    if _name.startswith("check"):
        _test(_name)
