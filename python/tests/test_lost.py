"""Servers that are killed and lines that are lost, in each phase of a commit: it happens once, or not at all, and ZODB is told which."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import transaction
from line import Line
from persistent.mapping import PersistentMapping
from serving import Server
from test_processes import assert_exact, change, prepare
from transaction.interfaces import TransientError
from ZODB import DB
from ZODB.Connection import TransactionMetaData
from ZODB.utils import z64

from zeolite import errors
from zeolite.zodb import Storage

Connect = Callable[..., Storage]


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    carrying = Line(server.address)
    yield carrying
    carrying.close()


class Commit:
    """A commit that writes the root again, phase by phase; the second in a thread of its own."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self.data, self.serial = storage.load(z64)
        self.meta = TransactionMetaData()
        storage.tpc_begin(self.meta)
        storage.store(z64, self.serial, self.data, "", self.meta)
        self.ended: list[bytes | BaseException] = []

    def begin(self, phase: Callable[[TransactionMetaData], bytes]) -> threading.Thread:
        def work() -> None:
            try:
                self.ended.append(phase(self.meta))
            except BaseException as error:
                self.ended.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread


def test_killed_in_the_vote(server: Server, line: Line, connect: Connect) -> None:
    DB(connect())
    storage = Storage(line.address)
    commit = Commit(storage)
    line.deaf = True
    voting = commit.begin(storage.tpc_vote)
    assert line.swallowed.wait(60)
    server.kill()
    server.start_again()
    line.open()
    voting.join(60)
    (error,) = commit.ended
    assert isinstance(error, TransientError) and isinstance(error, errors.Wait), repr(error)
    storage.tpc_abort(commit.meta)
    # Nothing is held, nothing was committed: the same again.
    again = Commit(storage)
    assert again.serial == commit.serial
    storage.tpc_vote(again.meta)
    assert storage.tpc_finish(again.meta) > commit.serial
    storage.close()


def test_killed_when_it_had_finished(server: Server, line: Line, connect: Connect) -> None:
    witness = connect()
    DB(witness)
    storage = Storage(line.address)
    commit = Commit(storage)
    storage.tpc_vote(commit.meta)
    line.deaf = True
    finishing = commit.begin(storage.tpc_finish)
    # The server has answered; nobody heard it.
    assert line.swallowed.wait(60)
    while witness.getTid(z64) == commit.serial:
        pass
    server.kill()
    server.start_again()
    line.open()
    finishing.join(60)
    (tid,) = commit.ended
    assert isinstance(tid, bytes), repr(tid)
    assert [entry["tid"] for entry in witness.history(z64, 10)] == [tid, commit.serial]
    storage.close()


def test_killed_before_it_heard_of_the_finish(server: Server, line: Line, connect: Connect) -> None:
    witness = connect()
    DB(witness)
    storage = Storage(line.address)
    commit = Commit(storage)
    storage.tpc_vote(commit.meta)
    line.swallowed.clear()
    line.mute = True
    finishing = commit.begin(storage.tpc_finish)
    assert line.swallowed.wait(60)
    server.kill()
    server.start_again()
    line.open()
    finishing.join(60)
    (error,) = commit.ended
    assert isinstance(error, TransientError) and isinstance(error, errors.Retry), repr(error)
    assert len(witness.history(z64, 10)) == 1
    storage.close()


class Meanwhile:
    """A resource that is asked between the storage's two phases."""

    def __init__(self, manager: transaction.TransactionManager, work: Callable[[], None]):
        self.transaction_manager, self.work = manager, work

    def sortKey(self) -> str:
        return "~"

    def tpc_vote(self, _: object) -> None:
        self.work()

    def nothing(self, _: object) -> None: ...

    tpc_begin = commit = tpc_finish = tpc_abort = abort = nothing


def test_a_server_that_is_killed_between_the_phases(server: Server, connect: Connect) -> None:
    db = prepare(connect())
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    connection.root()["plain"] += 1

    def kill() -> None:
        server.kill()
        server.start_again()

    manager.get().join(Meanwhile(manager, kill))
    with pytest.raises(TransientError) as caught:
        manager.commit()
    assert isinstance(caught.value, errors.Retry), caught.value
    manager.abort()
    # Nothing of it was committed; the same again is.
    assert connection.root()["plain"] == 0
    connection.root()["plain"] += 1
    manager.commit()
    manager.begin()
    assert connection.root()["plain"] == 1
    db.close()


def test_a_server_that_is_killed_again_and_again_counts_exactly(server: Server, connect: Connect) -> None:
    db = prepare(connect())
    done: list[int] = []
    unknown: list[BaseException] = []

    def work(who: int) -> None:
        try:
            for number in range(15):
                count_once(db, who, number)
                done.append(1)
        except BaseException as error:
            unknown.append(error)

    threads = [threading.Thread(target=work, args=(who,), daemon=True) for who in range(8)]
    for thread in threads:
        thread.start()
    for kills in range(1, 5):
        while len(done) < kills * 20 and any(thread.is_alive() for thread in threads):
            threads[0].join(0.01)
        server.kill()
        server.start_again()
    for thread in threads:
        thread.join(100)
    assert unknown == []
    assert_exact(db, 8 * 15)
    db.close()


def count_once(db: DB, who: int, number: int) -> None:
    def work(root: PersistentMapping) -> None:
        root["length"].change(1)
        root["tree"][f"{who:03}-{number:03}"] = number
        root["plain"] = root["plain"] + 1

    change(db, work)
