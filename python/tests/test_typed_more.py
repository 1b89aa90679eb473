"""Blobs, savepoints, numbers within bounds, extremes, small sets and lists: alone, beside a program in Rust, and in an event loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Server
from wiki import Peer

import zeolite
from zeolite import aio, errors


class Photo(zeolite.Object, cls="wiki.Photo"):
    title: str
    image: zeolite.Blob


class Flight(zeolite.Object, cls="t.Flight"):
    name: str
    seats: zeolite.BoundedCounter = zeolite.bounds(3, low=0, high=3)
    latest: zeolite.Greatest
    cheapest: zeolite.Least
    labels: zeolite.SmallSet[str]
    signed: zeolite.SmallList[tuple[str, int]]
    crew: zeolite.SmallSet["Person"]
    tags: list[str] = []


class Person(zeolite.Object, cls="t.Person"):
    name: str


class Album(zeolite.Object, cls="t.Album"):
    photos: list[zeolite.Blob]
    cover: zeolite.Blob | None = None


class Narrow(zeolite.Object, cls="t.Album"):
    cover: zeolite.Blob | None = None


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address, client_label="more") as opened:
        yield opened


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    with Peer(server.address) as running:
        yield running


def flight(db: zeolite.Database, **fields: Any) -> Flight:
    with db.transaction() as tx:
        tx.root["flight"] = made = Flight(name="ZE 1", **fields)
    return made


# Numbers, small sets and lists


def test_a_number_stays_within_its_bounds_whoever_adds(db: zeolite.Database) -> None:
    made = flight(db)

    @db.transaction()
    def book(tx: zeolite.Transaction, count: int) -> int:
        here = tx.get(made)
        here.seats -= count
        return here.seats.value

    assert [book(1), book(2)] == [2, 0]
    with pytest.raises(errors.ZeoliteError, match="outside 0..=3"):
        book(1)
    with db.snapshot() as now:
        seats = now.get(made).seats
        assert (seats.value, seats.low, seats.high) == (0, 0, 3)
    larger = flight(db, seats=zeolite.bounds(400, low=0, high=400))
    with db.snapshot() as now:
        assert int(now.get(larger).seats) == 400
    with pytest.raises(errors.BadValue, match="from 0 to 3"):
        zeolite.bounds(4, low=0, high=3)
    with db.transaction() as tx, pytest.raises(errors.FixRequest, match="zeolite.bounds"):
        tx.root.bounded("none").add(1)
    with pytest.raises(errors.BadValue, match="seats is a collection"):
        Flight(name="x", seats=7)


def test_two_transactions_at_once_neither_conflict_nor_leave_the_bounds(db: zeolite.Database, server: Server) -> None:
    made = flight(db)
    with zeolite.connect(server.address, client_label="another") as other, db.transaction() as first, other.transaction() as second:
        for tx in (first, second):
            here = tx.get(made)
            here.seats -= 1
            here.latest.offer(7 if tx is first else 5)
            here.cheapest.offer(7 if tx is first else 5)
            here.labels.add(f"label {tx is first}")
            here.signed.append(("ada", int(tx is first)))
    with db.transaction(fresh=True) as tx:
        here = tx.get(made)
        assert (here.seats.value, here.latest.value, here.cheapest.value) == (1, 7, 5)
        assert sorted(here.labels) == ["label False", "label True"] and sorted(here.signed) == [("ada", 0), ("ada", 1)]
    with pytest.raises(errors.Conflict, match="outside"), db.transaction() as first, db.transaction(attempts=1)._database.snapshot():
        first.get(made).seats -= 1
        with zeolite.connect(server.address, client_label="another") as other, other.transaction(fresh=True) as second:
            second.get(made).seats -= 1


def test_what_is_in_one_record(db: zeolite.Database) -> None:
    made = flight(db)
    with db.transaction() as tx:
        here = tx.get(made)
        assert (here.latest.value, list(here.labels), list(here.signed), len(here.crew)) == (None, [], [], 0)
        for word in ("b", "a", "b"):
            here.labels.add(word)
        here.labels.discard("none")
        here.crew.add(Person(name="Ada"))
        assert list(here.labels) == ["a", "b"] and "a" in here.labels
        with pytest.raises(errors.BadValue):
            here.labels.add(1)  # type: ignore[arg-type]
    with db.snapshot() as now:
        here = now.get(made)
        (ada,) = here.crew
        assert ada.name == "Ada" and list(here.labels) == ["a", "b"]
        record = now.get_record(here.crew._z_oid or 0, b"")
        assert record is not None and record[2] == [ada._z_oid], "a pack leaves her alone"


def shop_of_python(tx: zeolite.Space) -> dict[str, Any]:
    stock = tx.root.bounded("stock")
    return {
        "stock": [stock.value, stock.low, stock.high],
        "high": tx.root.greatest("high").value,
        "low": tx.root.least("low").value,
        "labels": list(tx.root.small_set("labels")),
        "signs": [list(sign) for sign in tx.root.small_list("signs", tuple[str, int])],
    }


def test_random_work_of_both_on_one_record_each(db: zeolite.Database, peer: Peer) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice, stock, labels, signs, offered = random.Random(seed), 10, set[str](), list[list[Any]](), list[int]()

    @db.transaction(fresh=True)
    def here(tx: zeolite.Transaction, words: tuple[Any, ...]) -> None:
        match words:
            case ("stock", by):
                tx.root.bounded("stock", zeolite.bounds(10, low=0, high=100)).add(by)
            case ("offer", number):
                tx.root.greatest("high").offer(number)
                tx.root.least("low").offer(number)
            case ("label", word):
                tx.root.small_set("labels").add(word)
            case ("unlabel", word):
                tx.root.small_set("labels").discard(word)
            case ("sign", word, number):
                tx.root.small_list("signs", tuple[str, int]).append((word, number))

    for _ in range(80):
        word = f"w{dice.randrange(5)}"
        choices = [("offer", dice.randrange(-(2**62), 2**62)), ("label", word), ("unlabel", word), ("sign", word, dice.randrange(-9, 9))]
        words: tuple[Any, ...] = dice.choice([*choices, ("stock", dice.randrange(-40, 41))])
        is_refused = words[0] == "stock" and not 0 <= stock + words[1] <= 100
        if dice.random() < 0.5:
            assert ("error" in (answer := peer(*words) or {}) if is_refused else peer(*words) is True), answer
        elif is_refused:
            with pytest.raises(errors.ZeoliteError, match="outside"):
                here(words)
        else:
            here(words)
        match words:
            case ("stock", by) if not is_refused:
                stock += by
            case ("offer", number):
                offered.append(number)
            case ("label", one):
                labels.add(one)
            case ("unlabel", one):
                labels.discard(one)
            case ("sign", one, number):
                signs.append([one, number])
    here(("stock", 0))
    told = peer("shop")
    with db.transaction(fresh=True) as tx:
        assert shop_of_python(tx) == told
    assert (told["stock"], told["signs"], set(told["labels"])) == ([stock, 0, 100], signs, labels)
    assert (told["high"], told["low"]) == ((max(offered), min(offered)) if offered else (None, None))


# Blobs


def test_a_blob_of_either_is_the_others(db: zeolite.Database, peer: Peer, tmp_path: Path) -> None:
    assert peer("photo", "Rust", "bytes-of-Rust") is True
    with db.transaction(fresh=True) as tx:
        photos = tx.root.map("photos", Photo)
        image = photos["Rust"].image
        assert (image.read(), image.read(6, 8), image.length) == (b"bytes-of-Rust", b"of", 13)
        (tmp_path / "file").write_bytes(b"of a file")
        photos["Python"] = Photo(title="Python", image=tx.upload(tmp_path / "file"))
        photos["Rust"].title = "Rust, seen"
    with db.snapshot() as now:
        image = now.root.map("photos", Photo)["Python"].image
        assert image.save(tmp_path / "saved") == 9 and (tmp_path / "saved").read_bytes() == b"of a file"
        with pytest.raises(errors.ZeoliteError, match="saved"):
            image.save(tmp_path / "saved")
    assert peer("photo", "Python") == {"title": "Python", "image": image.id.hex(), "named": 1, "texts": ["of a file"]}
    assert peer("photo", "Rust")["texts"] == ["bytes-of-Rust"] and peer("photo", "Rust")["title"] == "Rust, seen"


def test_what_names_a_blob_keeps_it_and_what_does_not_lets_it_go(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        one, two, three = (tx.upload(f"number {number}".encode()) for number in range(3))
        tx.root["album"] = album = Album(photos=[one, two], cover=three)
        tx.root.map("by name", zeolite.Blob)["one"] = one
        tx.root.list("line", tuple[str, zeolite.Blob]).append(("two", two))
        with pytest.raises(errors.BadValue, match="no blobs"):
            tx.root.small_set("small", zeolite.Blob).add(one)
        with pytest.raises(errors.BadValue, match="field cover"):
            album.cover = b"bytes"  # type: ignore[assignment]

    def named(oid: int, key: bytes = b"") -> list[bytes]:
        with db.snapshot() as now:
            record = now.get_record(oid, key)
            assert record is not None
            return sorted(record[3])

    assert album._z_oid is not None and named(album._z_oid) == sorted(blob.id for blob in (one, two, three))
    with db.transaction() as tx:
        here = tx.get(Narrow, album._z_oid)  # it does not know the field `photos`
        here.cover = None
    assert named(album._z_oid) == sorted(blob.id for blob in (one, two))
    with db.transaction() as tx:
        tx.get(album).photos.pop()
    assert named(album._z_oid) == [one.id]
    with db.snapshot() as now:
        assert now.root.map("by name", zeolite.Blob)["one"].read() == b"number 0"
        ((name, blob),) = now.root.list("line", tuple[str, zeolite.Blob])
        assert (name, blob.read()) == ("two", b"number 1")
        by_name = now.root.map("by name", zeolite.Blob)._z_oid
    assert by_name is not None and named(by_name, b"one") == [one.id]
    with pytest.raises(errors.Over):
        blob.read()


# Savepoints


def test_what_is_raised_takes_back_what_was_written_in_it(db: zeolite.Database) -> None:
    made = flight(db)
    with db.transaction() as tx:
        here = tx.get(made)
        here.name = "before"
        here.tags.append("before")
        kept, remarks = here.tags, tx.root.list("remarks")
        remarks.append("before")
        with pytest.raises(LookupError), tx.savepoint():
            here.name = "in it"
            here.tags.append("in it")
            here.seats -= 1
            remarks.append("in it")
            tx.root["other"] = other = Person(name="other")
            tx.root.map("new", int)["a"] = 1
            tx.root.map("new", int)["b"] = 2
            assert here.name == "in it" and list(remarks) == ["before", "in it"]
            raise LookupError
        assert (here.name, here.tags, here.seats.value) == ("before", ["before"], 3)
        assert list(remarks) == ["before"] and "other" not in tx.root and other._z_oid is None
        assert list(tx.root.map("new", int)) == [] and "new" not in tx.root
        here.tags.append("after")
        tx.root.map("new", int)["c"] = 3
        tx.root["other"] = other
    assert kept == ["before", "in it"]
    with db.snapshot() as now:
        here = now.get(made)
        assert (here.name, here.tags, here.seats.value) == ("before", ["before", "after"], 3)
        assert list(now.root.list("remarks")) == ["before"] and dict(now.root.map("new", int).items()) == {"c": 3}
        assert now.root["other"].name == "other"


def test_marks_are_gone_back_to_in_any_order_and_deleted_objects_come_back(db: zeolite.Database) -> None:
    made = flight(db)
    with db.transaction() as tx:
        here = tx.get(made)
        first = tx.savepoint()
        here.name = "one"
        new = tx.create(Person(name="new"))
        second = tx.savepoint()
        new.name = "newer"
        tx.delete(here)
        with pytest.raises(errors.NotFound):
            tx.get(Flight, made._z_oid or 0)
        second.rollback()
        assert here.name == "one" and tx.get(Flight, made._z_oid or 0) is here and new.name == "new"
        here.name = "two"
        second.rollback()
        assert here.name == "one"
        first.rollback()
        assert here.name == "ZE 1" and new._z_oid is None and new.name == "new"
        with pytest.raises(errors.FixRequest, match="make another"):
            second.rollback()
        tx.root["new"] = new
    with pytest.raises(errors.Over):
        first.rollback()
    with db.snapshot() as now:
        assert now.get(made).name == "ZE 1" and now.root["new"].name == "new"


def test_an_object_that_was_new_is_so_again_when_all_is_given_up(db: zeolite.Database) -> None:
    made = Flight(name="new")
    with pytest.raises(LookupError), db.transaction() as tx:
        tx.root["flight"] = tx.create(made)
        mark = tx.savepoint()
        made.seats -= 1
        made.name = "changed"
        mark.rollback()
        raise LookupError
    assert made._z_oid is None and made.name == "new"
    with db.transaction() as tx:
        tx.root["flight"] = made
        made.seats -= 1
    with db.snapshot() as now:
        assert now.get(made).seats.value == 2


def test_what_was_handed_over_is_written_again_only_if_it_changes(db: zeolite.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    record = Person._z_record

    def counted(person: Person, space: Any) -> Any:
        written.append(person.name)
        return record(person, space)

    monkeypatch.setattr(Person, "_z_record", counted)
    with db.transaction() as tx:
        people = [tx.create(Person(name=str(number))) for number in range(10)]
        tx.root.map("people")["first"] = people[0]
        for _ in range(3):
            with tx.savepoint():
                pass
        assert sorted(written) == [str(number) for number in range(10)]
        written.clear()
        people[0].name = "changed"
        with tx.savepoint():
            people[1].name = "changed too"
        mark = tx.savepoint()
        people[0].name = "taken back"
        mark.rollback()
        people[2].name = "at the end"
        assert len(tx._savepoints) == 1, "who is not held by anybody is not kept"
    assert sorted(written) == ["at the end", "changed", "changed too"]
    with db.snapshot() as now:
        assert [now.get(person).name for person in people[:4]] == ["changed", "changed too", "at the end", "3"]


def test_random_savepoints_are_what_a_model_says(db: zeolite.Database) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with db.transaction() as tx:
        tx.root["flight"] = made = Flight(name="0")
    for _ in range(15):
        with db.transaction() as tx:
            here, numbers = tx.get(made), tx.root.map("numbers", int, int)
            lines = tx.root.small_list("lines", int)

            def seen() -> tuple[Any, ...]:
                return here.name, list(here.tags), dict(numbers.items()), list(lines), here.latest.value

            marks: list[tuple[zeolite.Savepoint, tuple[Any, ...]]] = []
            for step in range(25):
                match dice.randrange(7):
                    case 0:
                        here.name = f"{step}"
                    case 1:
                        here.tags.append(f"{step}")
                    case 2:
                        numbers[dice.randrange(5)] = step
                    case 3:
                        lines.append(step)
                        here.latest.offer(dice.randrange(100))
                    case 4 if marks:
                        at = dice.randrange(len(marks))
                        marks[at][0].rollback()
                        assert seen() == marks[at][1]
                        del marks[at + 1 :]
                    case _:
                        marks.append((tx.savepoint(), seen()))
            last = seen()
        with db.transaction(fresh=True) as tx:
            here, numbers, lines = tx.get(made), tx.root.map("numbers", int, int), tx.root.small_list("lines", int)
            assert seen() == last


# In an event loop


def test_all_of_them_in_an_event_loop(server: Server, tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.connect(server.address, client_label="more in a loop") as db:
            async with db.transaction() as tx:
                stock = await tx.root.bounded("stock", zeolite.bounds(5, low=0, high=9))
                await stock.add(-2)
                assert (await stock.value(), await stock.bounds()) == (3, (0, 9))
                await (await tx.root.greatest("high")).offer(4)
                await (await tx.root.least("low")).offer(4)
                await (await tx.root.small_set("labels", str)).add("a")
                signs = await tx.root.small_list("signs", str)
                await signs.append("b")
                blob = await tx.upload(b"0123456789")
                made = await tx.create(Photo(title="loop", image=blob.plain))
                await tx.root.set("photo", made)
                with pytest.raises(LookupError):
                    async with tx.savepoint():
                        made.title = "in it"
                        await signs.append("c")
                        raise LookupError
                assert await signs.values() == ["b"] and made.title == "loop"
            async with db.snapshot() as now:
                photo = await now.root.get("photo", Photo)
                assert photo is not None
                image = aio.of(photo.image)
                assert (await image.length(), await image.read(2, 4)) == (10, b"23")
                assert await image.save(tmp_path / "saved") == 10
                with pytest.raises(errors.WouldWait):
                    photo.image.read()
                assert await (await now.root.greatest("high")).value() == 4 == await (await now.root.least("low")).value()
                assert await (await now.root.small_set("labels", str)).values() == ["a"]

    asyncio.run(main())
