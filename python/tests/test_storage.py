"""What is this storage's own: one connection for a process, what is kept open, what is refused, in which words."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from base64 import encodebytes
from collections.abc import Callable

import pytest
import transaction
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from serving import PROGRAM, Server
from transaction.interfaces import TransientError
from ZODB import DB
from ZODB.Connection import TransactionMetaData
from ZODB.DemoStorage import DemoStorage
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.POSException import ConflictError, POSKeyError, ReadConflictError, ReadOnlyError, UndoError, Unsupported
from ZODB.utils import p64, z64

from zeolite import errors
from zeolite.zodb import Storage
from zeolite.zodb.errors import Forked, Gated, Unscannable
from zeolite.zodb.storage import MAXTID

Connect = Callable[..., Storage]


class Document(Persistent):
    _zeolite_version_ = 2


def zeolite(server: Server, *arguments: str) -> str:
    """What the command line answers."""
    command = [PROGRAM, "--server", server.address, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_storages_of_a_process_share_a_connection(connect: Connect) -> None:
    first, second, apart = connect(), connect(), connect(client_label="apart")
    assert first._database.status()["sessions"] == 2
    # What one has read costs the other no round trip.
    db = DB(first)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(b=1)
    hits = second._database.cache_stats()[1]
    assert DB(second).open().root()["a"]["b"] == 1
    assert second._database.cache_stats()[1] >= hits + 2
    assert apart._database.cache_stats() == (0, 0, 0, 0, 0)


def test_classes_versions_and_references_are_known_to_the_server(server: Server, connect: Connect) -> None:
    storage = connect()
    db = DB(storage)
    with db.transaction() as connection:
        connection.root()["doc"] = Document()
        connection.root()["tree"] = OOBTree({"a": Document()})
    kinds = {(name, version): count for name, version, count in storage._database.kinds()}
    assert kinds[f"{Document.__module__}.Document", 2] == 2
    assert kinds["BTrees.OOBTree.OOBTree", 0] == 1
    assert kinds["persistent.mapping.PersistentMapping", 0] == 1
    assert "problems" not in zeolite(server, "verify").lower().replace("no problems", "")
    # Nobody refers to it any more: pack takes it, and nothing else.
    with db.transaction() as connection:
        del connection.root()["doc"]
    storage.pack(time.time() + 1, None)
    assert len(storage) == 3
    connection = db.open()
    assert isinstance(connection.root()["tree"]["a"], Document)
    connection.close()


def test_what_cannot_be_scanned_is_refused(connect: Connect) -> None:
    storage = connect()
    transaction_ = TransactionMetaData()
    storage.tpc_begin(transaction_)
    with pytest.raises(Unscannable, match="references"):
        storage.store(storage.new_oid(), z64, b"compressed, perhaps", "", transaction_)
    storage.tpc_abort(transaction_)


def test_conflicts_are_resolved_by_the_classes(connect: Connect) -> None:
    one, other = DB(connect()), DB(connect(client_label="other", server_sync=True))
    with one.transaction() as connection:
        connection.root()["length"], connection.root()["tree"] = Length(), OOBTree({"a": 1, "z": 1})
    mine, theirs = transaction.TransactionManager(), transaction.TransactionManager()
    ours, others = one.open(mine), other.open(theirs)
    theirs.begin()
    ours.root()["length"].change(3)
    ours.root()["tree"]["m"] = 1
    others.root()["length"].change(4)
    others.root()["tree"]["n"] = 1
    theirs.commit()
    mine.commit()
    assert ours.root()["length"]() == 7
    assert sorted(ours.root()["tree"]) == ["a", "m", "n", "z"]
    theirs.begin()
    assert others.root()["length"]() == 7
    # What is not resolved is a conflict, which can be run again.
    ours.root()["x"] = 1
    others.root()["x"] = 2
    mine.commit()
    with pytest.raises(ConflictError) as caught:
        theirs.commit()
    assert isinstance(caught.value, TransientError) and caught.value.oid == z64
    theirs.abort()
    one.close()
    other.close()


def test_two_that_open_a_new_database_at_once(connect: Connect) -> None:
    one, other = connect(), connect(client_label="other")

    def begin(storage: Storage, mapping: PersistentMapping) -> TransactionMetaData:
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        storage.store(z64, z64, zodb_pickle(mapping), "", meta)
        return meta

    first, second = begin(one, PersistentMapping()), begin(other, PersistentMapping())
    third = begin(other, PersistentMapping(a=1))
    one.tpc_vote(first)
    tid = one.tpc_finish(first)
    assert other.tpc_vote(second) == [z64]
    assert other.tpc_finish(second) > tid
    # Another root than that is a conflict.
    with pytest.raises(ConflictError):
        other.tpc_vote(third)
    other.tpc_abort(third)
    assert DB(one).open().root() == {}


def test_what_was_read_as_current_is_checked(connect: Connect) -> None:
    db = DB(connect())
    with db.transaction() as connection:
        connection.root()["a"], connection.root()["b"] = PersistentMapping(), PersistentMapping()
    mine, theirs = transaction.TransactionManager(), transaction.TransactionManager()
    ours, others = db.open(mine), db.open(theirs)
    ours.readCurrent(ours.root()["a"])
    ours.root()["b"]["x"] = 1
    others.root()["a"]["x"] = 1
    theirs.commit()
    with pytest.raises(ReadConflictError) as caught:
        mine.commit()
    assert caught.value.oid == ours.root()["a"]._p_oid
    mine.abort()
    db.close()


def test_polls_tell_what_others_wrote_and_not_what_is_own(connect: Connect) -> None:
    root = connect()
    DB(root)
    one, other = root.new_instance(), root.new_instance()
    assert one.poll_invalidations() is None, "nothing was read before"
    assert other.poll_invalidations() is None
    assert one.poll_invalidations() == []

    def store(storage: Storage, oid: bytes, serial: bytes, data: bytes) -> bytes:
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        storage.store(oid, serial, data, "", meta)
        storage.tpc_vote(meta)
        return storage.tpc_finish(meta)

    data, serial = one.load(z64)
    tid = store(one, z64, serial, data)
    assert root.lastTransaction() == tid
    assert one.poll_invalidations() == []
    assert other.load(z64)[1] == serial, "it reads where it was"
    assert other.poll_invalidations() == [z64]
    assert other.load(z64)[1] == tid


def test_a_snapshot_is_kept_from_pack_until_the_transaction_is_over(connect: Connect) -> None:
    storage = connect()
    db = DB(storage)
    with db.transaction() as connection:
        connection.root()["a"] = 1
    reader = storage.new_instance()
    reader.poll_invalidations()
    data, serial = reader.load(z64)
    for value in range(3):
        with db.transaction() as connection:
            connection.root()["a"] = value
    packer = connect(client_label="packer")
    # It is taken beside the first load, and nobody waits for it.
    while storage._database.status()["pins"] == 0:
        pass
    packer.pack(time.time() + 1, None)
    elsewhere = connect(client_label="elsewhere").new_instance()
    assert reader.load(z64) == (data, serial)
    assert storage._database.status()["pins"] == 1
    reader.afterCompletion()
    storage._database.settle()
    assert storage._database.status()["pins"] == 0
    packer.pack(time.time() + 1, None)
    assert elsewhere.load(z64)[1] == storage.lastTransaction()
    with pytest.raises(POSKeyError):
        elsewhere.loadSerial(z64, serial)


def test_garbage_is_collected_from_outside(connect: Connect) -> None:
    storage = connect(pack_gc=False)
    db = DB(storage)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping()
    connection = db.open()
    oid = connection.root()["a"]._p_oid
    del connection.root()["a"]
    transaction.commit()
    storage.pack(time.time() + 1, None)
    data, serial = storage.load(oid)
    assert len(storage) == 2, "without garbage collection it stays"

    def delete(base: bytes) -> bytes:
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        storage.deleteObject(oid, base, meta)
        try:
            storage.tpc_vote(meta)
        except ConflictError:
            storage.tpc_abort(meta)
            raise
        return storage.tpc_finish(meta)

    with pytest.raises(ConflictError):
        delete(p64(1))
    tid = delete(serial)
    assert tid == storage.lastTransaction()
    with pytest.raises(POSKeyError):
        storage.load(oid)
    assert storage.loadBefore(oid, tid) == (data, serial, tid)
    storage.pack(time.time() + 1, None)
    assert len(storage) == 1
    db.close()


def test_a_class_with_a_name_of_the_servers_own_is_refused(connect: Connect) -> None:
    mine = types.ModuleType("zeolite.mine")
    mine.Thing = type("Thing", (Persistent,), {"__module__": "zeolite.mine"})  # type: ignore[attr-defined]
    sys.modules["zeolite.mine"] = mine
    db = DB(connect())
    connection = db.open()
    connection.root()["thing"] = mine.Thing()
    try:
        with pytest.raises(errors.FixRequest, match="zeolite.mine.Thing.*another name"):
            transaction.commit()
    finally:
        transaction.abort()
        del sys.modules["zeolite.mine"]
    db.close()


def test_errors_say_what_is_done_about_them(server: Server, connect: Connect) -> None:
    db = DB(connect())
    with db.transaction() as connection:
        connection.root()["doc"] = Document()
    zeolite(server, "mode", "read-only", "--banner", "back at noon")
    connection = db.open()
    connection.root()["a"] = 1
    with pytest.raises(errors.ReadOnly, match="back at noon") as caught:
        transaction.commit()
    assert isinstance(caught.value, ReadOnlyError) and isinstance(caught.value, errors.Wait)
    assert db.storage.isReadOnly()
    transaction.abort()
    zeolite(server, "mode", "normal")
    # An old program meets a class whose objects are all newer.
    zeolite(server, "gate", "close", f"{Document.__module__}.Document", "--version", "2")
    Document._zeolite_version_ = 1
    try:
        connection.root()["doc"].x = 1
        with pytest.raises(errors.Gated) as gated:
            transaction.commit()
    finally:
        Document._zeolite_version_ = 2
    assert isinstance(gated.value, Gated) and not isinstance(gated.value, TransientError)
    transaction.abort()
    with pytest.raises(errors.FixRequest):
        db.storage.new_instance().load(b"short")
    assert issubclass(Forked, errors.Forked)
    db.close()


def test_history_and_undo_log_read_backwards(connect: Connect) -> None:
    storage = connect()
    db = DB(storage)
    for value in range(5):
        with db.transaction(f"value {value}") as connection:
            connection.root()["a"] = value
    log = storage.undoLog(0, -2)
    assert [entry["description"] for entry in log] == [b"value 4", b"value 3"]
    assert [entry["description"] for entry in storage.undoLog(4, -20)] == [b"value 0", b"initial database creation"]
    db.undo(log[0]["id"])
    transaction.commit()
    connection = db.open()
    assert connection.root()["a"] == 3
    connection.close()
    assert len(db.history(z64, 10)) == 7


def test_all_records_and_all_transactions(connect: Connect) -> None:
    storage = connect()
    db = DB(storage)
    with db.transaction() as connection:
        for number in range(2500):
            connection.root()[number] = Document()
    found, cursor = [], None
    while True:
        oid, tid, data, cursor = storage.record_iternext(cursor)
        found.append(oid)
        assert data and tid
        if cursor is None:
            break
    assert found == sorted(found) and len(found) == 2501 and found[0] == z64
    assert [len(list(one)) for one in storage.iterator()] == [1, 2501]
    other = storage.iterator(stop=p64(1))
    assert list(other) == []


def test_two_undos_of_one_transaction_that_the_server_merges_both_come_through(connect: Connect) -> None:
    db = DB(connect())
    with db.transaction() as connection:
        connection.root()["length"] = Length(1)
    with db.transaction() as connection:
        connection.root()["length"].change(5)
    tid = db.undoLog(0, 1)[0]["id"]
    undoing = []
    for _ in range(2):
        storage, metadata = db.storage.new_instance(), TransactionMetaData()
        storage.poll_invalidations()
        storage.tpc_begin(metadata)
        storage.undo(tid, metadata)
        undoing.append((storage, metadata))
    for storage, metadata in undoing:
        storage.tpc_vote(metadata)
        storage.tpc_finish(metadata)
    db.storage.sync()
    with db.transaction() as connection:
        # Taken back twice, as merges of a length count.
        assert connection.root()["length"]() == 1 - 5
    db.close()


def test_the_id_of_no_transaction_undoes_nothing_else(connect: Connect) -> None:
    db = DB(connect())
    with db.transaction() as connection:
        connection.root()["a"] = 1
    # 0 is before the first, which would be read from there.
    for tid in (z64, p64(1), MAXTID):
        db.undo(encodebytes(tid).rstrip())
        with pytest.raises(UndoError, match="no such transaction"):
            transaction.commit()
        transaction.abort()
    assert list(db.storage.iterator(stop=z64)) == []
    assert len(list(db.storage.iterator(z64))) == 2
    db.close()


def test_a_transaction_that_is_copied_undoes_nothing(server: Server) -> None:
    storage = Storage(server.address)
    database = DB(storage)
    with database.transaction() as connection:
        connection.root()["a"] = 1
    copied = TransactionMetaData()
    storage.tpc_begin(copied, storage.lastTransaction()[:-1] + b"\xff")
    with pytest.raises(Unsupported, match="copied"):
        storage.undo(storage.undoLog()[0]["id"], copied)
    storage.tpc_abort(copied)
    database.close()


def test_a_demo_over_it_writes_elsewhere(connect: Connect) -> None:
    db = DB(connect())
    with db.transaction() as connection:
        connection.root()["tree"] = OOBTree({1: 2})
    demo = DB(DemoStorage(base=connect()))
    with demo.transaction() as connection:
        connection.root()["tree"][3] = 4
        connection.root()["of the demo"] = 1
    with demo.transaction() as connection:
        connection.root()["tree"][5] = 6
        assert dict(connection.root()["tree"]) == {1: 2, 3: 4, 5: 6}
    demo.close()
    with db.transaction() as connection:
        assert dict(connection.root()["tree"]) == {1: 2} and "of the demo" not in connection.root()
    db.close()
