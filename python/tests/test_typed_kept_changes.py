"""Kept indexes as Rust keeps them: made apart, found again after an undo, dropped or with other keys in a new version of the class."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from serving import PROGRAM, Server
from wiki import Peer

import zeolite
from zeolite import errors, evolve

ANY_DISK = {"disk_pause_percent": 0, "disk_stop_percent": 0}


class Note(zeolite.Object, cls="wiki.Note"):
    slug: Annotated[str, zeolite.unique]
    author: Annotated[str, zeolite.indexed]
    text: str = ""

    @zeolite.indexed_by(str)
    def words(self) -> list[str]:
        return [word.lower() for word in self.text.split("-") if word]


class Card1(zeolite.Object, cls="wiki.Card"):
    code: Annotated[str, zeolite.unique]
    size: Annotated[str, zeolite.indexed]
    colour: Annotated[str, zeolite.indexed]
    name: Annotated[str, zeolite.indexed]


class Card(zeolite.Object, cls="wiki.Card", version=2, former=Card1):
    code: Annotated[str, zeolite.indexed]
    size: Annotated[zeolite.U64, zeolite.indexed]
    colour: str
    name: Annotated[str, zeolite.unique]

    @zeolite.upgrade(1)
    @staticmethod
    def _1(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "size": int(old["size"])}


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address, client_label="kept") as opened:
        yield opened


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    with Peer(server.address) as running:
        yield running


def cli(server: Server, *words: str) -> str:
    done = subprocess.run([PROGRAM, "--server", server.address, *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def makings(server: Server) -> dict[str, str]:
    """The transactions that made indexes, by the index."""
    told = [json.loads(line) for line in cli(server, "log", "-n", "0", "--json").splitlines()]
    said = [(one["tid"], one["note"]["description"]) for one in told]
    return {text.split()[1]: tid for tid, text in said if text.startswith("index ") and " is made; to undo this hides its objects" in text}


@pytest.mark.parametrize("serializable", [False, True])
def test_the_first_objects_of_a_class_are_no_conflict(server: Server, db: zeolite.Database, serializable: bool) -> None:
    with zeolite.connect(server.address, client_label="other") as other:
        with db.transaction(serializable=serializable) as tx, other.transaction(serializable=serializable) as their:
            tx.create(Note(slug="a", author="ada", text="x"))
            their.create(Note(slug="b", author="ada", text="x"))
    with db.transaction(fresh=True) as tx:
        assert sorted(note.slug for note in tx.index(Note, "author").find("ada")) == ["a", "b"]
    assert len(makings(server)) == 3


def test_of_two_first_objects_with_one_unique_key_one_is_told(server: Server, db: zeolite.Database) -> None:
    with zeolite.connect(server.address, client_label="other") as other:
        with pytest.raises(errors.Conflict), db.transaction() as tx, other.transaction() as their:
            tx.create(Note(slug="a", author="ada"))
            their.create(Note(slug="a", author="bob"))
    with db.transaction(fresh=True) as tx:
        assert [note.author for note in tx.unique(Note, "slug").values()] == ["bob"]


def test_an_index_is_there_whatever_becomes_of_its_first_transaction(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        authors = tx.index(Note, "author")
        assert authors.find("ada") == []
        with pytest.raises(LookupError), tx.savepoint():
            tx.create(Note(slug="a", author="ada"))
            tx.flush()
            assert len(authors.find("ada")) == 1
            raise LookupError
        assert authors.find("ada") == [] and "a" not in tx.unique(Note, "slug")
        tx.create(Note(slug="b", author="ada"))
        assert len(tx.index(Note, "author").find("ada")) == 1
    with db.snapshot() as now:
        assert [note.slug for note in now.index(Note, "author").find("ada")] == ["b"]


def test_an_index_whose_making_was_undone_has_its_name_again(server: Server, db: zeolite.Database, peer: Peer) -> None:
    with db.transaction() as tx:
        one, two = (tx.create(Note(slug=slug, author="ada", text="w")) for slug in ("one", "two"))
    made = makings(server)
    assert sorted(made) == ["wiki.Note:author", "wiki.Note:unique:slug", "wiki.Note:words"]
    for tid in made.values():
        cli(server, "undo", tid)
    with db.transaction(fresh=True) as tx:
        assert list(tx.unique(Note, "slug")) == []
        tx.delete(tx.get(two))  # its entries go, so all three are found again
    assert peer("verify") == {"objects": 1, "problems_total": 0, "problems": []}
    for tid in makings(server).values():
        assert tid in made.values(), "they are no new ones"
    with pytest.raises(errors.Taken, match=f"is that of object {one._z_oid:x}"), db.transaction(fresh=True) as tx:
        tx.create(Note(slug="one", author="bob"))
    with db.transaction(fresh=True) as tx:
        tx.create(Note(slug="three", author="ada"))
        assert sorted(note.slug for note in tx.index(Note, "author").find("ada")) == ["one", "three"]
    assert peer("verify") == {"objects": 2, "problems_total": 0, "problems": []}


@pytest.fixture(params=[100, 2000])
def bounded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, int]]:
    """A server with the longest key that it takes."""
    running = Server(tmp_path, f"limits.key_bytes_max={request.param}")
    yield running, request.param
    running.stop()


def test_the_longest_key_is_what_the_server_says(bounded: tuple[Server, int]) -> None:
    server, longest = bounded
    told = f"{longest + 1} bytes, and the server takes {longest} .limits.key_bytes_max"
    with zeolite.connect(server.address) as db:
        with db.transaction() as tx:
            tx.create(Note(slug="s" * longest, author="a" * (longest - 10)))
        with pytest.raises(errors.BadValue, match=f"class 'wiki.Note', index 'unique:slug', object .* {told}"), db.transaction() as tx:
            tx.create(Note(slug="s" * (longest + 1), author=""))
        with pytest.raises(errors.BadValue, match=f"index 'author', object .* {told}"), db.transaction() as tx:
            tx.create(Note(slug="", author="a" * (longest - 9)))


def entries(space: zeolite.Space) -> dict[str, int]:
    """All indexes of cards by their names, with how many entries they have."""
    kinds = {zeolite.Index: zeolite.Index[str, Card], zeolite.Unique: zeolite.Unique[str, Card]}
    found = {name: kinds[kind] for name, kind in space.root.items() if name.startswith("wiki.Card:")}
    return {name: len(space.root.open(name, zeolite.Index[zeolite.U64, Card] if "(u64)" in name else kind)) for name, kind in found.items()}


def test_indexes_are_dropped_and_have_other_keys_beside_rust(server: Server, db: zeolite.Database, peer: Peer) -> None:
    with db.transaction() as tx:
        cards = [tx.create(Card1(code=f"c{number}", size=str(number), colour="red", name=f"n{number}")) for number in range(20)]
    for number in range(20, 30):
        assert peer("card1", f"c{number}", number, "red", f"n{number}") is True
    with db.transaction(fresh=True) as tx:
        assert entries(tx) == {"wiki.Card:colour": 30, "wiki.Card:name": 30, "wiki.Card:size": 30, "wiki.Card:unique:code": 30}
        # What one writes is in the new indexes, and in none of the former ones.
        tx.get(Card, cards[0]._z_oid or 0).size = 100
        tx.get(Card, cards[1]._z_oid or 0).code = "c2"
        tx.delete(tx.get(Card, cards[2]._z_oid or 0))
    with db.snapshot() as now:
        assert [size for size, _ in now.index(Card, "size").between()] == [1, 100]
        assert {name: count for name, count in entries(now).items() if name in ("wiki.Card:colour", "wiki.Card:unique:code")} == {
            "wiki.Card:colour": 27,
            "wiki.Card:unique:code": 27,
        }
    assert peer("recard", "n1", "c3", 7) is True, "it is found there"
    assert peer("uncard", "n0") is True
    report = evolve.run(db, "cards-2", Card, gate=True, **ANY_DISK)
    assert (report["phase"], report["bad"]) == ("done", 0)
    assert "cards-2" in cli(server, "evolve", "ensure", "cards-2")
    assert peer("verify", "cards") == {"objects": 28, "problems_total": 0, "problems": []}
    whole = {"wiki.Card:code": 28, "wiki.Card:size(u64)": 28, "wiki.Card:unique:name": 28}
    dropped = {"wiki.Card:colour": 0, "wiki.Card:name": 0, "wiki.Card:size": 0, "wiki.Card:unique:code": 0}
    with db.snapshot() as now:
        assert entries(now) == whole | dropped
        assert [size for size, _ in now.index(Card, "size").between()] == sorted([7, *range(3, 30)])
    with pytest.raises(KeyError), db.transaction(fresh=True) as tx:
        tx.create(Card(code="c", size=1, colour="red", name="n7"))


def test_a_dry_run_makes_no_index_and_an_evolve_that_drops_some_is_taken_back(server: Server, db: zeolite.Database) -> None:
    with db.transaction() as tx:
        for number in range(5):
            tx.create(Card1(code=f"c{number}", size=str(number), colour="red", name=f"n{number}"))
    with db.transaction(fresh=True) as tx:
        before = entries(tx)
    assert set(before.values()) == {5} and len(makings(server)) == 4
    assert evolve.dry_run(db, Card).changed == 5
    assert len(makings(server)) == 4
    assert evolve.run(db, "cards-2", Card, **ANY_DISK)["phase"] == "done"
    with db.transaction(fresh=True) as tx:
        assert len(tx.index(Card, "size")) == 5 and entries(tx)["wiki.Card:size"] == 0
    with evolve.Job.find(db, "cards-2") as job:
        job.undo()
    with db.transaction(fresh=True) as tx:
        assert entries(tx) == before | {"wiki.Card:code": 0, "wiki.Card:size(u64)": 0, "wiki.Card:unique:name": 0}
        assert tx.unique(Card1, "code")["c3"].size == "3"
        # Nothing is of the newer version now: its indexes are empty, and keep the former release from nothing.
        tx.create(Card1(code="c", size="5", colour="red", name="n"))


def test_a_step_that_opens_an_index_makes_none_in_a_dry_run(server: Server, db: zeolite.Database) -> None:
    with db.transaction() as tx:
        tx.create(Card1(code="c", size="1", colour="red", name="n"))

    @evolve.step(Card)
    def step(card: Card, tx: zeolite.Transaction) -> None:
        tx.create(Note(slug="a", author="ada"))
        authors = tx.index(Note, "author")
        authors.add("bob", tx.create(Note(slug="b", author="bob")))
        assert [note.slug for note in authors.find("bob")] == ["b"]

    before = makings(server)
    found = evolve.dry_run(db, step)
    assert (found.stepped, found.errors) == (1, [])
    assert makings(server) == before
    assert evolve.run(db, "cards", step, **ANY_DISK)["phase"] == "done"
    assert "wiki.Note:author" in makings(server)


def test_random_work_of_python_and_rust_over_two_versions(server: Server, db: zeolite.Database, peer: Peer) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice, names = random.Random(seed), dict[str, int]()

    @db.transaction(fresh=True)
    def here(tx: zeolite.Transaction, words: tuple[Any, ...]) -> None:
        match words:
            case ("card1", code, size, colour, name):
                tx.create(Card1(code=code, size=str(size), colour=colour, name=name))
            case ("card", code, size, colour, name):
                tx.create(Card(code=code, size=size, colour=colour, name=name))
            case ("recard", name, code, size):
                card = tx.unique(Card, "name")[name]
                card.code, card.size = code, size
            case ("uncard", name):
                tx.delete(tx.unique(Card, "name")[name])

    for number in range(80):
        new, size = f"n{number}", dice.randrange(100)
        words: tuple[Any, ...] = (dice.choice(["card1", "card"]), f"c{number}", size, "red", new)
        if names and dice.random() < 0.6:
            new = dice.choice(sorted(names))
            words = dice.choice([("recard", new, f"c{number}", size), ("uncard", new)])
        if dice.random() < 0.5:
            here(words)
        else:
            assert peer(*words) is True, words
        if words[0] in ("card", "recard"):
            names[new] = size
        elif words[0] == "uncard":
            del names[new]
        elif words[0] == "card1":
            with db.transaction(fresh=True) as tx:
                [card] = tx.root.open("wiki.Card:name", zeolite.Index[str, Card]).find(new)
                if dice.random() < 0.7:
                    card.colour = "blue"
                    names[new] = size
    report = evolve.run(db, "cards-2", Card, gate=True, **ANY_DISK)
    assert report["phase"] == "done"
    told = peer("verify", "cards")
    assert told["problems"] == [] and told["problems_total"] == 0
    with db.snapshot() as now:
        found = entries(now)
        assert all(found.get(f"wiki.Card:{name}", 0) == 0 for name in ("colour", "size", "name", "unique:code")), found
        there = {name: card.size for name, card in now.unique(Card, "name").items()}
        assert there.items() >= names.items() and len(there) == told["objects"]


def test_a_former_release_writes_beside_a_newer_one_with_more_indexes(server: Server, db: zeolite.Database) -> None:
    class Plain(zeolite.Object, cls="t.Plain"):
        name: str

    class Found(zeolite.Object, cls="t.Plain", version=2, former=Plain):
        name: Annotated[str, zeolite.indexed]

        @zeolite.upgrade(1)
        @staticmethod
        def _1(old: dict[str, Any]) -> dict[str, Any]:
            return old

    class Same(zeolite.Object, cls="t.Plain", version=2):
        name: str

    with zeolite.connect(server.address, client_label="the former release") as former:
        with former.transaction() as tx:
            oids = [tx.create(Plain(name=name))._z_oid or 0 for name in "abc"]
        with db.transaction(fresh=True) as tx:
            tx.get(Found, oids[0]).name = "A"
        with former.transaction(fresh=True) as tx:
            tx.get(Plain, oids[1]).name = "B"
            tx.create(Plain(name="d"))
            tx.delete(tx.get(Plain, oids[2]))
        with pytest.raises(errors.NewerVersion), former.transaction(fresh=True) as tx:
            tx.get(Plain, oids[0])
        # Unseen, its entry would stay.
        with pytest.raises(errors.KeptElsewhere), former.transaction(fresh=True) as tx:
            tx.delete(tx.reference(Plain, oids[0]))
        # An index of its own version is not a newer one's because there is one.
        with db.transaction(fresh=True) as tx:
            plain = tx.create(Plain(name="own"))
            tx.root.index("t.Plain:other", Plain).add("x", plain)
        with pytest.raises(errors.KeptElsewhere, match=r"does not know \(other\)"), former.transaction(fresh=True) as tx:
            tx.create(Plain(name="f"))
        with db.transaction(fresh=True) as tx:
            del tx.root["t.Plain:other"]
        with db.transaction(fresh=True) as tx:
            tx.delete(tx.get(plain))
        # The version that has it is no former one.
        with pytest.raises(errors.KeptElsewhere), former.transaction(fresh=True) as tx:
            tx.create(Same(name="e"))
    assert evolve.run(db, "plain-2", Found, gate=True, **ANY_DISK)["phase"] == "done"
    with db.snapshot() as now:
        assert [name for name, _ in now.index(Found, "name").between()] == ["A", "B", "d"]


def test_who_does_not_name_the_former_class_is_told_to(db: zeolite.Database) -> None:
    class Bare(zeolite.Object, cls="wiki.Card", version=2):
        name: Annotated[str, zeolite.unique]

    with db.transaction() as tx:
        oid = tx.create(Card1(code="c", size="1", colour="red", name="n"))._z_oid or 0
    with pytest.raises(errors.KeptElsewhere, match="name its class: former="), db.transaction(fresh=True) as tx:
        tx.create(Bare(name="m"))
    with db.transaction(fresh=True) as tx:
        tx.get(Card, oid).size = 2
    # Nobody reads them any more: their names can go, and the empty collections go with a pack.
    with db.transaction(fresh=True) as tx:
        for name in ("colour", "name", "size", "unique:code", "code", "size(u64)"):
            del tx.root[f"wiki.Card:{name}"]
    with db.transaction(fresh=True) as tx:
        tx.create(Bare(name="m"))


def test_a_former_class_is_one_of_the_same_name_and_a_lower_version() -> None:
    for cls, version in (("wiki.Card", 1), ("wiki.Other", 2)):
        with pytest.raises(errors.BadValue, match=f"Card1 is 'wiki.Card', version 1: no former version of Wrong, which is '{cls}', version {version}"):

            class Wrong(zeolite.Object, cls=cls, version=version, former=Card1):
                code: str


def test_the_upgrades_of_former_classes_are_those_of_the_newer_ones() -> None:
    class Card3(zeolite.Object, cls="wiki.Card", version=3, former=Card):
        size: int

        @zeolite.upgrade(2)
        @staticmethod
        def _2(old: dict[str, Any]) -> dict[str, Any]:
            return {"size": old["size"] + 1}

    assert Card3._z_formers() == [Card, Card1] and sorted(Card3._z_upgrades) == [1, 2]
    assert [kept.name for kept in Card3._z_kept_indexes()] == []
    assert {kept.name for kept in Card3._z_all_indexes()} == {"unique:code", "code", "size", "size(u64)", "colour", "name", "unique:name"}
