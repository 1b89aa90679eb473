"""What a transaction or a snapshot holds and asks for: objects of one database, as long as somebody has them, with as few requests as will do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Server
from wiki import Peer

import zeolite
from zeolite import aio, errors, evolve

class Leaf(zeolite.Object, cls="t.Leaf"):
    name: str


class Bough(zeolite.Object, cls="t.Bough"):
    name: str
    below: list[zeolite.Object] = []


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address, client_label="spaces") as opened:
        yield opened


class Counted:
    """The native half of a space, with how often what it has asked the server was called."""

    def __init__(self, space: zeolite.Space):
        self._native, self.asked = space._native, {"get": 0, "get_many": 0, "page": 0}
        space._native = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name in self.asked:
            self.asked[name] += 1
        return getattr(self._native, name)


def test_an_object_goes_with_its_last_reference_unless_it_was_changed(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        leaves = tx.root.map("leaves", Leaf, int)
        for number in range(1000):
            leaves[number] = Leaf(name=f"{number}")
    with db.snapshot() as now:
        assert sum(int(leaf.name) for leaf in now.root.map("leaves", Leaf, int).values()) == 499_500
        gc.collect()
        assert len(now._objects) <= 1
        first = now.root.map("leaves", Leaf, int)[0]
        assert now.root.map("leaves", Leaf, int)[0] is first
    with db.transaction() as tx:
        leaves = tx.root.map("leaves", Leaf, int)
        for number in range(10):
            leaves[number].name += "!"
        gc.collect()
        assert leaves[3].name == "3!" and len(tx._objects) == 10
    with db.snapshot() as now:
        assert now.root.map("leaves", Leaf, int)[9].name == "9!"


def test_a_walk_asks_once_for_each_page(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        numbers = tx.root.map("numbers", int, int)
        for number in range(100):
            numbers[number] = number
    with db.snapshot() as now:
        numbers, counted = now.root.map("numbers", int, int), Counted(now)
        assert list(numbers.keys()) == list(range(100)) and counted.asked["page"] == 1
        assert list(numbers.keys(limit=5, reverse=True)) == [99, 98, 97, 96, 95] and counted.asked["page"] == 2
        assert list(numbers.keys(200, 300)) == [] and counted.asked["page"] == 3
        assert list(now.root) == ["numbers"] and counted.asked["page"] == 4
    with db.transaction() as tx:
        numbers, counted = tx.root.map("numbers", int, int), Counted(tx)
        numbers[1000], numbers[-1] = 1, 1
        del numbers[50]
        assert list(numbers.keys()) == [-1, *range(50), *range(51, 100), 1000] and counted.asked["page"] == 1
        assert list(numbers.keys(reverse=True, limit=2)) == [1000, 99] and counted.asked["page"] == 2
        tx.rollback()


def test_objects_of_any_class_come_together(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        anything = tx.root.map("anything", zeolite.Object, int)
        for number in range(50):
            leaf = Leaf(name=f"leaf {number}")
            anything[number] = leaf if number % 2 else Bough(name=f"bough {number}", below=[leaf, Leaf(name="second")])
        tx.root["bough"] = Bough(name="top", below=[Leaf(name=f"{number}") for number in range(20)])
        tx.root.list("line", zeolite.Object).append(Leaf(name="in a line"))
    with db.snapshot() as now:
        anything, counted = now.root.map("anything"), Counted(now)
        anything = now.root.map("anything", zeolite.Object, int)
        named = {number: (type(obj), obj.name) for number, obj in anything.items()}
        assert named == {number: (Leaf, f"leaf {number}") if number % 2 else (Bough, f"bough {number}") for number in range(50)}
        # One for those in the map, and one for those below each of the 25 that have any.
        assert counted.asked["get_many"] == 26
    with db.snapshot() as now:
        top, counted = now.root.get("bough", Bough), Counted(now)
        assert top is not None and [leaf.name for leaf in top.below] == [f"{number}" for number in range(20)]  # type: ignore[attr-defined]
        assert (counted.asked["get_many"], counted.asked["get"]) == (1, 1)
        assert [leaf.name for leaf in now.root.list("line", zeolite.Object)] == ["in a line"]


def test_what_of_them_is_gone_is_told_where_it_is_looked_at(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        anything = tx.root.map("anything", zeolite.Object, int)
        anything[1], anything[2] = Leaf(name="stays"), Leaf(name="goes")
        tx.delete(anything[2])
    with db.snapshot() as now:
        walk = now.root.map("anything", zeolite.Object, int).items()
        assert next(walk)[1].name == "stays"
        with pytest.raises(errors.NotFound):
            next(walk)


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("elsewhere"))
    yield running
    running.stop()


def test_an_object_of_another_database_is_refused_wherever_it_is_given(server: Server, db: zeolite.Database, elsewhere: Server) -> None:
    with zeolite.connect(elsewhere.address, client_label="elsewhere") as other:
        with other.transaction() as tx:
            for number in range(20):
                tx.root.map("leaves", Leaf, int)[number] = leaf = Leaf(name="theirs")
        with db.transaction() as tx:
            ours = Bough(name="ours", below=[Leaf(name=f"{number}") for number in range(20)])
            tx.root["ours"] = ours

        def below(tx: zeolite.Transaction) -> None:
            tx.get(ours).below.append(leaf)

        refused: list[Any] = [
            lambda tx: tx.get(leaf),
            lambda tx: tx.root.__setitem__("theirs", leaf),
            lambda tx: tx.root.map("leaves", Leaf, int).__setitem__(1, leaf),
            lambda tx: tx.root.map("by", int, Leaf).get(leaf),
            lambda tx: tx.root.map("by", int, tuple[str, Leaf]).__setitem__(("a", leaf), 1),
            lambda tx: tx.root.set("set", Leaf).discard(leaf),
            lambda tx: leaf in tx.root.set("set", Leaf),
            lambda tx: tx.root.index("index", Leaf).add("a", leaf),
            lambda tx: tx.root.index("index", Leaf, Leaf).find(leaf),
            lambda tx: tx.root.list("list", Leaf).append(leaf),
            lambda tx: tx.create(Bough(name="new", below=[leaf])),
            lambda tx: tx.delete(leaf),
            below,
        ]
        for give in refused:
            with pytest.raises(errors.WrongDatabase, match="make an object here"), db.transaction() as tx:
                tx.root.set("set", Leaf).add(Leaf(name="so that there is one"))
                give(tx)
        with other.transaction() as tx:
            tx.get(leaf).name = "still theirs"

        raised: list[BaseException] = []

        def thread() -> None:
            try:
                with db.transaction() as tx:
                    tx.root.list("list", Leaf).append(leaf)
            except errors.WrongDatabase as error:
                raised.append(error)

        running = threading.Thread(target=thread)
        running.start()
        running.join()
        assert len(raised) == 1

    async def main() -> None:
        async with await aio.connect(server.address, client_label="spaces") as here, here.transaction() as tx:
            with pytest.raises(errors.WrongDatabase):
                await tx.get(leaf)
            with pytest.raises(errors.WrongDatabase):
                await (await tx.root.list("list", Leaf)).append(leaf)

    asyncio.run(main())


def test_one_database_by_two_connections_is_one(server: Server, db: zeolite.Database) -> None:
    with zeolite.connect(server.address, client_label="another") as again, db.transaction() as tx:
        tx.root["leaf"] = leaf = Leaf(name="a")
        tx.flush()
        assert again._native.store_id() == tx._store
    with zeolite.connect(server.address, client_label="another") as again, again.transaction(fresh=True) as tx:
        tx.root["bough"] = Bough(name="b", below=[leaf])
        assert tx.get(leaf).name == "a"


class Kept(zeolite.Object, cls="wiki.Note"):
    slug: str
    author: str


class KeptByHand(zeolite.Object, cls="wiki.Note", indexes=["author", "unique:slug", "words"]):
    slug: str
    author: str


def test_objects_whose_indexes_a_program_in_rust_keeps_are_not_written_here(server: Server, db: zeolite.Database) -> None:
    with db.transaction() as tx:
        tx.root["leaf"] = leaf = Leaf(name="a")
        tx.root["before"] = Kept(slug="before", author="ada")  # no index is known yet
    with Peer(server.address) as peer:
        assert peer("note", "home", "ada", "hello") is True
    with db.transaction(fresh=True) as tx:
        found = tx.root.unique("wiki.Note:unique:slug", Kept)["home"]
        assert [note.slug for note in tx.root.index("wiki.Note:author", Kept).find("ada")] == ["home"]

    def change(tx: zeolite.Transaction) -> None:
        tx.get(found).author = "bob"

    refused: list[Any] = [change, lambda tx: tx.delete(tx.get(found)), lambda tx: tx.create(Kept(slug="new", author="ada"))]
    for write in refused:
        with pytest.raises(errors.KeptElsewhere, match=r"author.*unique:slug.*words.*indexes="), db.transaction() as tx:
            write(tx)
    with db.transaction() as tx:
        tx.get(leaf).name = "others are"
    with db.transaction() as tx:
        assert found._z_oid is not None
        by_hand = tx.get(KeptByHand, found._z_oid)
        authors = tx.root.index("wiki.Note:author", KeptByHand)
        authors.discard(by_hand.author, by_hand)
        by_hand.author = "bob"
        authors.add("bob", by_hand)
    with Peer(server.address) as peer:
        assert peer("notes", "bob") == ["home"] and peer("notes", "ada") == []
    done = evolve.dry_run(db, evolve.step(Kept, to=0)(lambda note, tx: setattr(note, "author", "eve")))
    assert done.errors and "KeptElsewhere" in str(done.errors)
