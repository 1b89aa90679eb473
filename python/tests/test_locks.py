"""Votes that meet: nobody waits for ever, who has waited too long is told to come again, and what a client holds ends with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pickle import Unpickler
from typing import Any

import pytest
from persistent.mapping import PersistentMapping
from serving import Server
from transaction.interfaces import TransientError
from ZODB import DB
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ConflictError, ReadConflictError
from ZODB.tests.StorageTestBase import zodb_pickle

from zeolite import errors
from zeolite.zodb import Storage

Connect = Callable[..., Storage]

#: Commits of each of those that meet again and again.
ROUNDS = 40
#: How long an impatient one waits, in seconds.
IMPATIENT = 2


class Commit:
    """One that counts in objects, and reads others as current, phase by phase."""

    def __init__(self, storage: Storage, *counted: bytes, checked: Iterable[bytes] = ()):
        self.storage, self.meta = storage, TransactionMetaData()
        storage.sync()
        storage.tpc_begin(self.meta)
        for oid in counted:
            data, serial = storage.load(oid)
            storage.store(oid, serial, zodb_pickle(PersistentMapping(count=count_of(data) + 1)), "", self.meta)
        for oid in checked:
            storage.checkCurrentSerialInTransaction(oid, storage.load(oid)[1], self.meta)

    def vote(self) -> None:
        self.storage.tpc_vote(self.meta)

    def finish(self) -> bytes:
        return self.storage.tpc_finish(self.meta)

    def abort(self) -> None:
        self.storage.tpc_abort(self.meta)

    def whole(self) -> bytes:
        self.vote()
        return self.finish()


def count_of(data: bytes) -> int:
    reading = Unpickler(BytesIO(data))
    reading.load()
    found: int = reading.load()["data"]["count"]
    return found


def counts(storage: Storage, oids: Iterable[bytes]) -> list[int]:
    storage.sync()
    return [count_of(storage.load(oid)[0]) for oid in oids]


@pytest.fixture
def opened(connect: Connect) -> Connect:
    """Storages with a connection of their own each, that see whatever was committed before they look."""
    return lambda label, **keywords: connect(client_label=label, server_sync=True, **keywords)


@pytest.fixture
def three(connect: Connect) -> list[bytes]:
    """Objects that count from zero."""
    database = DB(connect(client_label="seed"))
    with database.transaction() as connection:
        made = [PersistentMapping(count=0) for _ in range(3)]
        connection.root()["three"] = PersistentMapping(enumerate(made))
        for one in made:
            connection.add(one)
        oids = [bytes(one._p_oid) for one in made]
    database.close()
    return oids


def begun(work: Callable[[], Any]) -> Future[Any]:
    """Runs beside the test."""
    pool = ThreadPoolExecutor(1)
    running = pool.submit(work)
    pool.shutdown(wait=False)
    return running


def test_votes_in_all_orders_never_wait_for_each_other(opened: Connect, three: list[bytes]) -> None:
    x, y, z = three
    orders, done = [(x, y), (y, x), (y, z), (z, x)], {oid: 0 for oid in three}
    together = threading.Barrier(len(orders))

    def count(number: int) -> int:
        storage, finished = opened(f"counts {number}"), 0
        for _ in range(ROUNDS):
            commit = Commit(storage, *orders[number])
            together.wait(60)
            try:
                commit.whole()
                finished += 1
            except ConflictError:
                commit.abort()
        return finished

    counting = [begun(partial(count, number)) for number in range(len(orders))]
    for oids, one in zip(orders, counting):
        for oid in oids:
            done[oid] += one.result(120)
    # Any two of them share an object: in each round one has won, and the others were told.
    assert sum(one.result() for one in counting) == ROUNDS
    assert counts(opened("looks"), three) == [*done.values()]


def test_who_waits_too_long_is_told_to_come_again_and_holds_nothing(opened: Connect, three: list[bytes]) -> None:
    x, y, _ = three
    one, impatient, other = opened("one"), opened("impatient", wait_timeout=IMPATIENT), opened("other")
    first = Commit(one, x)
    first.vote()
    waiting = Commit(impatient, y, x)
    with pytest.raises(TransientError) as told:
        waiting.vote()
    assert isinstance(told.value, errors.Wait) and not isinstance(told.value, ConflictError), repr(told.value)
    # It waited for one of its two objects: the other is free all the time.
    Commit(other, y).whole()
    waiting.abort()
    Commit(other, y).whole()
    first.finish()
    Commit(other, x, y).whole()
    # And it comes again.
    Commit(impatient, y, x).whole()
    assert counts(one, [x, y]) == [3, 4]


@pytest.mark.parametrize("ends", ["finish", "abort"])
def test_who_waits_goes_on_when_the_other_has_ended(opened: Connect, three: list[bytes], ends: str) -> None:
    x, y, _ = three
    one, other = opened("one"), opened("other")
    first, second = Commit(one, x), Commit(other, y, x)
    first.vote()
    voting = begun(second.vote)
    assert not voting.done()
    if ends == "abort":
        first.abort()
        voting.result(60)
        second.finish()
        assert counts(one, [x, y]) == [1, 1]
        return
    first.finish()
    with pytest.raises(ConflictError) as told:
        voting.result(60)
    assert told.value.oid == x
    second.abort()
    assert counts(one, [x, y]) == [1, 0]


@pytest.mark.parametrize("ends", ["finish", "abort"])
def test_read_as_current_behind_one_that_writes_it(opened: Connect, three: list[bytes], ends: str) -> None:
    x, y, _ = three
    one, other = opened("one"), opened("other")
    writes, reads = Commit(one, x), Commit(other, y, checked=[x])
    writes.vote()
    voting = begun(reads.vote)
    if ends == "abort":
        writes.abort()
        voting.result(60)
        reads.finish()
        assert counts(one, [x, y]) == [0, 1]
        return
    assert not voting.done(), "nobody knows yet whether it is current"
    writes.finish()
    with pytest.raises(ReadConflictError) as told:
        voting.result(60)
    assert told.value.oid == x and isinstance(told.value, TransientError)
    reads.abort()
    assert counts(one, [x, y]) == [1, 0]


def test_what_was_read_as_current_is_written_by_nobody_before_the_finish(opened: Connect, three: list[bytes]) -> None:
    x, y, z = three
    one, other, impatient = opened("one"), opened("other"), opened("impatient", wait_timeout=IMPATIENT)
    reads = Commit(one, y, checked=[x])
    reads.vote()
    # Who only reads it too waits for nobody.
    Commit(impatient, z, checked=[x]).whole()
    writes = Commit(impatient, x)
    with pytest.raises(errors.Wait):
        writes.vote()
    writes.abort()
    voting = begun(Commit(other, x).whole)
    before = reads.finish()
    assert voting.result(60) > before
    assert counts(one, three) == [1, 1, 1]


DIES = """
import sys
sys.path.insert(0, sys.argv[1])
from test_locks import Commit
from zeolite.zodb import Storage
commit = Commit(Storage(sys.argv[2], server_sync=True), *(bytes.fromhex(oid) for oid in sys.argv[3:]))
commit.vote()
print("voted", flush=True)
sys.stdin.read()
"""


def test_what_a_client_holds_ends_with_it(server: Server, opened: Connect, three: list[bytes]) -> None:
    x, y, _ = three
    command = [sys.executable, "-c", DIES, __file__.rpartition("/")[0], server.address, x.hex(), y.hex()]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=server.directory)
    assert client.stdout is not None and client.stdout.readline() == "voted\n"
    impatient = opened("impatient", wait_timeout=IMPATIENT)
    waiting = Commit(impatient, x)
    with pytest.raises(errors.Wait):
        waiting.vote()
    waiting.abort()
    storage = opened("other", wait_timeout=15)
    voting = begun(Commit(storage, y, x).whole)
    client.send_signal(signal.SIGKILL)
    client.communicate()
    # What is held has a time limit, 30 s, and he does not wait for so long: that is not what lets go.
    voting.result(60)
    assert counts(storage, [x, y]) == [1, 1]


def test_a_pack_beside_a_voter(opened: Connect, three: list[bytes]) -> None:
    x, y, _ = three
    one, other = opened("one"), opened("other")
    for _ in range(3):
        Commit(other, x, y).whole()
    voted = Commit(one, x)
    voted.vote()
    other.pack(time.time() + 60, None)
    assert len(other.history(x, 10)) == 1
    # What is held is held still, and nothing else is.
    Commit(other, y).whole()
    impatient = Commit(opened("impatient", wait_timeout=IMPATIENT), x)
    with pytest.raises(errors.Wait):
        impatient.vote()
    impatient.abort()
    tid = voted.finish()
    assert one.load(x)[1] == tid
    assert counts(one, [x, y]) == [4, 4]
