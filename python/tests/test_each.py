"""``evolve.each``: the loop of a script that exists already, beside live writers, stopped, failing, with blobs, and without a Zeolite."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cms
import evolving
import pytest
import scripts
import transaction
from BTrees.OOBTree import OOBTree
from evolving import catalog_is_exact, every_edit_is_kept, live, opened, stored
from persistent.mapping import PersistentMapping
from scripts import ANY_DISK
from serving import Server
from test_evolve import DOCS
from test_evolve import uri as uri  # a fixture
from test_storage import zeolite
from ZODB import DB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from zeolite import evolve
from zeolite.errors import ReadOnly
from zeolite.zodb import Storage


@pytest.fixture(autouse=True)
def any_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts are those of a site, and a site's wait where its disk is nearly full: that of this machine may be."""
    monkeypatch.setattr(evolve, "each", functools.partial(evolve.each, **ANY_DISK))


@pytest.fixture
def connection(server: Server, uri: str) -> Iterator[Any]:
    """The script's, on its thread's manager; not one that asks the server at each begin."""
    database = DB(Storage(server.address, blob_dir=str(server.directory / "blobs")))
    yield database.open()
    transaction.abort()
    database.close()


def lower(doc: Any) -> None:
    doc.title_lower = doc.title.lower()


def jobs(connection: Any) -> list[str]:
    found = connection.root()._p_jar._storage._database.kinds()
    return [name for name, _, _ in found if name == "zeolite.evolve.Job"]


def test_no_live_writer_loses(server: Server, connection: Any) -> None:
    told: list[tuple[int, int]] = []
    with live(server.address) as site:
        done = evolve.each(connection.root()["docs"].values(), lower, progress=lambda *so: told.append(so))
    assert site.conflicts == []
    assert done.done == DOCS and told[-1] == (DOCS, DOCS)
    transaction.begin()
    every_edit_is_kept(connection, site)
    for doc in connection.root()["docs"].values():
        assert stored(connection, doc)["title_lower"] == doc.title.lower()


def test_a_catalog_that_the_script_holds_in_its_hands(server: Server, connection: Any) -> None:
    with live(server.address, "index") as site:
        scripts.evolve_repoze(connection.root())
    with opened(server.address) as another:
        every_edit_is_kept(another, site)
        catalog_is_exact(another)
    # Who inserts meets splits of nodes that others have made; documents and the length are never among them.
    assert not [conflict for conflict in site.conflicts if "BTree" not in conflict and "read conflict" not in conflict]


def test_an_edit_that_began_before_is_kept_and_its_object_stepped_anew(server: Server, connection: Any) -> None:
    catalog = connection.root()["catalog"]
    with opened(server.address) as editor:
        editor.root()["docs"][7].rename("Another")
        titles: list[str] = []

        def step(doc: Any) -> None:
            catalog.add(doc)
            titles.append(doc.title)
            # The seventh's chunk is committed by now.
            if len(titles) == 100:
                editor.transaction_manager.commit()

        docs = connection.root()["docs"].values()
        few = {"chunk_objects_start": 20, "chunk_objects_max": 20}
        done = evolve.each(docs, step, take_back=catalog.remove, **few)
    assert done.stepped_again == 1 and titles[-1] == "Another"
    transaction.begin()
    assert connection.root()["docs"][7].title == "Another"
    catalog_is_exact(connection)


def test_a_chunk_sees_what_others_have_changed_since_the_last_one_and_keeps_the_rest(server: Server, connection: Any) -> None:
    root = connection.root()
    root["prefix"], root["kept"] = PersistentMapping(text="old "), PersistentMapping(text="kept")
    transaction.commit()
    with opened(server.address) as editor:
        seen: list[tuple[str, bool]] = []

        def step(doc: Any) -> None:
            if len(seen) == 50:
                editor.root()["prefix"]["text"] = "new "
                editor.transaction_manager.commit()
            was_loaded = root["kept"]._p_changed is not None
            seen.append((root["prefix"]["text"], was_loaded))
            doc.prefixed = root["prefix"]["text"] + root["kept"]["text"]

        few = {"chunk_objects_start": 20, "chunk_objects_max": 20}
        evolve.each(root["docs"].values(), step, **few)
    assert seen[0][0] == "old " and seen[-1][0] == "new "
    assert [was_loaded for _, was_loaded in seen].count(False) == 1, "it is loaded once"
    transaction.begin()
    assert {doc.prefixed for doc in root["docs"].values()} == {"old kept", "new kept"}


def test_a_whole_plan_in_one_commit(server: Server, connection: Any) -> None:
    with live(server.address, "index") as site:
        done = evolve.each(connection.root()["docs"].values(), connection.root()["catalog"].add, atomic=True)
    assert (done.done, done.chunks) == (DOCS, 1)
    with opened(server.address) as another:
        every_edit_is_kept(another, site)
        catalog_is_exact(another)


def test_the_running_transaction(server: Server, connection: Any) -> None:
    root, hooks = connection.root(), []
    root["begun"] = True

    def step(doc: Any) -> None:
        lower(doc)
        # What Plone's queue of indexing does.
        transaction.get().addBeforeCommitHook(hooks.append, (doc.number,))

    docs = root["docs"]
    evolve.each((docs[number] for number in range(10)), step)
    with opened(server.address) as another:
        assert another.root()["begun"], "what was written before is committed"
    # The caller's transaction sees what was done, and goes on.
    assert all("title_lower" in stored(connection, docs[number]) for number in range(10))
    assert "title_lower" not in stored(connection, docs[10])
    assert sorted(set(hooks)) == [*range(10)]
    root["ended"] = docs[3].title_lower
    transaction.commit()
    with opened(server.address) as another:
        assert another.root()["ended"] == "title 3"


@pytest.mark.parametrize("explicit", [False, True])
def test_what_fails_is_told_and_tried_again_under_its_name(server: Server, uri: str, explicit: bool) -> None:
    manager = transaction.TransactionManager(explicit=explicit)
    database = DB(Storage(server.address))
    connection = database.open(manager)
    manager.begin()
    stepped: list[int] = []

    def step(doc: Any) -> None:
        doc.views += 1
        if doc.number % 100 == 7 and not stepped:
            raise ValueError(f"no {doc.number}")

    docs = connection.root()["docs"]
    with pytest.raises(evolve.Unfinished, match=r"ValueError: no \d*7") as unfinished:
        evolve.each(docs.values(), step, name="views")
    failed = dict(unfinished.value.failed)
    assert failed.keys() == {docs[number]._p_oid for number in (7, 107, 207)}, failed
    assert {doc.number for doc in docs.values() if doc.views == 0} == {7, 107, 207}
    stepped.append(1)
    assert evolve.each(docs.values(), step, name="views").done == 3
    assert {doc.views for doc in docs.values()} == {1}
    # Done is done.
    assert evolve.each(docs.values(), step, name="views").done == 0
    assert {doc.views for doc in docs.values()} == {1}
    assert "done" in zeolite(server, "evolve", "show", "views")
    database.close()


def test_what_the_server_refuses_is_not_seen_by_the_script_either(tmp_path: Path) -> None:
    server = Server(tmp_path, "limits.record_bytes_max=65536")
    try:
        cms.seed(server.address, 20)
        database = DB(Storage(server.address))
        docs = database.open().root()["docs"]

        def step(doc: Any) -> None:
            doc.text = "x" * (100_000 if doc.number == 7 else 10)

        with pytest.raises(evolve.Unfinished, match="65536") as unfinished:
            evolve.each(docs.values(), step)
        assert [oid for oid, _ in unfinished.value.failed] == [docs[7]._p_oid]
        with pytest.raises(evolve.Unfinished, match="65536"):
            evolve.each([docs[7]], step)
        assert [number for number, doc in docs.items() if not hasattr(doc, "text")] == [7]
        transaction.abort()
        database.close()
    finally:
        server.stop()


def test_stopped_it_goes_on_behind_its_last_chunk(server: Server, uri: str) -> None:
    script = evolving.process("scripts.py", server.address, "views")
    assert script.stdout is not None
    script.stdout.readline()
    script.send_signal(signal.SIGINT)
    told, _ = script.communicate(timeout=60)
    last = told.splitlines()[-1]
    assert script.returncode == 0 and last.startswith("stopped: ") and "name='views'" in last, told
    with opened(server.address) as connection:
        docs = connection.root()["docs"]
        begun = sum(doc.views for doc in docs.values())
        assert 0 < begun < DOCS and str(begun) in last
        zeolite(server, "evolve", "set", "views", "rate_max=0")

        def step(doc: Any) -> None:
            doc.views += 1

        step.__qualname__ = "main.<locals>.step"
        assert evolve.each(docs.values(), step, name="views").done == DOCS - begun
        assert {doc.views for doc in docs.values()} == {1}


def test_a_database_that_takes_no_writes_is_waited_for(server: Server, connection: Any) -> None:
    docs, steps = connection.root()["docs"], []
    again = threading.Thread(target=lambda: zeolite(server, "mode", "normal"))

    def step(doc: Any) -> None:
        lower(doc)
        steps.append(doc.number)
        if len(steps) == 1:
            zeolite(server, "mode", "read-only", "--banner", "back soon")
            with pytest.raises(ReadOnly), opened(server.address) as another:
                another.root()["x"] = 1
                another.transaction_manager.commit()
            again.start()

    assert evolve.each(docs.values(), step).done == DOCS
    again.join()
    assert all("title_lower" in stored(connection, doc) for doc in docs.values())


def test_another_step_takes_another_name(server: Server, connection: Any) -> None:
    docs = connection.root()["docs"]

    def fails(doc: Any) -> None:
        raise ValueError("none")

    with pytest.raises(evolve.Unfinished, match=f"failed on {DOCS} of {DOCS}"):
        evolve.each(docs.values(), fails, name="titles")
    with pytest.raises(ValueError, match="'lower'; take another name"):
        evolve.each(docs.values(), lower, name="titles")
    # Nobody works on it, and so it is not said to run.
    assert "failed" in zeolite(server, "evolve", "show", "titles")


def test_what_was_cancelled_takes_another_name(server: Server, connection: Any) -> None:
    docs, stepped = connection.root()["docs"], []

    def step(doc: Any) -> None:
        lower(doc)
        if not stepped:
            zeolite(server, "evolve", "cancel", "titles")
        stepped.append(doc.number)

    advice = r"objects were done; take another name, or forget it first \(zeolite evolve forget 'titles'\)"
    for _ in range(2):
        with pytest.raises(evolve.Unfinished, match=advice):
            evolve.each(docs.values(), step, name="titles")
    zeolite(server, "evolve", "forget", "titles")
    assert evolve.each(docs.values(), step, name="titles").done == DOCS


@pytest.mark.parametrize("kind", ["exit", "progress", "interrupted twice"])
def test_what_is_no_objects_fault_is_raised_as_it_is(connection: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    docs, stepped = connection.root()["docs"], []

    def step(doc: Any) -> None:
        doc.views += 1
        stepped.append(doc.number)
        if len(stepped) == 7 and kind == "exit":
            sys.exit("enough")
        if len(stepped) == 7 and kind == "interrupted twice":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    def progress(done: int, total: int) -> None:
        if kind == "progress" and len(stepped) < DOCS:
            raise LookupError("no bar")

    if kind == "progress":
        monkeypatch.setattr("zeolite.evolve.looping.LOOK", 0.0)
    raised, text = {"exit": (SystemExit, "enough"), "progress": (LookupError, "no bar")}.get(kind, (KeyboardInterrupt, "^$"))
    with pytest.raises(raised, match=text) as caught:
        evolve.each(docs.values(), step, name="views", progress=progress)
    assert caught.traceback[-1].name in ("step", "progress", "ask")
    # The chunk that it was in is not there, and all goes on when it is called again.
    before = sum(doc.views for doc in docs.values())
    stepped[:] = range(DOCS)
    assert evolve.each(docs.values(), step, name="views").done == DOCS - before
    assert {doc.views for doc in docs.values()} == {1}


def test_a_pause_is_told_at_once(server: Server, connection: Any) -> None:
    docs, stepped, warned = connection.root()["docs"], [], threading.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.WARNING and "paused (lunch)" in record.getMessage():
                warned.set()

    def resume() -> None:
        # Whoever is not told would wait for ever.
        warned.wait(20)
        zeolite(server, "evolve", "resume", "titles")

    def step(doc: Any) -> None:
        lower(doc)
        if not stepped:
            zeolite(server, "evolve", "pause", "titles", "-m", "lunch")
            again.start()
        stepped.append(doc.number)

    again, ear, log = threading.Thread(target=resume), Ear(), logging.getLogger("zeolite.evolve")
    log.addHandler(ear)
    try:
        few = {"chunk_objects_start": 20, "chunk_objects_max": 20}
        assert evolve.each(docs.values(), step, name="titles", **few).done == DOCS
    finally:
        log.removeHandler(ear)
        again.join()
    assert warned.is_set()


def test_blobs_are_read_and_written(server: Server, connection: Any) -> None:
    root = connection.root()
    files = root["files"] = OOBTree()
    for number in range(20):
        files[number] = Blob(b"old %d" % number)
    transaction.commit()

    def step(doc: Any) -> None:
        file = files[doc.number]
        with file.open() as old:
            text = old.read()
        if doc.number % 2:
            with file.open("w") as new:
                new.write(text.replace(b"old", b"new"))
        doc.file = Blob(text)
        if doc.number == 13:
            raise ValueError("no 13")

    docs = root["docs"]
    with pytest.raises(evolve.Unfinished, match="no 13"):
        evolve.each((docs[number] for number in range(20)), step, name="files")
    # On another machine, so to speak.
    database = DB(Storage(server.address, blob_dir=str(server.directory / "others"), client_label="another"))
    with database.transaction() as another:
        for number in range(20):
            made = b"new" if number % 2 and number != 13 else b"old"
            with another.root()["files"][number].open() as file:
                assert file.read() == b"%s %d" % (made, number)
            doc = another.root()["docs"][number]
            if number == 13:
                assert not hasattr(doc, "file")
            else:
                with doc.file.open() as file:
                    assert file.read() == b"old %d" % number
    database.close()
    assert not [*Path(connection._storage.fshelper.base_dir, "incoming").glob("[!.]*")]


class Wrapper:
    """What Acquisition does: an object with the way on which it was reached."""

    def __init__(self, obj: Any, parent: str):
        self.__dict__.update(aq_base=obj, parent=parent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.aq_base, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.aq_base, name, value)


@pytest.mark.parametrize("kind", ["brains", "wrappers", "oids"])
def test_brains_wrappers_and_oids(connection: Any, kind: str) -> None:
    docs, reached = connection.root()["docs"], []

    def step(doc: Any) -> None:
        lower(doc)
        reached.append(getattr(doc, "parent", None))

    if kind == "brains":
        evolve.each(range(30), step, get=lambda number: Wrapper(docs[number], "a brain"), connection=connection)
    elif kind == "wrappers":
        evolve.each([Wrapper(docs[number], "a brain") for number in range(30)], step)
    else:
        evolve.each([docs[number]._p_oid for number in range(30)], step, connection=connection)
    assert set(reached) == ({None} if kind == "oids" else {"a brain"}) and len(reached) == 30
    assert sum("title_lower" in stored(connection, doc) for doc in docs.values()) == 30


def test_what_is_in_no_database_is_refused(connection: Any) -> None:
    with pytest.raises(ValueError, match="commit it first"):
        evolve.each([cms.Doc(1)], lower)
    with pytest.raises(ValueError, match="no object of this connection"):
        evolve.each([connection.root(), cms.Doc(1)], lower)
    assert evolve.each([], lower) == evolve.Report(0, 0, 0)


def test_a_storage_that_is_not_zeolites(tmp_path: Path) -> None:
    database = DB(FileStorage(str(tmp_path / "Data.fs")))
    with database.transaction() as connection:
        for number in range(DOCS):
            connection.root()[number] = cms.Doc(number)
    connection, stepped, told = database.open(), [], []
    root = connection.root()

    def step(doc: Any) -> None:
        doc.views += 1
        stepped.append(doc.number)
        if doc.number == 60 and stepped.count(60) == 1:
            with database.transaction() as another:
                another.root()[60].title = "Another"
        if doc.number == 107:
            raise ValueError("no 107")

    with pytest.raises(evolve.Unfinished, match="no 107") as unfinished:
        evolve.each((root[number] for number in range(DOCS)), step, progress=lambda *so: told.append(so))
    assert len(unfinished.value.failed) == 1 and stepped.count(60) >= 2 and told[-1] == (DOCS, DOCS)
    assert {number: doc.views for number, doc in root.items()} == {number: number != 107 for number in range(DOCS)}
    assert root[60].title == "Another"
    with pytest.raises(ConflictError):
        evolve.each([root[1]], lambda doc: (_ for _ in ()).throw(ConflictError()))
    transaction.abort()
    database.close()


def test_repoze_evolution(server: Server, connection: Any) -> None:
    from repoze.evolution import ZODBEvolutionManager, evolve_to_latest

    manager = ZODBEvolutionManager(connection.root(), "upgrades.repoze", sw_version=2, initial_db_version=1)
    with live(server.address, "index") as site:
        assert evolve_to_latest(manager) == 2
    with opened(server.address) as another:
        every_edit_is_kept(another, site)
        catalog_is_exact(another)
        assert another.root()["repoze.evolution"] == {"upgrades.repoze": 2}
        assert all("title_lower" in stored(another, doc) for doc in another.root()["docs"].values())


def test_zope_generations(server: Server, uri: str) -> None:
    from zope.component import provideUtility
    from zope.component.globalregistry import base
    from zope.generations.generations import SchemaManager, evolve as evolve_all, generations_key
    from zope.generations.interfaces import ISchemaManager

    database = DB(Storage(server.address))
    with database.transaction() as connection:
        connection.root()[generations_key] = OOBTree({"cms": 0})
    manager = SchemaManager(minimum_generation=0, generation=2, package_name="upgrades.generations")
    provideUtility(manager, ISchemaManager, name="cms")
    try:
        with live(server.address) as site:
            evolve_all(database)
        assert site.conflicts == []
    finally:
        base.unregisterUtility(manager, ISchemaManager, name="cms")
        database.close()
    with opened(server.address) as another:
        every_edit_is_kept(another, site)
        assert another.root()["generation 1"] and another.root()[generations_key]["cms"] == 2
        assert all("title_lower" in stored(another, doc) for doc in another.root()["docs"].values())
