"""The keys of kept indexes: when they are worked out, which are refused, and where those of before names told their kind are."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Annotated

import pytest
from serving import Server

import zeolite
from zeolite import errors

#: Of an entry's key; an index of many has the object in it as well, and closes a text by two bytes.
LONGEST = 1024
LONGEST_OF_MANY = LONGEST - 8 - 2


class Doc(zeolite.Object, cls="kept.Doc"):
    name: str
    tags: list[str] = []
    above: Doc | None = None

    @zeolite.indexed_by(str)
    def tagged(self) -> list[str]:
        asked.append(self._z_oid or 0)
        above = [] if self.above is None else [f"in {self.above.name}"]
        return above + [tag.upper() for tag in self.tags]


#: The objects whose keys somebody has asked for.
asked: list[int] = []


class Named(zeolite.Object, cls="kept.Named"):
    name: Annotated[str, zeolite.unique]
    place: Annotated[str, zeolite.indexed] = ""


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address) as opened:
        yield opened


def tags(space: zeolite.Space) -> list[tuple[str, str]]:
    return sorted((tag, doc.name) for tag, doc in space.index(Doc, "tagged").between())


def test_who_reads_works_out_no_keys_and_holds_nothing(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        above = tx.create(Doc(name="above"))
        oids = [tx.create(Doc(name=f"d{number}", tags=["x"], above=above))._z_oid or 0 for number in range(50)]
    asked.clear()
    for space in (db.transaction(), db.snapshot()):
        with space as reading:
            read = [weakref.ref(reading.get(Doc, oid)) for oid in oids]
            gc.collect()
            assert [one for one in read if one() is not None] == []
    assert asked == []
    with db.transaction() as tx:
        first, second, third = (tx.get(Doc, oid) for oid in oids[:3])
        first.tags.append("y")
        second.tags = ["z"]
        tx.flush()
        assert {id(one) for one in tx._looked.values()} <= {id(first), id(second)}, "those as they were read are held by nobody"
        tx.delete(third)
    assert set(asked) == set(oids[:3])
    with db.snapshot() as now:
        left = [("X", f"d{number}") for number in range(50) if number not in (1, 2)] + [("Y", "d0"), ("Z", "d1")]
        assert tags(now) == sorted(left + [("in above", f"d{number}") for number in range(50) if number != 2])


def test_what_a_method_raises_is_told_when_the_object_is_written(db: zeolite.Database) -> None:
    class Before(zeolite.Object, cls="kept.Raises", indexes=["parts"]):
        text: str

    class Raises(zeolite.Object, cls="kept.Raises"):
        text: str

        @zeolite.indexed_by(str)
        def parts(self) -> list[str]:
            return [self.text.split(":")[1]]

    with db.transaction() as tx:
        oid = tx.create(Before(text="one"))._z_oid or 0
    told = f"class 'kept.Raises', index 'parts', object {oid:x}: what gives its keys raised IndexError"
    with db.snapshot() as now:
        assert now.get(Raises, oid).text == "one"
    with db.transaction() as tx:
        assert tx.get(Raises, oid).text == "one"
    with pytest.raises(errors.BadValue, match=told), db.transaction() as tx:
        tx.get(Raises, oid).text = "one:two"
    with pytest.raises(errors.BadValue, match=told), db.transaction() as tx:
        tx.delete(tx.get(Raises, oid))
    with pytest.raises(errors.BadValue, match="index 'parts', object"), db.transaction() as tx:
        tx.create(Raises(text="new"))


def test_what_is_no_key_is_told_with_its_index(db: zeolite.Database) -> None:
    class Wrong(zeolite.Object, cls="kept.Wrong"):
        text: str

        @zeolite.indexed_by(int)
        def sizes(self) -> list[object]:
            return [self.text]

    with pytest.raises(errors.BadValue, match="class 'kept.Wrong', index 'sizes', object .*'a' is no i64"), db.transaction() as tx:
        tx.create(Wrong(text="a"))


def test_an_index_of_a_part_of_a_type_is_refused_by_the_class() -> None:
    with pytest.raises(errors.BadValue, match=r"write Annotated\[str \| None, zeolite.unique\]"):

        class Optional(zeolite.Object, cls="kept.Optional"):
            mail: Annotated[str, zeolite.unique] | None = None

    with pytest.raises(errors.BadValue, match=r"stands within a type: write a method with zeolite.indexed_by"):

        class Many(zeolite.Object, cls="kept.Many"):
            mails: list[Annotated[str, zeolite.indexed]] = []

    class Good(zeolite.Object, cls="kept.Good"):
        mail: Annotated[str | None, zeolite.unique] = None

    assert [kept.name for kept in Good._z_kept_indexes()] == ["unique:mail(text?)"]


def test_a_key_that_is_too_long_is_refused_and_was_never_there(db: zeolite.Database) -> None:
    class Short(zeolite.Object, cls="kept.Named", version=2):
        name: Annotated[str, zeolite.unique]
        place: Annotated[str, zeolite.indexed] = ""

        @zeolite.upgrade(1)
        @staticmethod
        def _one(old: dict[str, str]) -> dict[str, str]:
            return {name: text[:10] for name, text in old.items()}

    class Without(zeolite.Object, cls="kept.Named", indexes=["unique:name", "place"]):
        name: str
        place: str

    with db.transaction() as tx:
        fits = tx.create(Named(name="n" * LONGEST, place="p" * LONGEST_OF_MANY))
        long = tx.create(Without(name="m" * (LONGEST + 1), place="q" * (LONGEST_OF_MANY + 1)))
    for changed in ({"name": "n" * (LONGEST + 1)}, {"name": "b", "place": "p" * (LONGEST_OF_MANY + 1)}):
        index = "place" if "place" in changed else "unique:name"
        with pytest.raises(errors.BadValue, match=f"class 'kept.Named', index '{index}', object .* 1025 bytes.*shorten"), db.transaction() as tx:
            tx.create(Named(**changed))
    with db.transaction() as tx:
        named = tx.get(Named, long._z_oid or 0)
        named.name, named.place = "short", "here"
        tx.create(Without(name="o" * (LONGEST + 1), place=""))
        other = tx.create(Without(name="p" * (LONGEST + 1), place="q" * (LONGEST_OF_MANY + 1)))
    with db.transaction(fresh=True) as tx:
        assert sorted(tx.unique(Named, "name").keys()) == sorted(["n" * LONGEST, "short"])
        assert [one._z_oid for one in tx.index(Named, "place").find("p" * LONGEST_OF_MANY)] == [fits._z_oid]
        tx.get(Short, other._z_oid or 0).place = "there"
    with db.snapshot() as now:
        assert sorted(now.unique(Short, "name").keys()) == sorted(["n" * LONGEST, "short", "p" * 10])


def test_who_goes_on_after_a_key_was_taken_has_all_entries(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        tx.create(Named(name="a", place="x"))
        oid = tx.create(Named(name="b", place="y"))._z_oid or 0
    with db.transaction() as tx:
        named = tx.get(Named, oid)
        named.name, named.place = "a", "z"
        with pytest.raises(errors.Taken):
            tx.flush()
        with pytest.raises(errors.Taken):
            tx.flush()
        named.name, named.place = "b", "y"
    with db.snapshot() as now:
        assert {name: one.place for name, one in now.unique(Named, "name").items()} == {"a": "x", "b": "y"}
        assert [(place, one.name) for place, one in now.index(Named, "place").between()] == [("x", "a"), ("y", "b")]


class Before(zeolite.Object, cls="t.Num", indexes=["length", "unique:size"]):
    length: int
    size: int


class Num(zeolite.Object, cls="t.Num"):
    length: Annotated[zeolite.U64, zeolite.indexed]
    size: Annotated[zeolite.U64, zeolite.unique]


def test_an_index_of_before_names_told_the_kind_is_read_and_written(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        old = tx.create(Before(length=4, size=40))
        tx.root.open("t.Num:length", zeolite.Index[zeolite.U64, Before]).add(4, old)
        tx.root.open("t.Num:unique:size", zeolite.Unique[zeolite.U64, Before])[40] = old
    with db.transaction(fresh=True) as tx:
        assert [one.size for one in tx.index(Num, "length").find(4)] == [40]
        num = tx.unique(Num, "size")[40]
        num.length = 5
        tx.create(Num(length=6, size=60))
        assert [length for length, _ in tx.index(Num, "length").between()] == [5, 6]
    with pytest.raises(errors.Taken), db.transaction() as tx:
        tx.create(Num(length=1, size=60))
    with db.snapshot() as now:
        assert [name for name in now.root if name.startswith("t.Num")] == ["t.Num:length", "t.Num:unique:size"]
        assert [size for size, _ in now.unique(Num, "size").items()] == [40, 60]


def test_one_of_text_by_that_name_is_left_alone(db: zeolite.Database) -> None:
    class Said(zeolite.Object, cls="t.Num", indexes=["length"]):
        length: Annotated[zeolite.U64, zeolite.indexed]
        size: Annotated[zeolite.U64, zeolite.unique]

    with db.transaction() as tx:
        old = tx.create(Before(length=4, size=40))
        tx.root.open("t.Num:length", zeolite.Index[str, Before]).add("long", old)
    with pytest.raises(errors.KeptElsewhere, match=r"indexes=\['length'\]"), db.transaction(fresh=True) as tx:
        tx.create(Num(length=6, size=60))
    with db.transaction(fresh=True) as tx:
        tx.create(Said(length=6, size=60))
    with db.snapshot() as now:
        assert [length for length, _ in now.index(Said, "length").between()] == [6]
        assert [key for key, _ in now.root.open("t.Num:length", zeolite.Index[str, Before]).between()] == ["long"]
    # That of the new name is there now: the other one is nobody's.
    with pytest.raises(errors.KeptElsewhere, match=r"does not know \(length\)"), db.transaction(fresh=True) as tx:
        tx.create(Num(length=7, size=70))


class Plain(zeolite.Object, cls="kept.Named", indexes=["unique:name", "place"]):
    """Whoever writes it so keeps no index."""

    name: str
    place: str = ""


class Later(zeolite.Object, cls="kept.Named", version=2, indexes=["unique:name", "place"]):
    name: str


def named(tx: zeolite.Space, name: str) -> int:
    return tx.unique(Named, "name")[name]._z_oid or 0


def test_a_key_whose_object_does_not_have_it_any_more_is_taken_over(server: Server, db: zeolite.Database) -> None:
    with db.transaction() as tx:
        oids = [tx.create(Named(name=name))._z_oid or 0 for name in ("moved", "gone", "other", "mine")]
    with db.transaction(fresh=True) as tx:
        tx.get(Plain, oids[0]).name = "elsewhere"
        tx.delete(tx.get(Plain, oids[1]))
    with db.transaction(fresh=True) as tx:
        takers = {name: tx.create(Named(name=name))._z_oid or 0 for name in ("moved", "gone")}
    with db.snapshot() as now:
        assert {name: named(now, name) for name in takers} == takers
    with pytest.raises(errors.Taken, match="that of object"), db.transaction(fresh=True) as tx:
        tx.create(Named(name="mine"))
    # Of who takes a key, and an owner that comes back to it meanwhile, one is told.
    with db.transaction(fresh=True) as tx:
        tx.get(Plain, oids[3]).name = "not mine"
    with zeolite.connect(server.address) as other:
        with pytest.raises(errors.Conflict), db.transaction(fresh=True) as tx:
            tx.create(Named(name="mine"))
            tx.flush()
            with other.transaction(fresh=True) as their:
                their.get(Plain, oids[3]).name = "mine"
    with pytest.raises(errors.Taken, match="that of object"), db.transaction(fresh=True) as tx:
        tx.create(Named(name="mine"))


def test_a_key_of_what_cannot_be_read_stays_taken_and_the_error_says_so(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        oid = tx.create(Named(name="later"))._z_oid or 0
    with db.transaction(fresh=True) as tx:
        later = tx.create(Later(name="x"))
        tx.flush()
        tx._native.put(oid, b"", *later._z_record(tx))
    told = "cannot be told here .*deploy the release that wrote it, or choose another key"
    with pytest.raises(errors.Taken, match=told), db.transaction(fresh=True) as tx:
        tx.create(Named(name="later"))


def test_a_version_without_a_class_here_leaves_no_entry_in_an_index_of_one_in_between(db: zeolite.Database) -> None:
    class First(zeolite.Object, cls="kept.Gap"):
        shelf: Annotated[str, zeolite.indexed]

    class Second(zeolite.Object, cls="kept.Gap", version=2):
        shelf: Annotated[str, zeolite.indexed]

        @zeolite.upgrade(1)
        @staticmethod
        def _1(old: dict[str, str]) -> dict[str, str]:
            return {"shelf": old["shelf"].upper()}

    class Third(zeolite.Object, cls="kept.Gap", version=3, former=Second):
        shelf: str

        @zeolite.upgrade(2)
        @staticmethod
        def _2(old: dict[str, str]) -> dict[str, str]:
            return old

    with db.transaction() as tx:
        oid = tx.create(First(shelf="a"))._z_oid or 0
    with db.transaction(fresh=True) as tx:
        tx.get(Third, oid).shelf = "b"
    with db.snapshot() as now:
        assert list(now.index(First, "shelf").between()) == []


def test_the_bare_name_is_that_of_the_version_that_was_before_others() -> None:
    class Number(zeolite.Object, cls="kept.Turn"):
        size: Annotated[zeolite.U64, zeolite.indexed]

    class Text(zeolite.Object, cls="kept.Turn", version=2, former=Number):
        size: Annotated[str, zeolite.indexed]

    class Neither(zeolite.Object, cls="kept.Turn", version=3, former=Text):
        size: str

    declared = {kept.label: kept.declared(Neither) for kept in Neither._z_all_indexes()}
    assert declared == {"u64": ("size", False, "u64", False), "text": ("size", False, "text", True)}
