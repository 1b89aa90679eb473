"""What a program gives that cannot be stored, or means nothing: it is refused where it is given, with a word that says what to do."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from serving import Server

import zeolite
from zeolite import errors


class Thing(zeolite.Object, cls="refused.Thing"):
    name: str = ""
    whatever: Any = None
    many: list[Any] = []
    real: float = 0.0
    when: datetime | None = None
    other: Thing | None = None
    by: dict[str, str] = {}
    hits: zeolite.Counter
    words: zeolite.Set[str]


@pytest.fixture
def db(server: Server) -> Iterator[zeolite.Database]:
    with zeolite.connect(server.address) as opened:
        with opened.transaction() as tx:
            tx.root["thing"] = Thing(name="first")
        yield opened


def nested(depth: int, make: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    value: Any = make(1)
    for _ in range(depth - 1):
        value = make(value)
    return value


def test_what_is_nested_too_deep_is_refused_before_it_is_written(db: zeolite.Database) -> None:
    within: list[Any] = []
    within.append(within)
    wide: list[Any] = []
    for _ in range(60):
        wide = [wide, wide]
    for value in (nested(200_000), nested(399 + 1), within, {"a": {"b": within}}, nested(250, lambda inner: frozenset([inner])), wide):
        with pytest.raises(errors.BadValue, match="field whatever: it (is nested more than 399 deep|has more than)"):
            Thing(whatever=value)
    with db.transaction() as tx:
        thing = tx.root.get("thing", Thing)
        assert thing is not None
        for field, value in (("whatever", nested(399)), ("many", nested(398))):
            setattr(thing, field, value)
        with pytest.raises(errors.BadValue, match="field many: it is nested more"):
            thing.many = nested(400)
        with pytest.raises(errors.BadValue, match="it is nested more"):
            tx.root.map("any", Any)["a"] = nested(400)
    with db.snapshot() as now:
        thing = now.root.get("thing", Thing)
        assert thing is not None and thing.whatever == nested(399) and thing.many == nested(398)
    # In place it is found at the commit.
    with pytest.raises(errors.BadValue, match="field whatever: it is nested more"), db.transaction() as tx:
        thing = tx.root.get("thing", Thing)
        assert thing is not None
        thing.whatever.append(thing.whatever)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("real", 10**400, "larger than any float"),
        ("real", 2**53 + 1, "9007199254740993 is no float, the nearest is 9007199254740992"),
        ("when", datetime.max.replace(tzinfo=timezone(timedelta(hours=-3))), "before the year 1 or after 9999"),
        ("when", datetime.min.replace(tzinfo=timezone(timedelta(hours=3))), "before the year 1 or after 9999"),
        ("name", "a\ud800", "half of a character"),
        ("by", {"\udc00": "a"}, "half of a character"),
        ("whatever", "\ud800", "cannot be written in CBOR"),
        ("whatever", {"a": [object()]}, "cannot be written in CBOR"),
        ("whatever", Thing(), "cannot be written in CBOR"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_where_it_is_given(field: str, value: Any, told: str) -> None:
    with pytest.raises(errors.BadValue, match=f"field {field}: .*{told}"):
        Thing(**{field: value})


def test_a_value_that_has_no_text_is_refused_as_well() -> None:
    for field, value, told in (("real", 10**10_000, "a value of int is larger"), ("name", nested(100_000), "a value of list is no str")):
        with pytest.raises(errors.BadValue, match=f"field {field}: {told}"):
            Thing(**{field: value})


def test_an_integer_that_is_a_float_is_one(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        tx.root["numbers"] = Thing(real=2**60)
        tx.root.map("reals", int, float)[2] = 1
    with db.snapshot() as now:
        found = now.root.get("numbers", Thing)
        assert found is not None and found.real == 2.0**60 and list(now.root.map("reals", int, float).keys()) == [2.0]


def test_a_key_that_cannot_be_stored_is_refused(db: zeolite.Database) -> None:
    late = datetime.max.replace(tzinfo=timezone(timedelta(hours=-3)))
    with db.transaction() as tx:
        for kind, key in ((float, 10**400), (float, 2**53 + 1), (str, "\ud800"), (datetime, late), (Thing, 5)):
            with pytest.raises(errors.BadValue):
                tx.root.map(f"by {kind}", int, kind)[key] = 1
        with pytest.raises(errors.BadValue, match="half of a character"):
            tx.root["\ud800"] = Thing()


def test_a_note_and_a_name_that_are_no_text_are_refused(db: zeolite.Database) -> None:
    with pytest.raises(errors.BadValue, match="half of a character"):
        db.transaction(note="\ud800")
    with pytest.raises(errors.BadValue, match="half of a character"):
        type("Wrong", (zeolite.Object,), {}, cls="refused.\ud800")


def test_what_is_no_object_is_refused_wherever_one_is_wanted(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        for value in (5, Thing, None):
            wanted: list[Callable[[Any], object]] = [
                lambda one: tx.root.__setitem__("x", one), tx.delete, tx.create, tx.get,
                lambda one: tx.root.index("i", Thing).add("a", one), lambda one: tx.root.set("s", Thing).add(one),
                lambda one: tx.root.map("m", Thing).__setitem__("a", one),
            ]  # fmt: skip
            for give in wanted:
                with pytest.raises(errors.BadValue):
                    give(value)
        with pytest.raises(errors.BadValue, match="the class Thing; make an object of it"):
            tx.root["x"] = Thing  # type: ignore[assignment]
        with pytest.raises(errors.BadValue, match=r"is a collection.*tx.root.map\('x'"):
            tx.root["x"] = tx.root.counter("c")  # type: ignore[assignment]


def test_what_was_deleted_is_written_no_more(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        thing = tx.root.get("thing", Thing)
        assert thing is not None and thing.name == "first"
        tx.delete(thing)
        writes: list[Callable[[], object]] = [
            lambda: tx.delete(thing), lambda: thing.hits.add(1), lambda: thing.words.add("a"), lambda: setattr(thing, "name", "b"),
        ]  # fmt: skip
        for write in writes:
            with pytest.raises(errors.FixRequest, match="was deleted in this transaction"):
                write()
        tx.rollback()


def test_options_of_a_connection_are_told(server: Server) -> None:
    with pytest.raises(errors.BadValue, match=r"bogus is nothing that a connection is opened with; that are database, role.*wait_timeout"):
        zeolite.connect(server.address, bogus=1)  # type: ignore[call-arg]


def test_annotations_that_cannot_be_stored_are_told_at_the_class() -> None:
    @dataclass
    class Tree:
        below: list[Tree]

    here = globals()
    here["Tree"] = Tree
    wrong: dict[str, tuple[Any, str]] = {
        "optional": (zeolite.List[str] | None, "say it without what stands beside it"),
        "inner": (list[zeolite.Counter], "is a collection, which is a field of its own"),
        "number": (complex, "cannot be stored; what can"),
        "union": (int | str, "several types"),
        "valued": (zeolite.Map[str, complex], "cannot be stored; what can"),
        "keyed": (zeolite.Map[complex, str], "cannot be a key; what can"),
        "endless": (Tree, "has itself in it; make it a class of objects"),
    }
    for name, (annotation, told) in wrong.items():
        with pytest.raises(errors.BadValue, match=f"field {name} of Wrong: .*{told}"):
            type("Wrong", (zeolite.Object,), {"__annotations__": {name: annotation}}, cls="refused.Wrong")
    del here["Tree"]

    class Early(zeolite.Object, cls="refused.Early"):
        later: Later | None = None  # what comes later is looked at when it is there

    class Later(zeolite.Object, cls="refused.Later"):
        early: Early | None = None

    assert Early().later is None


MODULE = """
import zeolite

class Page(zeolite.Object, cls="refused.Page", version={version}):
    {field}: str
"""


def test_two_classes_of_one_name_are_told_and_a_module_may_be_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "refused_one.py").write_text(MODULE.format(version=1, field="title"))
    (tmp_path / "refused_two.py").write_text(MODULE.format(version=1, field="body"))
    (tmp_path / "refused_new.py").write_text(MODULE.format(version=2, field="text"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = importlib.import_module("refused_one")
        importlib.reload(one)
        new = importlib.import_module("refused_new")
        importlib.reload(one)  # the higher version stays
    assert zeolite.typed.objects.class_of("refused.Page") is new.Page
    (tmp_path / "refused_new.py").write_text(MODULE.format(version=1, field="text"))
    importlib.reload(new)
    told = re.escape("'refused.Page', version 1: refused_new.Page, and now refused_two.Page")
    with pytest.warns(UserWarning, match=told):
        importlib.import_module("refused_two")
    with pytest.warns(UserWarning, match="two classes are 'refused.Twice', version 1"):

        class Twice(zeolite.Object, cls="refused.Twice"):
            text: str

        class Twice(zeolite.Object, cls="refused.Twice"):  # type: ignore[no-redef]
            number: int


def test_an_error_in_an_upgrade_says_of_what(db: zeolite.Database) -> None:
    class Newer(zeolite.Object, cls="refused.Thing", version=2):
        name: str

        @zeolite.upgrade(1)
        @staticmethod
        def _1(old: dict[str, Any]) -> dict[str, Any]:
            return {"name": old["title"]}

    try:
        with db.snapshot() as now, pytest.raises(KeyError, match="title") as raised:
            found = now.root.get("thing", Newer)
            assert found is not None and found.name
        notes = getattr(raised.value, "__notes__", ["in the upgrade of refused.Thing (version 1), "])
        assert notes[0].startswith("in the upgrade of refused.Thing (version 1), ")
        done = zeolite.evolve.dry_run(db, Newer)
        assert [error.splitlines()[0] for error, _ in done.errors] == ["KeyError: 'title'"]
    finally:
        zeolite.typed.objects._CLASSES["refused.Thing"] = Thing


def test_the_names_of_the_root_are_a_mapping(db: zeolite.Database) -> None:
    with db.transaction() as tx:
        tx.root.map("pages", Thing)["a"] = Thing(name="a")
        tx.root.counter("visits").add(1)
    with db.snapshot() as now:
        root = now.root
        assert list(root.keys()) == list(root) == ["pages", "thing", "visits"]
        found = dict(root.items())
        assert found["pages"] is zeolite.Map and found["visits"] is zeolite.Counter and found["thing"].name == "first"
        assert [one for one in root.values() if isinstance(one, Thing)] == [root["thing"]]
        assert root.get("nothing") is None and root.get("thing").name == "first"
        with pytest.raises(errors.WrongClass, match="stands for a collection"):
            root.get("pages", Thing)
