"""Owns the walks over a database: its transactions, its current records, and copies of all of it.

Each walk is one stream from the server. Objects of Zeolite's own (``zeolite.*``: jobs of evolves, for instance) are left out of all of
them: an export has what ZODB wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ZODB.BaseStorage import DataRecord, TransactionRecord
from ZODB.POSException import POSKeyError
from ZODB.utils import oid_repr, p64, u64, z64

from zeolite import _zeolite
from zeolite.errors import ZeoliteError

from .blobs import Lost, uploaded
from .errors import zodb_error
from .staged import note


class Transaction(TransactionRecord):
    """A transaction as it was; iterating gives its records (``references``: those that the server goes by, if asked for)."""

    def __init__(self, told: _zeolite.Transaction):
        tid, user, description, extension, writes, _ = told
        super().__init__(p64(tid), " ", user, description, extension)
        self._writes = writes

    def __iter__(self) -> Iterator[DataRecord]:
        for oid, data, _, data_txn, _, references in self._writes:
            row = DataRecord(oid, self.tid, data, None if data_txn is None else p64(data_txn))
            row.references = references
            yield row


class Transactions:
    """The transactions between two tids, inclusive; it is its own iterator."""

    def __init__(
        self, database: _zeolite.Database, start: bytes | None, stop: bytes | None, with_references: bool = False
    ):
        try:
            # To the server a last of 0 is no limit, and one that is not there yet is none that it knows.
            last = 0 if stop is None else min(u64(stop), database.newest())
            self._log: _zeolite.Log | None = None
            if stop is None or last:
                self._log = _zeolite.Log(database, u64(start or z64), last, with_references=with_references)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def __iter__(self) -> Transactions:
        return self

    def __next__(self) -> Transaction:
        try:
            told = None if self._log is None else self._log.next()
        except ZeoliteError as error:
            raise zodb_error(error) from error
        if told is None:
            self._log = None
            raise StopIteration
        return Transaction(told)

    next = __next__

    def close(self) -> None:
        """Ends the stream."""
        self._log = None


class _Cursor:
    """Where a walk over the current records stands: a page, a place in it, and where the next page begins."""

    def __init__(self, at: int, page: list[tuple[bytes, int, bytes]], place: int, after: int | bytes | None):
        self.at, self.page, self.place, self.after = at, page, place, after

    def load(self, objects: _zeolite.Objects) -> None:
        """Reads on until there is something, or nothing more."""
        while self.place >= len(self.page) and self.after is not None:
            self.page, self.after = objects.records(self.at, self.after)
            self.place = 0

    def next(self, objects: _zeolite.Objects) -> _Cursor | None:
        """Behind this record; None: it was the last."""
        cursor = _Cursor(self.at, self.page, self.place + 1, self.after)
        cursor.load(objects)
        return cursor if cursor.place < len(cursor.page) else None


def record(
    database: _zeolite.Database, objects: _zeolite.Objects, cursor: _Cursor | bytes | None
) -> tuple[bytes, bytes, bytes, _Cursor | None]:
    """One current record, and where the next one is. A walk may begin at an oid, as it may on FileStorage and ZEO (zodbupdate does)."""
    if not isinstance(cursor, _Cursor):
        cursor = _Cursor(database.position(), [], 0, cursor or z64)
        cursor.load(objects)
    if cursor.place >= len(cursor.page):
        raise POSKeyError(z64)
    oid, tid, data = cursor.page[cursor.place]
    return oid, p64(tid), data, cursor.next(objects)


def copy(source: Any, database: _zeolite.Database, blobs: _zeolite.Blobs, verbose: bool) -> None:
    """Restores all transactions of another storage in one stream, each behind its blobs."""
    restoring = _zeolite.Restoring(database)
    for transaction in source.iterator():
        writes = brought(source, blobs, transaction)
        if verbose:
            print(transaction.tid.hex(), " ".join(oid_repr(oid) for oid, *_ in writes))
        restoring.add(transaction.tid, note(transaction), writes)
    restoring.finish()


def brought(
    source: Any, blobs: _zeolite.Blobs, transaction: Any, lost: Lost = lambda error: None
) -> list[_zeolite.Brought]:
    """What a transaction of another storage writes; its blobs are uploaded then. Of an object that it writes twice (several undos in one
    transaction do) the last counts, as it does there."""
    rows = {row.oid: row for row in transaction}.values()
    return [(row.oid, row.data, row.data_txn, uploaded(source, blobs, row.oid, row.tid, row.data, lost)) for row in rows]
