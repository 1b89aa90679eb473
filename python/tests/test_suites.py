"""ZODB's own suites for a storage, each test on a server of its own.

The number of tests is asserted: a suite whose tests are not found would pass without a word. One test of ZODB's is replaced:
``testPackUndoLog`` puts another clock into its own process, and a server has its own; what it wraps runs here.
"""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from serving import Server
from ZODB.tests import (
    BasicStorage,
    ConflictResolution,
    HistoryStorage,
    IteratorStorage,
    MTStorage,
    PackableStorage,
    PersistentStorage,
    ReadOnlyStorage,
    RecoveryStorage,
    RevisionStorage,
    StorageTestBase,
    Synchronization,
    TransactionalUndoStorage,
)
from ZODB.tests.MinPO import MinPO
from ZODB.tests.testMVCCMappingStorage import MVCCTests

from zeolite.zodb import Storage

COUNTS = {"Core": 51, "HistoryPreserving": 39, "Recovery": 5, "MVCC": 3}


class DummyDB:
    """What a wrapper, or a database, registers as."""

    def invalidate(self, *_: object) -> None: ...

    def invalidateCache(self) -> None: ...

    transform_record_data = untransform_record_data = staticmethod(lambda data: data)


class OnServer(StorageTestBase.StorageTestBase):  # type: ignore[misc]
    """A storage on a new server."""

    def setUp(self) -> None:
        super().setUp()
        self.clients = 0
        # Below the directory that the suites make for a test, and remove.
        self.directory = tempfile.mkdtemp(prefix="zeolite-")
        self.server = Server(self.directory)
        self._storage = self.connect()

    def connect(self, **keywords: object) -> Storage:
        # A label of its own: a connection of its own, as of another process, also if an earlier server has had this one's port.
        self.clients += 1
        label = f"client {self.clients} of {Path(self.directory).name}"
        storage = Storage(self.server.address, client_label=label, **keywords)  # type: ignore[arg-type]
        storage.registerDB(DummyDB())
        return storage

    def open(self, read_only: bool = False) -> None:
        self._storage = self.connect(read_only=read_only)

    def _new_storage_client(self) -> Storage:
        return self.connect(server_sync=True)

    def tearDown(self) -> None:
        self._close()
        self._storage = None
        self.server.stop()
        super().tearDown()


class Core(
    OnServer,
    BasicStorage.BasicStorage,
    Synchronization.SynchronizedStorage,
    MTStorage.MTStorage,
    ReadOnlyStorage.ReadOnlyStorage,
    PersistentStorage.PersistentStorage,
    HistoryStorage.HistoryStorage,
    PackableStorage.PackableStorageWithOptionalGC,
    PackableStorage.PackableStorage,
    ConflictResolution.ConflictResolvingStorage,
):
    def testResolve(self) -> None:
        self.checkResolve()

    def test_tid_ordering_w_commit(self) -> None:
        # It stores single letters, which are no records.
        store = Storage.store

        def stored(storage: Storage, oid: bytes, serial: bytes, data: bytes, *rest: object) -> None:
            store(storage, oid, serial, StorageTestBase.zodb_pickle(MinPO(data)), *rest)  # type: ignore[arg-type]

        with mock.patch.object(Storage, "store", stored):
            super().test_tid_ordering_w_commit()


class HistoryPreserving(
    OnServer,
    RevisionStorage.RevisionStorage,
    IteratorStorage.IteratorStorage,
    IteratorStorage.ExtendedIteratorStorage,
    TransactionalUndoStorage.TransactionalUndoStorage,
    PackableStorage.PackableUndoStorage,
    ConflictResolution.ConflictResolvingTransUndoStorage,
):
    use_extension_bytes = True

    def testPackUndoLog(self) -> None:
        PackableStorage.PackableUndoStorage.testPackUndoLog.__wrapped__(self)


class Recovery(OnServer, RecoveryStorage.RecoveryStorage):
    def setUp(self) -> None:
        super().setUp()
        os.mkdir(os.path.join(self.directory, "other"))
        self.other = Server(os.path.join(self.directory, "other"))
        self._dst = Storage(self.other.address)

    def tearDown(self) -> None:
        self._dst.close()
        self.other.stop()
        super().tearDown()


class MVCC(OnServer, MVCCTests):
    pass


class Counts(unittest.TestCase):
    def test_all_of_them_are_found(self) -> None:
        for name, count in COUNTS.items():
            found = unittest.defaultTestLoader.getTestCaseNames(globals()[name])
            self.assertEqual(len(found), count, f"{name}: {found}")
