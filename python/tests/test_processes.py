"""Many threads, many processes, forks, signals: what a site does to a storage."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import transaction
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from serving import Server
from transaction.interfaces import TransientError
from ZODB import DB

from zeolite import errors
from zeolite.zodb import Storage

Connect = Callable[..., Storage]


def change(db: DB, work: Callable[[PersistentMapping], None]) -> None:
    """In a transaction; again when another one was in the way."""
    manager = transaction.TransactionManager()
    while True:
        connection = db.open(manager)
        try:
            with manager:
                work(connection.root())
            return
        except TransientError:
            pass
        finally:
            connection.close()


def count(db: DB, who: int, times: int) -> None:
    for number in range(times):

        def work(root: PersistentMapping) -> None:
            root["length"].change(1)
            root["tree"][f"{who:03}-{number:03}"] = number
            root["plain"] = root["plain"] + 1

        change(db, work)


def prepare(storage: Storage) -> DB:
    db = DB(storage, pool_size=100)
    with db.transaction() as connection:
        connection.root().update(length=Length(), tree=OOBTree(), plain=0)
    return db


def assert_exact(db: DB, total: int) -> None:
    connection = db.open()
    # With `server_sync` it sees here what other processes were told is committed.
    transaction.begin()
    root = connection.root()
    root["tree"]._check()
    assert (root["length"](), len(root["tree"]), root["plain"]) == (total, total, total)
    connection.close()


def test_64_threads_count_exactly(connect: Connect) -> None:
    db = prepare(connect())
    threads = [threading.Thread(target=count, args=(db, who, 3), daemon=True) for who in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    assert_exact(db, 64 * 3)
    db.close()


def in_a_process(address: str, who: int) -> None:
    db = DB(Storage(address))
    count(db, who, 10)
    db.close()


def test_8_processes_count_exactly(server: Server, connect: Connect) -> None:
    db = prepare(connect(server_sync=True))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=in_a_process, args=(server.address, who)) for who in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(150)
    assert [process.exitcode for process in processes] == [0] * 8
    assert_exact(db, 80)
    db.close()


def child(work: Callable[[], None]) -> int:
    """Runs it in a forked child; its exit code. A child that hangs is ended by its alarm."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_gets_a_connection_of_its_own(connect: Connect) -> None:
    db = prepare(connect(server_sync=True))
    connection = db.open()
    assert connection.root()["plain"] == 0

    def work() -> None:
        # What was begun in the parent is refused by name: neither a hang nor what was.
        connection.cacheMinimize()
        with pytest.raises(errors.Forked, match="fork"):
            connection.root()["tree"]
        transaction.abort()
        transaction.begin()
        assert connection.root()["plain"] == 0
        count(db, 1, 3)

    assert child(work) == 0
    transaction.begin()
    assert connection.root()["plain"] == 3
    count(db, 2, 3)
    assert_exact(db, 6)
    db.close()


def test_a_child_does_not_read_what_only_the_parent_is_told_of(connect: Connect) -> None:
    db, other = prepare(connect()), DB(connect(client_label="other"))
    connection = db.open()
    assert connection.root()["plain"] == 0
    reads, writes = os.pipe()

    def work() -> None:
        os.close(writes)
        os.read(reads, 1)
        transaction.begin()
        assert connection.root()["plain"] == 2

    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(reads)
    count(other, 1, 2)
    os.write(writes, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(writes)
    db.close()
    other.close()


def test_a_transaction_under_way_stays_with_the_parent(connect: Connect) -> None:
    db = prepare(connect())
    connection = db.open()
    connection.root()["plain"] = 7

    def work() -> None:
        with pytest.raises(errors.Forked):
            transaction.commit()
        transaction.abort()

    assert child(work) == 0
    transaction.commit()
    transaction.begin()
    assert connection.root()["plain"] == 7
    db.close()


def in_a_fork(db: DB) -> None:
    count(db, 5, 2)


def test_multiprocessing_by_fork(connect: Connect) -> None:
    db = prepare(connect(server_sync=True))
    process = multiprocessing.get_context("fork").Process(target=in_a_fork, args=(db,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert_exact(db, 2)
    db.close()


WAITS = """
import sys
from zeolite.zodb import Storage
try:
    print("waiting", flush=True)
    Storage(sys.argv[1], wait=True, wait_timeout=600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_the_wait_for_a_server(server: Server) -> None:
    server.stop()
    # Elsewhere: here the sources would be found before the package.
    command = [sys.executable, "-c", WAITS, server.address]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=server.directory)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting\n"
    # If it does not wait yet, Python looks at the signal by itself.
    waiting.send_signal(signal.SIGINT)
    assert waiting.stdout.readline() == "interrupted\n"
    assert waiting.wait(60) == 0
    waiting.stdout.close()
    server.start_again()
