"""Rules that go further than ZODB's, each by a setting; and the reasons that a refusal tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
from BTrees.IIBTree import IITreeSet
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from serving import Server
from ZODB.POSException import ConflictError

from zeolite.zodb import Storage

Change = Callable[[Any], object]


@pytest.fixture(params=[True, False])
def allowed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def db(tmp_path: Path, allowed: bool) -> Iterator[ZODB.DB]:
    names = ["replay_splits", "merge_same_changes", "merge_mappings"]
    server = Server(tmp_path, *(f"zodb.{name}={str(allowed).lower()}" for name in names))
    database = ZODB.DB(Storage(server.address))
    with database.transaction() as connection:
        root = connection.root()
        root["mapping"] = PersistentMapping({"title": "a", "words": ["b"], "tree": OOBTree()})
        root["numbers"] = IITreeSet([3, 5, 7])
        root["tree"] = OOBTree({f"key{number}": number for number in range(100)})
    yield database
    database.close()
    server.stop()


def both(db: ZODB.DB, name: str, one: Change, two: Change) -> tuple[Any, ConflictError | None]:
    """Two transactions from one snapshot: what is there after both, as a third one sees it, and the second one's error."""
    managers = [transaction.TransactionManager() for _ in range(3)]
    connections = [db.open(manager) for manager in managers]
    error = None
    for connection, change in zip(connections, (one, two)):
        change(connection.root()[name])
    managers[0].commit()
    try:
        managers[1].commit()
    except ConflictError as conflict:
        error = conflict
        managers[1].abort()
    for manager in managers:
        manager.begin()
    two_sees, there = (connection.root()[name] for connection in connections[1:])
    assert list(two_sees) == list(there) and two_sees._p_serial == there._p_serial
    return there, error


def test_keys_of_a_mapping(db: ZODB.DB, allowed: bool) -> None:
    tree = None

    def sets(mapping: Any) -> None:
        nonlocal tree
        tree = mapping["tree"]._p_oid
        mapping["title"] = "c"
        del mapping["words"]

    there, error = both(db, "mapping", sets, lambda mapping: mapping.update(other={"d": [1]}))
    assert (error is None) == allowed
    assert there["tree"]._p_oid == tree
    assert {key: value for key, value in there.items() if key != "tree"} == (
        {"title": "c", "other": {"d": [1]}} if allowed else {"title": "c"}
    )
    _, error = both(
        db, "mapping", lambda mapping: mapping.update(title="e"), lambda mapping: mapping.update(title="f")
    )
    assert error is not None and hasattr(error, "why") == allowed
    assert not allowed or "'title'" in error.why.replace('"', "'")


def test_the_root_is_a_mapping(db: ZODB.DB, allowed: bool) -> None:
    one, two = (transaction.TransactionManager() for _ in range(2))
    of_one, of_two = db.open(one).root(), db.open(two).root()
    of_one["one"], of_two["two"] = IITreeSet([1]), IITreeSet([2])
    one.commit()
    if not allowed:
        with pytest.raises(ConflictError):
            two.commit()
        return
    two.commit()
    one.begin()
    assert [*of_one["one"], *of_one["two"]] == [1, 2]


def test_what_both_did_alike(db: ZODB.DB, allowed: bool) -> None:
    there, error = both(db, "numbers", lambda numbers: numbers.update([4, 8]), lambda numbers: numbers.update([4, 9]))
    assert (error is None) == allowed
    assert list(there) == ([3, 4, 5, 7, 8, 9] if allowed else [3, 4, 5, 7, 8])
    assert allowed or "(reason 4, key 4)" in error.why
    _, error = both(db, "tree", lambda tree: tree.update({"key50": -1}), lambda tree: tree.update({"key50": -2}))
    assert "(reason 1, key \"key50\")" in error.why and error.why in str(error)


def test_a_least_key_may_go_but_no_tree_that_was_emptied(db: ZODB.DB, allowed: bool) -> None:
    there, error = both(db, "numbers", lambda numbers: numbers.insert(6), lambda numbers: numbers.remove(3))
    assert (error is None) == allowed
    assert list(there) == ([5, 6, 7] if allowed else [3, 5, 6, 7])
    _, error = both(db, "numbers", lambda numbers: numbers.insert(1), lambda numbers: numbers.clear())
    assert error is not None and "(reason 12)" in error.why
    there, error = both(db, "numbers", lambda numbers: numbers.clear(), lambda numbers: numbers.insert(2))
    assert error is not None and "(reason 12)" in error.why and list(there) == []
