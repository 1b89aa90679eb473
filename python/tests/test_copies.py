"""A database comes in from a Data.fs and goes out into one again: nothing is different then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

from zeolite.errors import FixRequest
from zeolite.zodb import Storage

Connect = Callable[..., Storage]


class Document(Persistent):
    pass


def told(storage: Any) -> list[Any]:
    """Everything that an iterator tells; where something is not there, not since when."""
    return [
        (
            one.tid,
            one.user,
            one.description,
            one.extension_bytes,
            sorted((row.oid, row.data, row.data and row.data_txn) for row in one),
        )
        for one in storage.iterator()
    ]


def fill(storage: Any) -> None:
    db = DB(storage)
    for number in range(30):
        with db.transaction(f"write {number} ä") as connection:
            connection.root().setdefault("all", PersistentMapping())[number % 7] = Document()
            transaction.get().setUser("amy")
    for _ in range(3):
        db.undo(db.undoLog(0, 1)[0]["id"])
        transaction.commit()
    # What no text can be, as old sites have it.
    meta = TransactionMetaData(b"\xff\xfe", b"caf\xe9", {"key": "value"})
    data, serial = storage.loadBefore(z64, p64(1 << 62))[:2]
    storage.tpc_begin(meta)
    storage.store(z64, serial, data, "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)


def test_in_and_out_again(tmp_path: Path, connect: Connect) -> None:
    source = FileStorage(str(tmp_path / "Data.fs"), create=True)
    fill(source)
    storage = connect()
    storage.copyTransactionsFrom(source)
    assert told(storage) == told(source) and len(told(source)) == 35
    back = FileStorage(str(tmp_path / "Back.fs"), create=True)
    back.copyTransactionsFrom(storage)
    assert told(back) == told(source)
    # It goes on where it was: oids and tids are newer than what came.
    db = DB(storage)
    with db.transaction() as connection:
        connection.root()["new"] = Document()
    assert storage.lastTransaction() > source.lastTransaction()
    back.close()
    source.close()


def test_what_was_written_here_goes_out(tmp_path: Path, connect: Connect) -> None:
    storage = connect()
    fill(storage)
    out = FileStorage(str(tmp_path / "Data.fs"), create=True)
    out.copyTransactionsFrom(storage)
    assert told(out) == told(storage) and len(told(out)) == 35
    db = DB(out)
    assert sorted(db.open().root()["all"]) == list(range(7))
    db.close()


def test_what_does_not_fit_is_told(tmp_path: Path, connect: Connect) -> None:
    source = FileStorage(str(tmp_path / "Data.fs"), create=True)
    fill(source)
    storage = connect()
    storage.copyTransactionsFrom(source)
    with pytest.raises(FixRequest, match="newer"):
        storage.copyTransactionsFrom(source)
    source.close()
