"""Owns undo: which transactions can be undone, and what takes one back.

What it takes to take back a transaction T is staged into the transaction that asks, beside whatever else that one writes:

    now holds what T wrote      the state before T (an object that T made is deleted)
    now holds something else    the class resolves: from what T wrote, to the state before T, on what is there now
    it does not                 UndoError

What is packed cannot be undone. Unlike with a file, ``undoLog`` reads the log backwards and costs what it shows.
"""

from __future__ import annotations

from base64 import decodebytes, encodebytes
from collections.abc import Callable
from pickle import loads
from typing import TYPE_CHECKING, Any

from persistent.TimeStamp import TimeStamp
from ZODB.POSException import ConflictError, MultipleUndoErrors, POSKeyError, UndoError
from ZODB.utils import p64, u64

from zeolite import _zeolite

if TYPE_CHECKING:
    from .staged import Staged
    from .storage import Storage

Filter = Callable[[dict[str, Any]], bool]
#: The data of an object (None: deleted, or not there), and the blob that its record names.
State = tuple[bytes | None, bytes | None]


def log(database: _zeolite.Database, first: int, last: int, filter: Filter | None) -> list[dict[str, Any]]:
    """The entries from first to last, the newest first; a negative last is how many."""
    if last < 0:
        last = first - last
    walk = _zeolite.Log(database, with_records=False, reverse=True)
    told: list[dict[str, Any]] = []
    seen = 0
    while seen < last and (transaction := walk.next()) is not None:
        if transaction[0] <= transaction[5]:
            break
        entry = _entry(transaction)
        if filter is None or filter(entry):
            if seen >= first:
                told.append(entry)
            seen += 1
    return told


def _entry(transaction: _zeolite.Transaction) -> dict[str, Any]:
    tid, user, description, extension, writes, _ = transaction
    entry: dict[str, Any] = {}
    if extension:
        try:
            entry.update(loads(extension))
        except Exception:
            # Not ZODB's: Zeolite's own programs write such.
            pass
    entry.update(
        id=encodebytes(p64(tid)).rstrip(),
        time=TimeStamp(p64(tid)).timeTime(),
        user_name=user,
        description=description,
        size=sum(size for _, _, size, *_ in writes),
    )
    return entry


def stage(storage: Storage, staged: Staged, transaction_id: bytes) -> list[bytes]:
    """Stages what takes a transaction back; the oids of it."""
    tid = decodebytes(transaction_id + b"\n")
    if len(tid) != 8:
        raise UndoError(f"{transaction_id!r} is no id of a transaction; take one from undoLog")
    transaction = _zeolite.Log(storage._database, u64(tid), u64(tid)).next()
    # After 0, which is before the first, comes another one.
    if transaction is None or transaction[0] != u64(tid) or transaction[0] <= transaction[5]:
        raise UndoError("there is no such transaction, or it is packed")
    failures: list[tuple[bytes, UndoError]] = []
    oids = []
    for oid, data, _, _, blob, _ in transaction[4]:
        try:
            _stage_one(storage, staged, oid, tid, (data, blob))
            oids.append(oid)
        except UndoError as error:
            failures.append((oid, error))
    if failures:
        raise MultipleUndoErrors(failures)
    return oids


def _stage_one(storage: Storage, staged: Staged, oid: bytes, tid: bytes, undone: State) -> None:
    data, from_tid, _ = storage._objects.before(oid, tid)
    before, data_txn = (data, storage.blob_of(oid, from_tid, data)), p64(from_tid)
    is_staged, *of_ours = staged.native.staged(oid)
    data, serial = storage._objects.newest([oid])[0]
    if is_staged:
        current = (of_ours[0], of_ours[1])
    elif p64(serial) == tid:
        return _put(staged, oid, p64(serial), before, data_txn)
    else:
        current = (data, storage.blob_of(oid, serial, data))
    if current == undone:
        return _put(staged, oid, p64(serial), before, data_txn)
    if before[0] is None:
        raise UndoError("Can't undo an add transaction followed by conflicting transactions.", oid)
    if current[0] is None or undone[0] is None:
        raise UndoError("Some data were modified by a later transaction", oid)
    try:
        made = storage.tryToResolveConflict(oid, p64(serial), tid, before[0], current[0])
    except (ConflictError, POSKeyError):
        raise UndoError("Some data were modified by a later transaction", oid) from None
    _put(staged, oid, p64(serial), (made, None), None)


def _put(staged: Staged, oid: bytes, serial: bytes, state: State, data_txn: bytes | None) -> None:
    data, blob = state
    if data is None:
        staged.delete(oid, serial)
    else:
        staged.store(oid, serial, data, data_txn, blob)
