"""Objects of Python's own: what a program does with them on a real server, and what is refused."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from serving import Server
from wiki import Page

import zeolite
from zeolite import errors

NOW = datetime(2026, 11, 30, 12, 0, 0, 250_000, tzinfo=timezone.utc)


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address, client_label="the test") as opened:
        yield opened


def add(db: zeolite.Database, title: str, **fields: Any) -> Page:
    @db.transaction(note=f"add {title}", fresh=True)
    def adding(tx: zeolite.Transaction) -> Page:
        page = tx.create(Page(title=title, body="", written=NOW, **fields))
        tx.root.unique("titles", Page)[title] = page
        return page

    return adding()


def test_what_is_stored_is_there_again(db: zeolite.Database) -> None:
    @dataclass(frozen=True)
    class Point:
        x: int
        y: float | None

    class Everything(zeolite.Object, cls="t.Everything"):
        text: str
        raw: bytes
        small: zeolite.U8
        large: int
        real: float
        yes: bool
        when: datetime
        naive: datetime
        day: date
        id: uuid.UUID
        nothing: str | None
        point: Point
        pair: tuple[str, int]
        many: tuple[int, ...]
        words: list[str]
        some: set[int]
        by: dict[str, list[int]]
        other: Everything | None
        whatever: Any
        said: int = 7

    values: dict[str, Any] = {
        "text": "é\0", "raw": b"\0\xff", "small": 255, "large": 2**64 - 1, "real": 1.5, "yes": True, "when": NOW,
        "naive": datetime(2026, 1, 2, 3, 4, 5), "day": date(2026, 2, 28), "id": uuid.uuid4(), "nothing": None,
        "point": Point(-1, None), "pair": ("a", 1), "many": (1, 2, 3), "words": ["a", ""], "some": {3, 1},
        "by": {"a": [1, 2]}, "whatever": {"deep": [None, 1.5, b"x"]},
    }  # fmt: skip
    with db.transaction() as tx:
        first = tx.create(Everything(**values, other=None))
        tx.root["it"] = tx.create(Everything(**values, other=first))
    with db.snapshot() as now:
        it = now.root["it"]
        assert isinstance(it, Everything) and isinstance(it.other, Everything)
        for name, value in values.items():
            assert getattr(it, name) == value, name
            assert type(getattr(it, name)) is type(value), name
        assert it.other.other is None and it.said == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [("title", 1), ("rating", "high"), ("written", "now"), ("tags", ["a", 1]), ("parent", "Home"), ("sizes", {"a": 2**64})],
)
def test_a_value_of_another_type_is_refused_where_it_is_given(db: zeolite.Database, field: str, value: Any) -> None:
    good: dict[str, Any] = {"title": "Home", "body": "", "written": NOW}
    with pytest.raises(errors.BadValue, match=f"field {field}"):
        Page(**{**good, field: value})
    page = add(db, "Home")
    with pytest.raises(errors.BadValue, match=f"field {field}"), db.transaction() as tx:
        setattr(tx.get(page), field, value)


def test_fields_are_those_of_the_class() -> None:
    with pytest.raises(errors.BadValue, match="needs body"):
        Page(title="Home")
    with pytest.raises(errors.BadValue, match="no field colour"):
        Page(title="Home", body="", written=NOW, colour="red")
    with pytest.raises(AttributeError, match="colour"):
        Page(title="Home", body="", written=NOW).colour = "red"  # type: ignore[attr-defined]
    with pytest.raises(errors.BadValue, match="cannot be stored"):

        class Bad(zeolite.Object, cls="t.Bad"):
            thread: threading.Thread

        Bad(thread=threading.current_thread())


def test_a_conflict_repeats_the_decorated_function_and_is_named_in_a_with(db: zeolite.Database) -> None:
    page, attempts = add(db, "Home"), []

    @db.transaction()
    def longer(tx: zeolite.Transaction) -> str:
        here = tx.get(page)
        attempts.append(here.body)
        if len(attempts) == 1:
            other = threading.Thread(target=in_between)
            other.start()
            other.join()
        here.body += "!"
        return here.body

    def in_between() -> None:
        with db.transaction() as tx:
            tx.get(page).body = "between"

    assert longer() == "between!"
    assert attempts == ["", "between"]
    with pytest.raises(errors.Conflict) as caught, db.transaction() as tx:
        tx.get(page).body = "mine"
        other = threading.Thread(target=in_between)
        other.start()
        other.join()
    assert caught.value.class_name == "wiki.Page" and caught.value.oid == page._z_oid
    once = db.transaction(attempts=1)(longer.__wrapped__)  # type: ignore[attr-defined]
    attempts.clear()
    with pytest.raises(errors.Conflict):
        once()


def test_what_is_raised_gives_everything_up(db: zeolite.Database) -> None:
    page = Page(title="Home", body="", written=NOW)

    @db.transaction()
    def fails(tx: zeolite.Transaction) -> None:
        tx.create(page)
        tx.root.unique("titles", Page)["Home"] = page
        page.hits += 1
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        fails()
    # The page is as new as it was, with its counter.
    with db.transaction() as tx:
        assert list(tx.root) == []
        tx.root["home"] = tx.create(page)
    with db.snapshot() as now:
        assert now.root.get("home", Page).hits.value == 0  # type: ignore[union-attr]


def test_a_key_is_taken_once(db: zeolite.Database) -> None:
    page = add(db, "Home")
    with pytest.raises(KeyError, match="'Home' is taken"):
        add(db, "Home")
    with db.transaction() as tx:
        tx.root.unique("titles", Page)["Home"] = tx.get(page)
        numbers = tx.root.unique("numbers", int)
        numbers["a"] = 1
        with pytest.raises(errors.Taken):
            numbers["a"] = 1
        numbers.replace("a", 2)
        assert numbers["a"] == 2


def test_many_threads_count_exactly_without_a_conflict(db: zeolite.Database) -> None:
    page = add(db, "Home")
    attempts: list[int] = []

    @db.transaction()
    def hit(tx: zeolite.Transaction, number: int) -> None:
        attempts.append(number)
        here = tx.get(page)
        here.hits += 1
        here.remarks.append(f"remark {number}")

    threads = [threading.Thread(target=lambda first=first: [hit(first * 10 + one) for one in range(10)]) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(attempts) == 160
    with db.snapshot() as now:
        here = now.get(page)
        assert here.hits.value == 160 == len(here.remarks)
        assert sorted(here.remarks) == sorted(f"remark {number}" for number in range(160))


def test_values_that_change_in_place_are_written_and_others_are_not(db: zeolite.Database) -> None:
    page = add(db, "Home", tags=["a"])
    with db.transaction() as tx:
        here = tx.get(page)
        here.tags.append("b")
        here.place.row = 4
    with db.transaction() as tx:
        here = tx.get(page)
        assert here.tags == ["a", "b"] and here.place.row == 4
    assert tx.committed == tx.tid, "nothing was written, so nothing was sent"


def test_snapshots(db: zeolite.Database, server: Server) -> None:
    page = add(db, "Home")
    before = datetime.now(timezone.utc)
    with db.snapshot() as old:
        with db.transaction() as tx:
            tx.get(page).body = "new"
        assert old.get(page).body == ""
        with pytest.raises(errors.FixRequest, match="only read"):
            old.get(page).body = "x"
        with pytest.raises(errors.FixRequest, match="only read"):
            old.get(page).hits += 1
        with pytest.raises(errors.FixRequest, match="only read"):
            old.root.map("none", int)["a"] = 1
        assert list(old.root.map("none", int).items()) == []
        at = old.tid
    with pytest.raises(errors.Over):
        old.root.unique("titles")["Home"]
    with db.snapshot(at) as again, db.snapshot(before) as then, db.snapshot(timedelta(days=1)) as yesterday:
        assert (again.get(page).body, then.get(page).body) == ("", "")
        assert list(yesterday.root) == []
        with pytest.raises(errors.NotFound):
            yesterday.get(page)
    with db.snapshot(before + timedelta(days=1)) as tomorrow:
        assert tomorrow.get(page).body == "new"
    with pytest.raises(errors.BadValue, match="no age"):
        db.snapshot("yesterday")


def test_versions(db: zeolite.Database) -> None:
    class One(zeolite.Object, cls="t.Versioned", version=1):
        name: str
        hits: zeolite.Counter

    class Three(zeolite.Object, cls="t.Versioned", version=3):
        first: str
        last: str
        hits: zeolite.Counter
        notes: zeolite.List[str]

        @zeolite.upgrade(1)
        @staticmethod
        def _one(old: dict[str, Any]) -> dict[str, Any]:
            first, _, last = old.pop("name").partition(" ")
            return {**old, "given": first, "last": last}

        @zeolite.upgrade(2)
        def _two(old) -> Any:  # type: ignore[no-untyped-def]
            return {"first": old.pop("given"), **old}

    with db.transaction() as tx:
        one = tx.create(One(name="Ada Lovelace"))
        tx.root["ada"] = one
        one.hits += 3
    oid = one._z_oid
    assert oid is not None
    with db.snapshot() as now:
        three = now.get(Three, oid)
        assert (three.first, three.last, three.hits.value, list(three.notes)) == ("Ada", "Lovelace", 3, [])
    assert ("t.Versioned", 1, 1) in db._native.kinds()
    with db.transaction() as tx:
        tx.get(Three, oid).notes.append("a programmer")
    assert ("t.Versioned", 3, 1) in db._native.kinds()
    with db.snapshot() as now:
        assert list(now.get(Three, oid).notes) == ["a programmer"]
        with pytest.raises(errors.NewerVersion, match="newer version"):
            db.snapshot().get(One, oid)

    class Five(zeolite.Object, cls="t.Versioned", version=5):
        first: str

        @zeolite.upgrade(4)
        def _four(old) -> Any:  # type: ignore[no-untyped-def]
            return old

    with pytest.raises(errors.NoUpgrade, match="from version 3"):
        db.snapshot().get(Five, oid)


def test_what_a_class_does_not_know_is_kept(db: zeolite.Database) -> None:
    class Wide(zeolite.Object, cls="t.Wide"):
        name: str
        friend: Wide | None

    class Narrow(zeolite.Object, cls="t.Wide"):
        name: str

    with db.transaction() as tx:
        friend = tx.create(Wide(name="Grace", friend=None))
        tx.root["ada"] = ada = tx.create(Wide(name="Ada", friend=friend))
    assert ada._z_oid is not None and friend._z_oid is not None
    with db.transaction() as tx:
        tx.get(Narrow, ada._z_oid).name = "Ada L."
    with db.snapshot() as now:
        again = now.get(Wide, ada._z_oid)
        assert again.name == "Ada L." and again.friend is not None and again.friend.name == "Grace"
        # In the record's header as well: a pack leaves the friend alone.
        assert header(now, ada._z_oid) == [friend._z_oid]


def header(space: zeolite.Space, oid: int, key: bytes = b"") -> list[int]:
    """What a record says that it refers to."""
    record = space.get_record(oid, key)
    assert record is not None
    return sorted(record[2])


def test_every_reference_is_in_a_header(db: zeolite.Database) -> None:
    @dataclass
    class Pair:
        one: Page
        other: Page | None

    class Holder(zeolite.Object, cls="t.Holder"):
        deep: dict[str, list[Page]]
        pair: Pair
        hits: zeolite.Counter

    with db.transaction() as tx:
        a, b, c = (tx.create(Page(title=title, body="", written=NOW)) for title in "abc")
        tx.root["holder"] = holder = tx.create(Holder(deep={"x": [a, b]}, pair=Pair(c, None)))
        tx.root.map("map", Page, Page)[a] = b
        tx.root.open("deep", zeolite.Map[str, list[Page]])["x"] = [a, c]
        tx.root.set("set", tuple[str, Page]).add(("x", a))
        tx.root.index("index", Page, Page).add(a, b)
        tx.root.unique("unique", Page)["x"] = c
        tx.root.list("list", Page).append(a)
        tx.root.queue("queue", Page).push(b)
    first, second, third, here = (obj._z_oid or 0 for obj in (a, b, c, holder))
    with db.snapshot() as now:
        hits = now.get(Holder, here).hits._z_oid or 0
        assert header(now, here) == sorted([first, second, third, hits])
        expected = {
            "map": [first, second], "deep": [first, third], "set": [first], "index": [first, second], "unique": [third], "list": [first],
            "queue": [second],
        }  # fmt: skip
        for name, refs in expected.items():
            (oid,) = header(now, 0, name.encode())
            page, _ = now.page(oid, b"", None, False, True, None)
            assert header(now, oid, page[0][0]) == sorted(refs), name
        assert list(now.root.map("map", Page, Page).items()) == [(now.get(a), now.get(b))]
        assert now.root.queue("queue", Page).peek()[0].title == "b"


def test_objects_are_found_by_what_refers_to_them(db: zeolite.Database) -> None:
    """An object that is new, and only referred to, gets its place with the commit."""
    with db.transaction() as tx:
        tx.root["leaf"] = Page(title="Leaf", body="", written=NOW, parent=Page(title="Top", body="", written=NOW))
    with db.snapshot() as now:
        leaf = now.root.get("leaf", Page)
        assert leaf is not None and leaf.parent is not None and leaf.parent.title == "Top"
        assert now.load([leaf, leaf.parent]) == [leaf, leaf.parent]
    with db.transaction() as tx:
        leaf = tx.root.get("leaf", Page)
        assert leaf is not None and leaf.parent is not None
        tx.delete(leaf.parent)
        with pytest.raises(errors.FixRequest, match="deleted"):
            leaf.parent.title = "x"
    with db.snapshot() as now, pytest.raises(errors.NotFound):
        leaf = now.root.get("leaf", Page)
        assert leaf is not None and leaf.parent is not None
        leaf.parent.title


def test_one_transaction_of_a_thread(db: zeolite.Database) -> None:
    page = add(db, "Home")
    with db.transaction() as tx:
        here, raised = tx.get(page), []
        with pytest.raises(errors.Nested, match="hand that one on"):
            add(db, "Other")

        def elsewhere(use: Any) -> None:
            try:
                use()
            except errors.WrongThread as error:
                raised.append(error)

        def write() -> None:
            here.body = "x"

        for use in (write, lambda: tx.root.unique("titles")["Home"], lambda: here.hits.value, lambda: tx.create(page)):
            thread = threading.Thread(target=elsewhere, args=(use,))
            thread.start()
            thread.join()
        assert len(raised) == 4
    with pytest.raises(errors.Over, match="begin a new one"):
        here.body = "late"
    assert here.body == ""
    with pytest.raises(errors.FixRequest, match="another transaction"), db.transaction() as tx:
        tx.delete(here)


def test_the_time_of_a_transaction(db: zeolite.Database) -> None:
    page, attempts = add(db, "Home"), []

    @db.transaction(deadline=0.2)
    def never(tx: zeolite.Transaction) -> None:
        attempts.append(1)
        raise errors.Conflict("as if another one were in the way")

    with pytest.raises(errors.Deadline, match="attempts"):
        never()
    assert len(attempts) > 1
    passed = threading.Event()
    with pytest.raises(errors.Deadline, match="longer than"), db.transaction(deadline=0.01) as tx:
        tx.get(page).body = "late"
        passed.wait(0.05)
    with db.snapshot() as now:
        assert now.get(page).body == ""


def test_what_a_serializable_transaction_has_read_holds(db: zeolite.Database) -> None:
    first, second = add(db, "One"), add(db, "Two")
    with pytest.raises(errors.Conflict, match="read"), db.transaction(serializable=True) as tx:
        assert tx.get(first).body == ""
        tx.get(second).body = "since the first one is empty"

        def other() -> None:
            with db.transaction() as mine:
                mine.get(first).body = "full"

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()


def test_collections(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        page = tx.create(Page(title="Home", body="", written=NOW))
        numbers = tx.root.map("numbers", int)
        for word in ("b", "a", "ba", "c"):
            numbers[word] = len(word)
        tags = tx.root.set("tags")
        for word in ("x", "y"):
            tags.add(word)
        tags.discard("y")
        authors = tx.root.index("authors", Page, tuple[str, int])
        authors.add(("ada", 1), page)
        authors.add(("ada", -1), page)
        authors.add(("bob", 0), page)
        authors.discard(("bob", 0), page)
        with pytest.raises(errors.BadValue):
            numbers["a"] = "text"  # type: ignore[assignment]
    with db.transaction() as tx:
        numbers = tx.root.map("numbers", int)
        assert list(numbers) == ["a", "b", "ba", "c"]
        assert dict(numbers.items(prefix="b")) == {"b": 1, "ba": 2}
        assert list(numbers.keys("b", "c")) == ["b", "ba"] and list(numbers.keys(reverse=True, limit=2)) == ["c", "ba"]
        assert len(numbers) == 4 and numbers.pop("c") == 1 and numbers.pop("c") is None and "c" not in numbers
        assert numbers.get("c") is None and numbers.get("c", 5) == 5
        with pytest.raises(KeyError):
            numbers["c"]
        with pytest.raises(KeyError):
            del numbers["c"]
        assert list(tx.root.set("tags")) == ["x"] and "x" in tx.root.set("tags") and bool(tx.root.set("tags"))
        authors = tx.root.index("authors", Page, tuple[str, int])
        assert [key for key, _ in authors.between()] == [("ada", -1), ("ada", 1)]
        assert [found.title for found in authors.find(("ada", 1))] == ["Home"]
        queue = tx.root.queue("jobs", int)
        queue.push(1)
        queue.push(2)
    with db.transaction() as tx:
        assert (tx.root.queue("jobs", int).take(1), tx.root.queue("jobs", int).peek(5)) == ([1], [2])
        lines = tx.root.list("lines")
        lines.append("a")
        lines.append("b")
        assert list(lines) == ["a", "b"] == lines.newest(2)[::-1] and len(lines) == 2
    with db.transaction() as tx:
        lines = tx.root.list("lines")
        (key, _), _ = lines.items()
        lines.replace(key, "A")
        lines.append("c")
        assert list(lines) == ["A", "b", "c"] and lines.newest(2) == ["c", "b"]
        with pytest.raises(errors.WrongClass):
            tx.root.map("lines")
        with pytest.raises(errors.WrongClass):
            tx.root["lines"]
        with pytest.raises(errors.Undecodable, match="open it with the types"):
            list(tx.root.map("numbers", dict[str, str]).values())


def test_a_map_of_more_than_a_page_is_walked_to_its_end(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        numbers = tx.root.map("numbers", str, int)
        for number in range(5000):
            numbers[number] = "x" * 500
    with db.snapshot() as now:
        numbers = now.root.map("numbers", str, int)
        assert list(numbers) == list(range(5000)) and len(numbers) == 5000
        assert [key for key, _ in numbers.items(reverse=True)] == list(range(4999, -1, -1))


def test_what_is_finer_than_python_knows_stays_until_it_is_assigned(db: zeolite.Database) -> None:
    class Text(zeolite.Object, cls="t.Moment"):
        when: str
        name: str
        more: list[str]

    class Moment(zeolite.Object, cls="t.Moment"):
        when: datetime
        name: str
        more: list[datetime]

    fine = "2026-11-30T12:00:00.123456789Z"
    with db.transaction() as tx:
        tx.root["it"] = made = tx.create(Text(when=fine, name="a", more=[fine]))
    assert made._z_oid is not None
    with db.transaction() as tx:
        moment = tx.get(Moment, made._z_oid)
        assert moment.when.microsecond == 123456 == moment.more[0].microsecond
        moment.name = "b"
    with db.snapshot() as now:
        text = now.get(Text, made._z_oid)
        assert (text.when, text.name, text.more) == (fine, "b", [fine])
    with db.transaction() as tx:
        moment = tx.get(Moment, made._z_oid)
        moment.when = moment.when.replace(microsecond=1)
        moment.more.append(NOW)
    with db.snapshot() as now:
        text = now.get(Text, made._z_oid)
        assert (text.when, len(text.more)) == ("2026-11-30T12:00:00.000001Z", 2)


def test_nothing_as_a_value_has_its_key(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        names = tx.root.open("names", zeolite.Unique[str, int | None])
        names["a"] = None
        with pytest.raises(errors.Taken):
            names["a"] = 1
        sizes = tx.root.open("sizes", zeolite.Map[str, int | None])
        sizes["a"] = None
        assert "a" in sizes and sizes.pop("a", 5) is None and "a" not in sizes


def test_what_is_missing_deleted_or_of_another_class_is_told(db: zeolite.Database) -> None:
    class Before(zeolite.Object, cls="test.Grows"):
        name: str

    with db.transaction() as tx:
        tx.root["grows"] = tx.create(Before(name="a"))

    class Grown(zeolite.Object, cls="test.Grows"):
        name: str
        size: int

    with db.transaction() as tx:
        grown = tx.root.get("grows", Grown)
        assert grown is not None
        with pytest.raises(errors.Undecodable, match="has no size"):
            _ = grown.size

    class Tagged(zeolite.Object, cls="test.Tagged"):
        tags: list[str]

    with db.transaction() as tx:
        tagged = tx.root["tagged"] = tx.create(Tagged(tags=[]))
    with db.transaction() as tx:
        again = tx.get(tagged)
        again.tags.append("a")
        tx.delete(again)
        again.tags.append("b")
    with db.transaction(fresh=True) as tx, pytest.raises(errors.NotFound):
        _ = tx.get(tagged).tags


def test_a_dataclass_below_the_one_of_a_field_is_refused() -> None:
    @dataclass
    class Point:
        x: int

    @dataclass
    class Deep(Point):
        z: int = 0

    class Placed(zeolite.Object, cls="test.Placed"):
        at: Point

    with pytest.raises(errors.BadValue):
        Placed(at=Deep(1, 2))
    assert Placed(at=Point(1)).at == Point(1)


def test_a_new_object_is_a_member_of_a_set(db: zeolite.Database) -> None:
    class Thing(zeolite.Object, cls="test.Thing"):
        name: str

    with db.transaction() as tx:
        things = tx.root.set("things", Thing)
        things.add(tx.create(Thing(name="a")))
        things.add(Thing(name="b"))
    with db.transaction(fresh=True) as tx:
        assert sorted(thing.name for thing in tx.root.set("things", Thing)) == ["a", "b"]
