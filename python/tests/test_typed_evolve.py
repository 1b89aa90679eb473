"""Evolves of Python's own objects, beside a live site: by the class's upgrades, by steps with a transaction; quarantine, dry run, undo."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Server

import zeolite
from zeolite import errors, evolve

COUNT = 300
ANY_DISK = {"disk_pause_percent": 0, "disk_stop_percent": 0}


class Old(zeolite.Object, cls="wiki.Note", version=1):
    title: str
    author: str
    edits: int = 0


class Note(zeolite.Object, cls="wiki.Note", version=2):
    title: str
    name: str
    mail: str
    edits: int = 0
    hits: zeolite.Counter

    @zeolite.upgrade(1)
    @staticmethod
    def _one(old: dict[str, Any]) -> dict[str, Any]:
        name, mail = old.pop("author").split(" <")
        return {**old, "name": name, "mail": mail.rstrip(">")}


@evolve.step(Note)
def indexed(note: Note, tx: zeolite.Transaction) -> None:
    tx.root.index("mails", Note).add(note.mail, note)
    tx.root.counter("indexed").add(1)
    note.hits += 1


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address) as opened:
        with opened.transaction() as tx:
            for number in range(COUNT):
                author = "nobody" if number == 7 else f"A{number} <{number % 10}@x>"
                tx.root.map("notes", Old, int)[number] = tx.create(Old(title=f"T{number}", author=author))
        yield opened


def mend(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        tx.root.map("notes", Old, int)[7].author = "A7 <7@x>"


def test_the_upgrades_of_a_class(db: zeolite.Database, server: Server) -> None:
    mend(db)
    tried = evolve.dry_run(db, Note, samples=2)
    assert (tried.total, tried.stepped, tried.changed, tried.bad) == (COUNT, COUNT, COUNT, 0)
    assert tried.samples[0].changes["name"][0] is None and "author" in tried.samples[0].changes
    assert ("wiki.Note", 1, COUNT) in db._native.kinds()
    report = evolve.run(db, "notes-2", Note, gate=True, tasks=2, **ANY_DISK)
    assert (report["phase"], report["changed"], report["bad"]) == ("done", COUNT, 0)
    assert ("wiki.Note", 2, COUNT) in db._native.kinds()
    with pytest.raises(errors.Gated), db.transaction() as tx:
        tx.create(Old(title="late", author="x <y>"))


def test_what_fails_is_in_the_quarantine_with_its_traceback_and_is_tried_again(db: zeolite.Database) -> None:
    report = evolve.run(db, "notes-2", indexed, **ANY_DISK)
    assert (report["phase"], report["changed"], report["bad"]) == ("failed", COUNT - 1, 1)
    with evolve.Job.find(db, "notes-2") as job:
        ((oid, cls, version, why),) = job.quarantine()
        assert (cls, version) == ("wiki.Note", 1) and "not enough values" in why and "in _one" in why
        with db.snapshot() as now:
            assert now.root.map("notes", Old, int)[7]._z_oid == oid
        mend(db)
        job.resume()
        assert job.run(indexed)["phase"] == "done"
    with db.snapshot() as now:
        assert now.root.counter("indexed").value == COUNT
        assert len(now.root.index("mails", Note)) == COUNT
        assert all(note.hits.value == 1 for note in now.root.map("notes", Note, int).values())


def test_a_job_is_taken_back(db: zeolite.Database) -> None:
    mend(db)
    assert evolve.run(db, "notes-2", indexed, **ANY_DISK)["phase"] == "done"
    assert evolve.undo(db, "notes-2")["phase"] == "undone"
    assert ("wiki.Note", 1, COUNT) in db._native.kinds()
    with db.snapshot() as now:
        assert (now.root.counter("indexed").value, len(now.root.index("mails", Note))) == (0, 0)
        assert now.root.map("notes", Old, int)[3].author == "A3 <3@x>"


def test_beside_a_live_site_nothing_is_lost_and_nobody_conflicts(db: zeolite.Database) -> None:
    mend(db)
    stop, edits, attempts = threading.Event(), [0] * COUNT, [0]

    @db.transaction()
    def edit(tx: zeolite.Transaction, number: int) -> None:
        attempts[0] += 1
        tx.root.map("notes", Note, int)[number].edits += 1

    def live() -> None:
        number = 0
        while not stop.is_set():
            edit(number)
            edits[number] += 1
            number = (number + 37) % COUNT

    site = threading.Thread(target=live)
    site.start()
    try:
        report = evolve.run(db, "notes-2", indexed, tasks=2, rate_max=1000, **ANY_DISK)
    finally:
        stop.set()
        site.join()
    assert report["phase"] == "done" and attempts[0] == sum(edits) > 0
    with db.transaction(fresh=True) as tx:
        notes = tx.root.map("notes", Note, int)
        assert [note.edits for note in notes.values()] == edits
        # What the site had brought to the new version by itself the plan does not step.
        seen = {note._z_oid for _, note in tx.root.index("mails", Note).between()}
        assert tx.root.counter("indexed").value == len(seen) <= COUNT
    assert ("wiki.Note", 2, COUNT) in db._native.kinds()


def test_what_is_asked_for_has_to_fit(db: zeolite.Database, server: Server) -> None:
    with pytest.raises(errors.BadValue, match="no name in the database"):
        evolve.run(db, "none", zeolite.Object)
    with pytest.raises(ValueError, match="import the new code"):
        evolve.run(db, "none", evolve.step(Note, to=3)(lambda note, tx: None))
    with pytest.raises(TypeError, match="zeolite://host:port/"):
        evolve.run(db, "none", evolve.step("cms.Doc")(lambda doc, tx: None))
    with pytest.raises(errors.FixRequest, match="wiki.Nothing"):

        class Nothing(zeolite.Object, cls="wiki.Nothing", version=2):
            name: str

        evolve.run(db, "none", Nothing)


def test_a_worker_of_the_command_line(db: zeolite.Database, server: Server) -> None:
    mend(db)
    program = [sys.executable, "-m", "zeolite.evolve", "run", "test_typed_evolve:Note", f"zeolite://{server.address}/", "notes-2", "--plan"]
    settings = [option for name, value in ANY_DISK.items() for option in ("--set", f"{name}={value}")]
    told = subprocess.run([*program, *settings], capture_output=True, text=True, cwd=Path(__file__).parent, timeout=100)
    assert told.returncode == 0 and "phase done" in told.stdout, told


def test_what_an_undo_of_the_command_line_leaves_is_to_be_stepped_back(db: zeolite.Database, server: Server) -> None:
    mend(db)
    assert evolve.run(db, "notes-2", Note, **ANY_DISK)["phase"] == "done"
    with db.transaction(fresh=True) as tx:
        tx.root.map("notes", Note, int)[5].edits += 1
    program = [sys.executable, "-m", "zeolite.evolve", "undo", "test_typed_evolve:Note", f"zeolite://{server.address}/", "notes-2"]
    told = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=100)
    assert told.returncode == 1 and "phase undone" in told.stdout, told
    assert "`zeolite evolve show notes-2 --quarantine 0`" in told.stderr and "step it back" in told.stderr and "resume" not in told.stderr, told


def test_without_zodb_nothing_of_it_is_imported() -> None:
    program = "import sys, zeolite; assert not {'ZODB', 'persistent', 'transaction', 'greenlet'} & set(sys.modules); zeolite.evolve.each"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert told.returncode == 0, told.stderr
