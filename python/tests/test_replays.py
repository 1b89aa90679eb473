"""What only a split makes a conflict is replayed by the server, if it is told to; the connection forgets what it had made of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
from BTrees.check import check
from BTrees.IIBTree import IIBTree
from serving import Server
from ZODB.POSException import ConflictError

from zeolite.zodb import Storage


@pytest.fixture(params=["true", "false"])
def replays(request: pytest.FixtureRequest) -> bool:
    return request.param == "true"


@pytest.fixture
def db(tmp_path: Path, replays: bool) -> Iterator[ZODB.DB]:
    server = Server(tmp_path, f"zodb.replay_splits={str(replays).lower()}")
    database = ZODB.DB(Storage(server.address))
    with database.transaction() as connection:
        connection.root()["tree"] = IIBTree({key: 0 for key in range(0, 2000, 10)})
    yield database
    database.close()
    server.stop()


def connect(db: ZODB.DB) -> tuple[Any, Any]:
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    tree = connection.root()["tree"]
    len(tree)
    return manager, tree


def full(tree: Any, first: int) -> None:
    """So many keys that the buckets there are split."""
    tree.update({key: 1 for key in range(first, first + 600) if key % 10})


def test_two_that_split_the_same_buckets(db: ZODB.DB, replays: bool) -> None:
    one, of_one = connect(db)
    two, of_two = connect(db)
    full(of_one, 500)
    del of_two[1010]
    of_two.update({key: 2 for key in range(503, 1100, 10)})
    of_two.update({key: 2 for key in range(1200, 1900) if key % 10})
    # The other one has set other keys.
    for key in range(503, 1100, 10):
        del of_one[key]
    expected = {**of_two, **of_one}
    del expected[1010]
    one.commit()
    if not replays:
        with pytest.raises(ConflictError):
            two.commit()
        return
    two.commit()
    for manager, tree in ((one, of_one), (two, of_two), connect(db)):
        manager.begin()
        check(tree)
        tree._check()
        assert dict(tree) == expected
    # Whoever was replayed goes on with what is there.
    two.begin()
    full(of_two, 0)
    two.commit()
    one.begin()
    assert dict(of_one) == dict(of_two)
    check(of_one)


def test_one_key_of_both_stays_a_conflict(db: ZODB.DB) -> None:
    one, of_one = connect(db)
    two, of_two = connect(db)
    full(of_one, 500)
    of_two[777] = 2
    one.commit()
    with pytest.raises(ConflictError):
        two.commit()
    two.abort()
    assert of_two[777] == 1
