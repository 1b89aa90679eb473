"""A site on ZODB over the loss of its primary: real followers, kill -9, a promotion, and the site goes on. Every commit is done once, and nobody
reads what is older than what anybody here was told before."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from serving import PROGRAM, STARTED, Server
from transaction.interfaces import TransientError
from ZODB import DB

import zeolite
from zeolite.zodb import Storage

WRITERS = 3
#: Commits of each writer before the primary is lost, and after.
COMMITS = 15
SETTINGS = ("replication.sync=1", "replication.wait_ms=60000")


class Follower(Server):
    """A copy of the first of these that is a primary."""

    def __init__(self, directory: Path, others: list[Server], *settings: str):
        directory.mkdir()
        self.others = [server.address for server in others]
        super().__init__(directory, *settings)

    def _start(self, port: int) -> None:
        options = [option for setting in self.settings for option in ("--set", setting)]
        self.process = subprocess.Popen(
            [*STARTED, "follow", ",".join(self.others), "--data", str(self.directory / "copy"), "--listen", f"127.0.0.1:{port}", *options],
            stdout=subprocess.PIPE,
            stderr=open(self.directory / "follower.log", "ab"),
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("ZEOLITE_")},
        )
        assert self.process.stdout is not None
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", self.process.stdout.readline())
        assert found is not None, (self.directory / "follower.log").read_text()
        self.address = found.group(1)


def status(server: Server) -> dict[str, Any]:
    command = [PROGRAM, "--json", "--server", server.address, "status"]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    return told


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[Server]]:
    """A primary and two followers: one is left when the primary is lost and the other one takes its place."""
    primary = Server(tmp_path, *SETTINGS)
    first = Follower(tmp_path / "first", [primary], *SETTINGS)
    second = Follower(tmp_path / "second", [primary, first], *SETTINGS)
    # Now it knows the other one, too.
    first.stop()
    first.others.append(second.address)
    first.start_again()
    for follower in (first, second):
        while not status(follower)["replication"]["connected"]:
            assert follower.process.poll() is None, (follower.directory / "follower.log").read_text()
    yield [primary, first, second]
    for server in (primary, first, second):
        server.stop()


class Counted(Persistent):
    def __init__(self) -> None:
        self.value = 0


class Site:
    """Writers, each with a counter of its own and entries in one tree, and what they were told."""

    def __init__(self, db: DB):
        self._db = db
        self._told = [0] * WRITERS
        self._lock = threading.Lock()
        self.begun_again = 0
        self.wrong: list[str] = []
        with db.transaction() as connection:
            connection.root()["tree"] = OOBTree()
            connection.root()["counts"] = [Counted() for _ in range(WRITERS)]

    def told(self) -> int:
        with self._lock:
            return sum(self._told)

    def write(self, writer: int, count: int) -> None:
        for number in range(count):
            try:
                self._write(writer, f"{writer}-{threading.get_ident()}-{number}")
            except BaseException as error:
                self.wrong.append(repr(error))
                raise

    def _write(self, writer: int, name: str) -> None:
        manager = transaction.TransactionManager()
        while True:
            before = self.told()
            try:
                with closing(self._db.open(transaction_manager=manager)) as connection:
                    manager.begin()
                    counts = connection.root()["counts"]
                    seen = sum(count.value for count in counts)
                    if seen < before:
                        self.wrong.append(f"{seen} commits are seen where {before} were told")
                    counts[writer].value += 1
                    connection.root()["tree"][name] = counts[writer].value
                    manager.commit()
            except TransientError:
                manager.abort()
                self.begun_again += 1
                continue
            with self._lock:
                self._told[writer] += 1
            return

    def holds(self) -> None:
        with closing(self._db.open(transaction_manager=transaction.TransactionManager())) as connection:
            assert [count.value for count in connection.root()["counts"]] == self._told, "each once"
            assert len(connection.root()["tree"]) == sum(self._told)
        assert self.wrong == []


def at_work(site: Site, count: int, meanwhile: Callable[[], None]) -> None:
    writers = [threading.Thread(target=site.write, args=(writer, count)) for writer in range(WRITERS)]
    for writer in writers:
        writer.start()
    meanwhile()
    for writer in writers:
        writer.join()


def test_a_site_goes_on_at_the_follower_and_every_commit_is_done_once(fleet: list[Server]) -> None:
    addresses, primary = [server.address for server in fleet], fleet[0]
    storage = Storage(addresses, client_label="the site", wait_timeout=60, server_sync=True)
    with closing(DB(storage)) as db:
        site = Site(db)

        def lose() -> None:
            while site.told() < COMMITS:
                assert not site.wrong, site.wrong
            # Commits are on their way at this moment, and wait for the follower, for the disk, or for their answer.
            primary.kill()
            best = max(fleet[1:], key=lambda follower: str(status(follower)["replication"]["newest"]))
            promoted = subprocess.run([PROGRAM, "--server", best.address, "promote"], capture_output=True, text=True, timeout=60)
            assert promoted.returncode == 0, promoted.stderr

        at_work(site, COMMITS, lose)
        site.holds()
        assert sorted(status(server)["replication"]["seat"] for server in fleet[1:]) == ["follower", "primary"]
    # And whoever comes anew, with the list as it was.
    again = Storage(addresses, client_label="another site", wait_timeout=60)
    with closing(DB(again)) as db:
        site._db = db
        site.holds()
    with zeolite.connect(addresses, client_label="objects") as objects, objects.transaction() as tx:
        tx.root.counter("edits").add(1)
