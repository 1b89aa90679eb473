"""Threads that wait: whoever waits turns the wheel for all, goes when he has his answer or is interrupted, and nobody is held up by that."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pytest
from serving import Server
from test_processes import assert_exact, child, count, prepare

from zeolite.zodb import Storage

Connect = Callable[..., Storage]


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield "127.0.0.1:%d" % taken.getsockname()[1]


def wait_for(address: str, seconds: float, ended: list[BaseException]) -> threading.Thread:
    """A thread that waits so long for a server that is not there."""
    begins = threading.Event()

    def wait() -> None:
        begins.set()
        try:
            Storage(address, wait=True, wait_timeout=seconds)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    begins.wait()
    return thread


def test_two_that_wait_for_long_do_not_hold_up_a_third(connect: Connect, nowhere: str) -> None:
    ended: list[BaseException] = []
    waiting = [wait_for(nowhere, 2.0, ended), wait_for(nowhere, 6.0, ended)]
    db = prepare(connect())
    # Beside both, beside one, and alone.
    beside, done = {2: 0, 1: 0, 0: 0}, 0
    while not beside[0]:
        alive = sum(thread.is_alive() for thread in waiting)
        count(db, done, 1)
        done += 1
        beside[alive] += 1
    assert all(beside.values()) and len(ended) == 2
    assert_exact(db, done)
    db.close()


def test_fork_while_a_thread_waits(connect: Connect, nowhere: str) -> None:
    ended: list[BaseException] = []
    db = prepare(connect(server_sync=True))
    waiting = wait_for(nowhere, 600.0, ended)
    count(db, 1, 3)
    for who in (2, 3):
        assert child(lambda who=who: count(db, who, 3)) == 0  # type: ignore[misc]
        count(db, 10 + who, 3)
    assert_exact(db, 15)
    assert waiting.is_alive() and not ended
    db.close()


def script(server: Server, text: str, *arguments: str) -> tuple[subprocess.Popen[str], IO[str]]:
    # Elsewhere: here the sources would be found before the package.
    command = [sys.executable, "-c", text, server.address, *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=server.directory)
    assert running.stdout is not None
    return running, running.stdout


INTERRUPTED = """
import sys, threading, transaction, ZODB
from zeolite.zodb import Storage
db = ZODB.DB(Storage(sys.argv[1]))
told = threading.Semaphore(0)

def work():
    manager = transaction.TransactionManager()
    root, number = db.open(manager).root(), 0
    while True:
        root["number"] = number = number + 1
        manager.commit()
        told.release()

threading.Thread(target=work, daemon=True).start()
for _ in range(3):
    told.acquire()
try:
    # Whoever hears it may interrupt at once.
    print("waiting", flush=True)
    Storage(sys.argv[2], wait=True, wait_timeout=600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
while told.acquire(blocking=False):
    pass
for _ in range(20):
    told.acquire()
print("went on", flush=True)
"""


def test_others_go_on_when_one_is_interrupted(server: Server, nowhere: str) -> None:
    running, said = script(server, INTERRUPTED, nowhere)
    assert said.readline() == "waiting\n"
    running.send_signal(signal.SIGINT)
    assert said.readline() == "interrupted\n"
    assert said.readline() == "went on\n"
    assert running.wait(60) == 0
    said.close()


ENDS = """
import sys, threading, transaction, ZODB
from zeolite.zodb import Storage
db = ZODB.DB(Storage(sys.argv[1]))
connection = db.open()
for _ in range(4):
    begins = threading.Event()
    def wait():
        begins.set()
        Storage(sys.argv[2], wait=True, wait_timeout=600)
    threading.Thread(target=wait, daemon=True).start()
    begins.wait()
    for number in range(5):
        connection.root()["number"] = number
        transaction.commit()
print("ends", flush=True)
"""


def test_the_interpreter_ends_while_threads_wait(server: Server, nowhere: str) -> None:
    running, said = script(server, ENDS, nowhere)
    assert said.readline() == "ends\n"
    assert running.wait(60) == 0
    said.close()
