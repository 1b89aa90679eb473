"""Owns what a transaction has staged: what it writes anew (``Staged``), or a transaction as it was elsewhere (``Copied``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ZODB.POSException import StorageTransactionError
from ZODB.utils import z64

from zeolite import _zeolite
from zeolite.errors import ZeoliteError

from .blobs import Taken
from .errors import zodb_error

if TYPE_CHECKING:
    from .storage import Storage


def note(transaction: Any) -> tuple[bytes, bytes, bytes]:
    """User, description and extension as bytes, exactly as they are kept."""
    return (*(_bytes(part) for part in (transaction.user, transaction.description)), transaction.extension_bytes)


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8")


class Staged:
    """What a transaction writes. Nothing is sent before the vote."""

    def __init__(self, storage: Storage, transaction: Any, snapshot: _zeolite.Snapshot | None):
        self.storage = storage
        self.transaction = transaction
        self.taken = Taken(storage._files)
        try:
            self.native = _zeolite.Staging(storage._database, snapshot)
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def store(
        self, oid: bytes, serial: bytes, data: bytes, data_txn: bytes | None = None, blob: bytes | None = None
    ) -> None:
        """Writes a record that was made on the revision with that serial; an undo says from where it took the data, and the blob."""
        self._do(self.native.put, oid, serial, data, data_txn, blob)
        self.taken.forget(oid)

    def store_blob(self, oid: bytes, serial: bytes, data: bytes, path: str) -> None:
        """Takes the file of a blob, and writes its record."""
        self._do(lambda: self.native.put(oid, serial or z64, data, None, self.taken.add(oid, path)))

    def restore(self, oid: bytes, data: bytes | None, data_txn: bytes | None = None) -> None:
        """Only a copy restores."""
        raise StorageTransactionError("restore needs a transaction that was begun with its tid")

    def check(self, oid: bytes, serial: bytes) -> None:
        """Demands that an object is current."""
        self._do(self.native.check, oid, serial)

    def delete(self, oid: bytes, serial: bytes) -> None:
        """Deletes an object."""
        self._do(self.native.delete, oid, serial)
        self.taken.forget(oid)

    def vote(self) -> list[_zeolite.Stale]:
        """Holds everything; what has moved on."""
        self.native.note(*note(self.transaction))
        return self.native.hold()

    def finish(self) -> int:
        """Commits."""
        return self.native.finish()

    def abort(self) -> None:
        """Gives up. In a forked child there is nothing to give up: it is the parent's."""
        try:
            self.native.abort()
        except ZeoliteError:
            pass

    def _do(self, stage: Any, *what: Any) -> None:
        try:
            stage(*what)
        except ZeoliteError as error:
            raise zodb_error(error) from error


class Copied:
    """A transaction as it was elsewhere; it keeps its tid. As with ZODB's own storages, that what it refers to is here is up to the caller."""

    def __init__(self, storage: Storage, transaction: Any, tid: bytes):
        self.storage = storage
        self.transaction = transaction
        self.tid = tid
        self.taken = Taken(storage._files)
        self.writes: dict[bytes, _zeolite.Brought] = {}

    def store(self, oid: bytes, serial: bytes, data: bytes) -> None:
        """The same as to restore: what was, was without a conflict."""
        self.restore(oid, data)

    def restore(self, oid: bytes, data: bytes | None, data_txn: bytes | None = None) -> None:
        """A record of it; None: it was deleted."""
        self.writes[oid] = (oid, data, data_txn, None)
        self.taken.forget(oid)

    def restore_blob(self, oid: bytes, data: bytes, data_txn: bytes | None, path: str) -> None:
        """A record of it with its blob."""
        try:
            self.writes[oid] = (oid, data, data_txn, self.taken.add(oid, path))
        except ZeoliteError as error:
            raise zodb_error(error) from error

    def check(self, oid: bytes, serial: bytes) -> None:
        """What was, was without a conflict."""

    def delete(self, oid: bytes, serial: bytes) -> None:
        """A deletion of it."""
        self.restore(oid, None)

    def vote(self) -> list[_zeolite.Stale]:
        """Nothing can have moved on."""
        return []

    def finish(self) -> int:
        """Adds it at the end."""
        restoring = _zeolite.Restoring(self.storage._database, onto_packed=True)
        restoring.add(self.tid, note(self.transaction), list(self.writes.values()))
        return restoring.finish()[1]

    def abort(self) -> None:
        """Nothing was sent."""
