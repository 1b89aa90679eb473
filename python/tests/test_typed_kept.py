"""Indexes that are kept with the objects of a class: alone, over versions, savepoints and evolves, and beside a program in Rust."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from serving import Server
from wiki import Peer

import zeolite
from zeolite import aio, errors, evolve

ANY_DISK = {"disk_pause_percent": 0, "disk_stop_percent": 0}


class Note(zeolite.Object, cls="wiki.Note"):
    slug: Annotated[str, zeolite.unique]
    author: Annotated[str, zeolite.indexed]
    text: str = ""

    @zeolite.indexed_by(str)
    def words(self) -> list[str]:
        return [word.lower() for word in self.text.split("-") if word]


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address, client_label="kept") as opened:
        yield opened


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    with Peer(server.address) as running:
        yield running


def found(space: zeolite.Space) -> dict[str, Any]:
    """All that the indexes say."""
    return {
        "slug": [(slug, note.slug) for slug, note in space.unique(Note, "slug").items()],
        "author": sorted((author, note.slug) for author, note in space.index(Note, "author").between()),
        "words": sorted((word, note.slug) for word, note in space.index(Note, "words").between()),
    }


def expected(notes: dict[str, tuple[str, str]]) -> dict[str, Any]:
    words = {(word.lower(), slug) for slug, (_, text) in notes.items() for word in text.split("-") if word}
    return {
        "slug": sorted((slug, slug) for slug in notes),
        "author": sorted((author, slug) for slug, (author, _) in notes.items()),
        "words": sorted(words),
    }


def test_entries_come_move_and_go_with_the_object(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        home = tx.create(Note(slug="home", author="ada", text="Hello-World-hello"))
        assert found(tx) == expected({"home": ("ada", "Hello-World")})
        home.author, home.text = "bob", "world"
        assert [note.slug for note in tx.index(Note, "author").find("bob")] == ["home"]
        other = tx.create(Note(slug="other", author="bob"))
    with db.snapshot() as now:
        assert found(now) == expected({"home": ("bob", "world"), "other": ("bob", "")})
    with db.transaction() as tx:
        # They exchange their keys.
        here, there = tx.get(home), tx.get(other)
        here.slug, there.slug = "other", "home"
    with db.snapshot() as now:
        assert now.unique(Note, "slug")["home"].author == "bob" and now.unique(Note, "slug")["other"].text == "world"
    with db.transaction() as tx:
        tx.delete(tx.reference(Note, other._z_oid or 0))  # not looked at before
    with db.snapshot() as now:
        assert found(now) == expected({"other": ("bob", "world")})
        with pytest.raises(LookupError, match="it has slug, author, words"):
            now.index(Note, "text")


def test_a_unique_key_is_anothers(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        tx.create(Note(slug="home", author="ada"))
    with pytest.raises(errors.Taken, match="'home' in the index unique:slug of wiki.Note is that of object"), db.transaction() as tx:
        tx.create(Note(slug="home", author="bob"))
    taken: list[str] = []

    @db.transaction(fresh=True)
    def take(tx: zeolite.Transaction, name: str) -> None:
        tx.create(Note(slug="same", author=name))

    def one(name: str) -> None:
        try:
            take(name)
            taken.append(name)
        except errors.Taken:
            pass

    threads = [threading.Thread(target=one, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.transaction(fresh=True) as tx:
        assert len(taken) == 1 and tx.unique(Note, "slug")["same"].author == taken[0]
        assert len(found(tx)["author"]) == 2


def test_savepoints_and_what_is_given_up_leave_no_entries(db: zeolite.Database) -> None:
    made = Note(slug="new", author="ada")
    with pytest.raises(LookupError), db.transaction() as tx:
        tx.create(made)
        tx.flush()
        raise LookupError
    with db.transaction() as tx:
        tx.create(made)
        with pytest.raises(LookupError), tx.savepoint():
            made.author = "bob"
            tx.create(Note(slug="other", author="bob", text="a"))
            assert len(tx.index(Note, "author").find("bob")) == 2
            raise LookupError
        assert found(tx) == expected({"new": ("ada", "")})
        with pytest.raises(LookupError), tx.savepoint():
            tx.delete(made)
            tx.flush()
            raise LookupError
        made.author = "eve"
    with db.snapshot() as now:
        assert found(now) == expected({"new": ("eve", "")})


def test_an_index_comes_with_a_version_and_an_evolve_fills_it(db: zeolite.Database) -> None:
    class Old(zeolite.Object, cls="t.Grows"):
        name: str

    class New(zeolite.Object, cls="t.Grows", version=2):
        name: Annotated[str, zeolite.indexed]

        @zeolite.upgrade(1)
        @staticmethod
        def _one(old: dict[str, Any]) -> dict[str, Any]:
            return {"name": old["name"].upper()}

    class Newer(zeolite.Object, cls="t.Grows", version=3):
        name: Annotated[str, zeolite.indexed]

        @zeolite.upgrade(2)
        @staticmethod
        def _two(old: dict[str, Any]) -> dict[str, Any]:
            return {"name": old["name"] + "!"}

    with db.transaction() as tx:
        olds = [tx.create(Old(name=f"n{number}")) for number in range(40)]
        for number, old in enumerate(olds):
            tx.root.map("all", Old, int)[number] = old
    report = evolve.run(db, "grows-2", New, gate=True, **ANY_DISK)
    assert report["phase"] == "done"
    with db.snapshot() as now:
        assert sorted(name for name, _ in now.index(New, "name").between()) == sorted(f"N{number}" for number in range(40))
    with db.transaction(fresh=True) as tx:
        # The record is of version 2: its entry is under what it was called then.
        tx.get(Newer, olds[0]._z_oid or 0).name = "another"
        tx.delete(tx.get(Newer, olds[1]._z_oid or 0))
    with db.snapshot() as now:
        names = sorted(name for name, _ in now.index(Newer, "name").between())
        assert names == sorted(["another", *(f"N{number}" for number in range(2, 40))])


def test_random_work_of_python_and_rust_keeps_both_ways(db: zeolite.Database, peer: Peer) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice, notes = random.Random(seed), dict[str, tuple[str, str]]()

    @db.transaction(fresh=True)
    def here(tx: zeolite.Transaction, words: tuple[str, ...]) -> None:
        slugs = tx.unique(Note, "slug")
        match words:
            case ("note", slug, author, text):
                tx.create(Note(slug=slug, author=author, text=text))
            case ("edit", slug, new, author, text):
                note = slugs[slug]
                note.slug, note.author, note.text = new, author, text
            case ("unnote", slug):
                tx.delete(slugs[slug])

    for _ in range(120):
        slug, new = (f"s{dice.randrange(8)}" for _ in range(2))
        author, text = f"a{dice.randrange(3)}", "-".join(dice.choices(["X", "x", "y", "z"], k=dice.randrange(1, 4)))
        words = dice.choice([("note", slug, author, text), ("edit", slug, new, author, text), ("unnote", slug)])
        is_refused = {"note": slug in notes, "edit": slug not in notes or (new != slug and new in notes), "unnote": slug not in notes}[words[0]]
        if dice.random() < 0.5:
            told = peer(*words)
            assert ("error" in told) if is_refused else told is True, (words, told)
        elif is_refused:
            with pytest.raises(KeyError):
                here(words)
        else:
            here(words)
        if not is_refused:
            if words[0] != "note":
                del notes[slug]
            if words[0] != "unnote":
                notes[new if words[0] == "edit" else slug] = (author, text)
    with db.transaction(fresh=True) as tx:
        assert found(tx) == expected(notes)
    assert peer("verify") == {"objects": len(notes), "problems_total": 0, "problems": []}
    for author in ("a0", "a1", "a2"):
        assert sorted(peer("notes", author)) == sorted(slug for slug, note in notes.items() if note[0] == author)


def test_in_an_event_loop(server: Server) -> None:
    async def main() -> None:
        async with await aio.connect(server.address, client_label="kept in a loop") as db:
            async with db.transaction() as tx:
                await tx.create(Note(slug="home", author="ada", text="a-b"))
                authors = await tx.index(Note, "author")
                assert [note.slug for note in await authors.find("ada")] == ["home"]
            async with db.snapshot() as now:
                slugs = await now.unique(Note, "slug")
                note = await slugs.get("home")
                assert note is not None and note.author == "ada"

    asyncio.run(main())
