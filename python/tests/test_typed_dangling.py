"""References that lead nowhere: what a record's header does not name, what was deleted, and entries of another type than is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from serving import Server

import zeolite
from zeolite import errors
from zeolite.typed.encoding import dumped


class Leaf(zeolite.Object, cls="dangling.Leaf"):
    name: str
    twin: Leaf | None = None
    leaves: list[Leaf] = []
    hits: zeolite.Counter
    words: zeolite.Set[str]
    lines: zeolite.List[str]


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address) as opened:
        with opened.transaction() as tx:
            tx.root["leaf"] = leaf = Leaf(name="a")
            leaf.hits += 5
        yield opened


def written(db: zeolite.Database, refs: list[int], **fields: Any) -> None:
    """As a careless program writes the object: the header names what it is told to."""
    with db.transaction(fresh=True) as tx:
        leaf = tx.root["leaf"]
        tx._native.put(leaf._z_oid, b"", "dangling.Leaf", 1, refs, [], dumped({"name": "a", **fields}))


@pytest.mark.parametrize("field", ["twin", "leaves", "hits", "words"])
def test_a_reference_that_the_header_does_not_name_is_told(db: zeolite.Database, field: str) -> None:
    with db.snapshot() as now:
        hits = now.root["leaf"].hits._z_oid
    written(db, [], **{field: [hits] if field == "leaves" else hits})
    with db.transaction(fresh=True) as tx:
        told = f"field {field} of dangling.Leaf .*: it refers to {hits:x}, which the header of the record does not name"
        with pytest.raises(errors.Undecodable, match=told):
            _ = tx.root["leaf"].name
        tx.rollback()
    written(db, [hits], **{field: "text"})
    with db.snapshot() as now, pytest.raises(errors.Undecodable, match=f"field {field} of "):
        _ = now.root["leaf"].name


def test_what_somebody_has_deleted_is_told_and_is_no_zero(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        leaf = tx.root["leaf"]
        for collection in (leaf.hits, leaf.words, leaf.lines):
            tx._native.delete(collection._z_oid, b"")
        leaf.twin = gone = Leaf(name="gone")
        tx.root.map("map", int)["a"] = 1
    with db.transaction(fresh=True) as tx:
        tx._native.delete(gone._z_oid or 0, b"")
        tx._native.delete(tx.root.map("map", int)._z_oid or 0, b"")
        del tx.root.map("map", int)["a"]
    with db.snapshot() as now:
        leaf = now.root["leaf"]
        names = now.root.map("map", int)
        looks: list[Any] = [
            lambda: leaf.hits.value, lambda: list(leaf.words), lambda: "a" in leaf.words, lambda: len(leaf.lines), lambda: leaf.twin.name,
            lambda: names.get("a"), lambda: bool(names), lambda: leaf.lines.newest(3),
        ]  # fmt: skip
        for look in looks:
            with pytest.raises(errors.NotFound, match="deleted"):
                look()


def test_what_was_never_written_to_is_empty(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        leaf = tx.create(Leaf(name="new"))
        assert (leaf.hits.value, list(leaf.words), "a" in leaf.words, list(leaf.lines)) == (0, [], False, [])
        tx.root["new"] = leaf
    written(db, [])  # without its collections: they are made anew
    with db.transaction(fresh=True) as tx:
        for leaf in (tx.root["new"], tx.root["leaf"]):
            assert (leaf.hits.value, list(leaf.words), "a" in leaf.words, list(leaf.lines)) == (0, [], False, [])
            leaf.hits += 1
    with db.snapshot() as now:
        assert [now.root[name].hits.value for name in ("leaf", "new")] == [1, 1]


def test_entries_of_objects_are_no_numbers_and_numbers_no_objects(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        leaf = tx.root["leaf"]
        tx.root.map("leaves", Leaf)["a"] = leaf
        tx.root.map("sizes", int)["a"] = leaf._z_oid
        tx.root.list("lines", Leaf).append(leaf)
        tx.root.map("by leaf", int, Leaf)[leaf] = 7
    with db.snapshot() as now:
        looks: list[Any] = [
            lambda: now.root.map("leaves", int)["a"], lambda: list(now.root.map("leaves", int).items()),
            lambda: list(now.root.list("lines", int)),
        ]  # fmt: skip
        for look in looks:
            with pytest.raises(errors.Undecodable, match="it refers to objects; open it with the types that it was made with"):
                look()
        with pytest.raises(errors.Undecodable, match="the header of the record does not name"):
            _ = now.root.map("sizes", Leaf)["a"]
        assert [leaf.name for leaf in now.root.map("leaves", Leaf).values()] == ["a"]
        assert list(now.root.map("by leaf", int, Leaf).values()) == [7]


def test_a_name_that_the_header_does_not_keep_is_told(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        record = tx.get_record(0, b"leaf")
        assert record is not None
        tx._native.put(0, b"leaf", "zeolite.Entry", 1, [], [], record[4])
    with db.snapshot() as now, pytest.raises(errors.Undecodable, match="the name 'leaf': it refers to .*, which the header"):
        _ = now.root["leaf"]
