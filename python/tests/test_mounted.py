"""Databases that are one site's (ZODB's multidatabases, Zope's mounts): both on a server, or one of them in a Data.fs; and evolves of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from serving import Server
from ZODB import DB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, ReadOnlyHistoryError

from zeolite import evolve
from zeolite.errors import Disconnected
from zeolite.zodb import Storage
from zeolite.zodb.errors import CommitLost

#: Where the disk of the machine is nearly full, a job would wait.
ANY_DISK = {"disk_pause_percent": 0, "disk_stop_percent": 0}


class Unread(PersistentMapping):
    """Its state cannot be loaded, where that is said."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "unread" in self.data:
            raise ValueError("this state is of no use")


class Site:
    """Two databases that know each other, on a server or in files; connections of a test's own to both."""

    def __init__(self, directory: Path, in_files: tuple[str, ...]):
        self.server = Server(directory, f"databases.archive.data_dir={directory}/archive")
        databases: dict[str, DB] = {}
        for name in ("main", "archive"):
            blobs = str(directory / f"{name}-blobs")
            storage: Any
            if name in in_files:
                storage = FileStorage(str(directory / f"{name}.fs"), blob_dir=blobs)
            else:
                storage = Storage(self.server.address, name, blob_dir=blobs, wait_timeout=5)
            DB(storage, databases=databases, database_name=name)
        self.main, self.archive = databases["main"], databases["archive"]
        self.manager = transaction.TransactionManager()
        self.here = self.main.open(self.manager)
        self.there = self.here.get_connection("archive")
        self.docs, self.old = OOBTree(), OOBTree()
        self.here.root()["docs"], self.there.root()["old"] = self.docs, self.old
        self.manager.commit()

    def uri(self, database: str) -> str:
        return f"zeolite://{self.server.address}/{database}"

    def referring(self) -> None:
        """Documents here that refer to what is there, and one there that refers back."""
        for number in range(30):
            doc = self.docs[f"{number:02}"] = PersistentMapping(number=number)
            if number % 3 == 0:
                attached = doc["attached"] = PersistentMapping(of=number)
                self.there.add(attached)
        self.old["back"] = PersistentMapping(number=-1, first=self.docs["00"])
        self.here.add(self.docs["00"])
        self.manager.commit()

    def anew(self) -> None:
        """Everything is loaded again."""
        self.manager.begin()
        self.here.cacheMinimize()
        self.there.cacheMinimize()

    def close(self) -> None:
        self.manager.abort()
        self.here.close()
        self.main.close()
        self.archive.close()
        self.server.stop()


KINDS = {"both on the server": (), "archive in a file": ("archive",), "main in a file": ("main",)}


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, ())
    yield made
    made.close()


def test_an_object_moves_with_its_blob(site: Site) -> None:
    site.docs["report"] = PersistentMapping(blob=Blob(b"x" * 1000), part=PersistentMapping(a=1))
    site.manager.commit()
    for source, target, tree, other in ((site.here, site.there, site.docs, site.old), (site.there, site.here, site.old, site.docs)):
        with TemporaryFile() as file:
            source.exportFile(tree["report"]._p_oid, file)
            file.seek(0)
            moved = other["report"] = target.importFile(file)
        del tree["report"]
        site.manager.commit()
        site.anew()
        assert "report" not in tree
        assert moved._p_jar is moved["blob"]._p_jar is moved["part"]._p_jar is target
        with moved["blob"].open() as opened:
            assert opened.read() == b"x" * 1000


def test_both_or_none(site: Site) -> None:
    site.docs["a"], site.old["a"] = PersistentMapping(n=0), PersistentMapping(n=0)
    site.manager.commit()
    other = site.main.open(transaction.TransactionManager())
    theirs = [other.root()["docs"]["a"], other.get_connection("archive").root()["old"]["a"]]
    theirs[0]["n"], theirs[1]["n"] = 1, 1
    for mine in (site.docs["a"], site.old["a"]):
        # What is in the way in one of them is in the way of both.
        mine["n"] = 2
        site.manager.commit()
        with pytest.raises(ConflictError):
            other.transaction_manager.commit()
        other.transaction_manager.abort()
        theirs[0]["n"], theirs[1]["n"] = 1, 1
    other.transaction_manager.commit()
    other.close()
    site.manager.begin()
    assert (site.docs["a"]["n"], site.old["a"]["n"]) == (1, 1)
    site.docs["a"]["n"] = site.old["a"]["n"] = 3
    point = site.manager.savepoint()
    site.docs["a"]["n"] = site.old["a"]["n"] = 4
    point.rollback()
    assert (site.docs["a"]["n"], site.old["a"]["n"]) == (3, 3)
    site.manager.abort()
    assert (site.docs["a"]["n"], site.old["a"]["n"]) == (1, 1)


@pytest.mark.parametrize("key", ["!", "~"], ids=["before the storages", "behind the storages"])
@pytest.mark.parametrize("phase", ["commit", "tpc_vote"])
def test_what_another_data_manager_refuses_is_in_neither(site: Site, key: str, phase: str) -> None:
    class Refusing:
        def sortKey(self) -> str:
            return key

        def refuse(self, _: Any) -> None:
            raise ValueError(phase)

        def nothing(self, _: Any) -> None:
            pass

        tpc_begin = commit = tpc_vote = tpc_finish = tpc_abort = abort = nothing

    manager: Any = Refusing()
    setattr(manager, phase, manager.refuse)
    site.docs["a"] = site.old["a"] = 1
    site.manager.get().join(manager)
    with pytest.raises(ValueError, match=phase):
        site.manager.commit()
    site.manager.abort()
    site.anew()
    assert not site.docs and not site.old
    site.docs["a"] = site.old["a"] = 2
    site.manager.commit()


def test_an_undo_in_both_is_one_transaction(site: Site) -> None:
    site.docs["a"] = site.old["a"] = 1
    site.manager.commit()
    site.docs["a"] = site.old["a"] = 2
    site.manager.commit()
    for database in (site.main, site.archive):
        database.undo(database.undoLog(0, 1)[0]["id"], site.manager.get())
    site.manager.commit()
    assert (site.docs["a"], site.old["a"]) == (1, 1)


def test_a_pack_keeps_what_only_another_database_refers_to(both: Site) -> None:
    both.referring()
    del both.docs["01"]
    both.manager.commit()
    for database in (both.main, both.archive):
        database.pack(time.time() + 1)
    both.anew()
    assert [both.docs[f"{number:02}"]["attached"]["of"] for number in range(0, 30, 3)] == list(range(0, 30, 3))
    assert both.old["back"]["first"]["number"] == 0


def test_a_server_that_goes_away_in_the_middle(site: Site) -> None:
    site.docs["a"] = site.old["a"] = 1
    site.server.kill()
    site.server.start_again()
    # Nothing of it had been sent.
    site.manager.commit()
    site.docs["a"] = site.old["a"] = 2
    site.server.stop()
    with pytest.raises(Disconnected):
        site.manager.commit()
    site.manager.abort()
    site.server.start_again()
    site.anew()
    assert (site.docs["a"], site.old["a"]) == (1, 1)
    site.docs["a"] = site.old["a"] = 3
    site.manager.commit()


def test_a_server_that_goes_away_between_the_phases(site: Site) -> None:
    class Killing:
        """Votes behind both databases, which have voted then."""

        def sortKey(self) -> str:
            return "~"

        def tpc_vote(self, _: Any) -> None:
            site.server.kill()
            site.server.start_again()

        def nothing(self, _: Any) -> None:
            pass

        tpc_begin = commit = tpc_finish = tpc_abort = abort = nothing

    site.docs["a"] = site.old["a"] = 1
    site.manager.get().join(Killing())
    with pytest.raises(CommitLost):
        site.manager.commit()
    site.manager.abort()
    site.anew()
    assert "a" not in site.docs and "a" not in site.old


def test_both_as_they_were(site: Site) -> None:
    site.docs["a"] = site.old["a"] = 1
    site.manager.commit()
    then = max(site.main.lastTransaction(), site.archive.lastTransaction())
    site.docs["a"] = site.old["a"] = 2
    site.manager.commit()
    before = site.main.open(transaction.TransactionManager(), at=then)
    assert (before.root()["docs"]["a"], before.get_connection("archive").root()["old"]["a"]) == (1, 1)
    before.get_connection("archive").root()["old"]["a"] = 3
    with pytest.raises(ReadOnlyHistoryError):
        before.transaction_manager.commit()
    before.transaction_manager.abort()
    before.close()


@pytest.mark.parametrize("atomic", [False, True])
def test_an_evolve_hands_references_to_another_database_on(both: Site, atomic: bool) -> None:
    both.referring()

    @evolve.step("persistent.mapping.PersistentMapping")
    def numbered(doc: Any, tx: evolve.Tx) -> None:
        if "number" in doc:
            doc["label"] = f"number {doc['number']}"
        if "attached" in doc:
            doc["copy"] = PersistentMapping(attached=doc["attached"])

    assert evolve.run(both.uri("main"), "numbered", numbered, atomic=atomic, **ANY_DISK)["phase"] == "done"
    assert evolve.run(both.uri("archive"), "numbered", numbered, atomic=atomic, **ANY_DISK)["phase"] == "done"
    both.anew()
    for number in range(30):
        doc = both.docs[f"{number:02}"]
        assert doc["label"] == f"number {number}"
        if number % 3 == 0:
            assert doc["attached"]._p_jar is both.there and doc["attached"]["of"] == number
            assert doc["copy"]["attached"] is doc["attached"]
    back = both.old["back"]
    assert back["label"] == "number -1" and back["first"] is both.docs["00"]


@pytest.mark.parametrize("what", ["reads", "writes", "adds", "roots"])
def test_a_step_that_looks_into_another_database_is_told_so(both: Site, what: str) -> None:
    both.referring()

    @evolve.step("persistent.mapping.PersistentMapping")
    def reaches(doc: Any, tx: evolve.Tx) -> None:
        if doc.get("number") == 3:
            doc["touched"] = True
            elsewhere = tx.connection.get_connection("archive")
            if what == "reads":
                doc["of"] = doc["attached"]["of"]
            elif what == "writes":
                doc["attached"].seen = True
            elif what == "adds":
                elsewhere.add(PersistentMapping())
            else:
                elsewhere.root()["old"]

    report = evolve.run(both.uri("main"), "reaches", reaches, **ANY_DISK)
    assert (report["phase"], report["bad"]) == ("failed", 1)
    with evolve.Job.find(both.uri("main"), "reaches") as job:
        (bad,) = job.quarantine()
        assert "this one is in 'archive'; run it in the site, with zeolite.evolve.each" in bad[3]
    both.anew()
    assert "touched" not in both.docs["03"]


def test_the_loop_in_the_site_reaches_both(both: Site) -> None:
    both.referring()

    def step(doc: Any) -> None:
        doc["of"] = doc["attached"]["of"]
        doc["attached"]["seen"] = True

    docs = [both.docs[f"{number:02}"] for number in range(0, 30, 3)]
    assert evolve.each(docs, step, **ANY_DISK).done == 10
    both.anew()
    assert all(doc["of"] == doc["attached"]["of"] and doc["attached"]["seen"] for doc in docs)


def test_a_state_that_cannot_be_loaded_is_in_the_quarantine(both: Site) -> None:
    for number in range(5):
        both.docs[f"{number}"] = Unread(number=number, **({"unread": True} if number == 3 else {}))
    both.manager.commit()

    @evolve.step(f"{Unread.__module__}.Unread")
    def steps(doc: Any, tx: evolve.Tx) -> None:
        doc["stepped"] = True

    report = evolve.run(both.uri("main"), "steps", steps, **ANY_DISK)
    assert (report["phase"], report["bad"], report["changed"]) == ("failed", 1, 4)
    with evolve.Job.find(both.uri("main"), "steps") as job:
        assert "this state is of no use" in job.quarantine()[0][3]
