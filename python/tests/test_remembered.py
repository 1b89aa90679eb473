"""What the connection of ``evolve.each`` remembers from one chunk to the next: nothing of what the caller's ``progress`` has loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from evolving import opened
from persistent.mapping import PersistentMapping
from scripts import ANY_DISK
from serving import Server
from test_evolve import uri as uri  # a fixture
from ZODB import DB
from ZODB.POSException import ConflictError
from ZODB.utils import z64

from zeolite import _zeolite, evolve
from zeolite.evolve.chunk import Stepping
from zeolite.evolve.overlay import Overlay
from zeolite.evolve.steps import Step
from zeolite.zodb import Storage

#: Of which each call of ``progress`` changes one.
PAIRS = 100
FEW: dict[str, Any] = {"chunk_objects_start": 20, "chunk_objects_max": 20, **ANY_DISK}


@pytest.fixture(params=[False, True], ids=["implicit", "explicit"])
def root(server: Server, uri: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of a connection with either kind of manager; ``progress`` is called before each chunk."""
    monkeypatch.setattr("zeolite.evolve.looping.LOOK", 0.0)
    manager = transaction.TransactionManager(explicit=request.param)
    database = DB(Storage(server.address))
    connection = database.open(manager)
    manager.begin()
    found = connection.root()
    found["first"] = PersistentMapping(count=0)
    manager.commit()
    manager.begin()
    yield found
    manager.abort()
    connection.close()
    database.close()


class Chunks:
    """Tells steps in which chunk they are."""

    def __init__(self, connection: Any):
        self._connection = connection
        self.seen: list[Any] = []

    def number(self) -> int:
        if not self.seen or self.seen[-1] is not self._connection._storage:
            self.seen.append(self._connection._storage)
        return len(self.seen)


def test_what_progress_has_read_goes_over_nothing(root: Any) -> None:
    chunks, counted = Chunks(root._p_jar), [0]

    def step(doc: Any) -> None:
        # In between it is a ghost.
        if chunks.number() % 2:
            root["first"]["count"] += 1
            counted[0] += 1

    done = evolve.each(root["docs"].values(), step, progress=lambda *so: root["first"]["count"], **FEW)
    assert done.stepped_again == 0 and len(chunks.seen) > 3
    assert root["first"]["count"] == counted[0]


def test_progress_sees_what_is_committed_and_no_step_sees_more_than_its_snapshot(server: Server, root: Any) -> None:
    manager, read, calls = root._p_jar.transaction_manager, [], [0]
    for side in ("left", "right"):
        root[side] = PersistentMapping({number: PersistentMapping(call=0) for number in range(PAIRS)})
    manager.commit()
    manager.begin()
    with opened(server.address) as editor:

        def progress(done: int, total: int) -> None:
            calls[0] += 1
            number = calls[0] % PAIRS
            # Both behind the snapshot of the chunk that comes; only one of them is looked at.
            for side in ("left", "right"):
                editor.root()[side][number]["call"] = calls[0]
            editor.transaction_manager.commit()
            root._p_jar._storage._database.newest()
            manager.begin()
            assert root["left"][number]["call"] == calls[0]
            manager.abort()

        def step(doc: Any) -> None:
            read.append([(root["left"][number]["call"], root["right"][number]["call"]) for number in range(PAIRS)])
            doc.views += 1

        evolve.each(root["docs"].values(), step, progress=progress, **FEW)
    assert calls[0] > 3 and read[0] != read[-1]
    assert all(left == right for pairs in read for left, right in pairs)


def test_a_chunk_takes_nothing_that_was_made_of_another_revision(server: Server) -> None:
    database = DB(Storage(server.address))
    connection = database.open(transaction.TransactionManager())
    root = connection.root()
    root["first"] = PersistentMapping(count=0)
    connection.transaction_manager.commit()
    oid, former = root["first"]._p_oid, root["first"]._p_serial
    root["first"]["count"] = 1
    connection.transaction_manager.commit()
    here, data = root["first"]._p_serial, connection._storage.load(oid)[0]
    snapshot = _zeolite.Snapshot(connection._storage._database)
    snapshot.poll()
    chunk, new = Overlay(snapshot, connection._storage._objects, {}), connection._storage.new_oid()

    def stored(oid: bytes, serial: bytes) -> bytes:
        chunk.tpc_begin(None)
        chunk.store(oid, serial, data, "", None)
        return chunk.tpc_finish(None)

    for stale in (former, z64):
        with pytest.raises(ConflictError, match="from outside its chunk"):
            stored(oid, stale)
    step = stored(oid, here)
    # And of those that the chunk has itself it is the last.
    with pytest.raises(ConflictError, match="from outside its chunk"):
        stored(oid, here)
    assert stored(oid, step) > step and stored(new, z64)
    with pytest.raises(ConflictError, match="from outside its chunk"):
        stored(new, z64)
    chunk.ended()
    connection.close()
    database.close()


def test_what_a_step_failed_on_is_seen_to_be_read_by_another(server: Server) -> None:
    database = DB(Storage(server.address))
    with database.transaction() as connection:
        connection.root()["first"], connection.root()["second"] = PersistentMapping(count=1), PersistentMapping(count=2)
    connection = database.open(transaction.TransactionManager())
    first, second = (connection.root()[name] for name in ("first", "second"))
    asked = [(one._p_oid, *connection._storage.load(one._p_oid), None, True) for one in (first, second)]

    def step(obj: Any, tx: evolve.Tx) -> None:
        if obj._p_oid == first._p_oid:
            raise ValueError("not the first")
        obj["count"] += tx.get(first._p_oid)["count"]

    snapshot = _zeolite.Snapshot(connection._storage._database)
    snapshot.poll()
    stepping = Stepping(connection._storage._database, Step(step, "", 0, "sum"), None)
    (failed, told), _, _, read = stepping(snapshot, asked)
    assert "not the first" in failed and told[1], "it may know more than its object"
    assert first._p_oid in read
    stepping.close()
    connection.close()
    database.close()
