"""Owns the stepping of one chunk: a ZODB connection on the chunk's snapshot, in which each step is a transaction of its own that stays
in this process.

    snapshot of the server  <──  Overlay  <──  connection   step 1, commit;  step 2, commit;  step 3 fails, abort
                                    └──> what all of them have written, for one commit of the worker

So a step sees what those before it have made, and one that fails leaves nothing.
"""

from __future__ import annotations

import traceback
from typing import Any

import transaction
from persistent.interfaces import IPersistent
from ZODB import DB, interfaces
from ZODB.POSException import POSKeyError, ReadConflictError
from ZODB.serialize import ObjectReader
from ZODB.utils import p64
from zope.interface import implementer

from zeolite import _zeolite
from zeolite.errors import ReopenSnapshot, Retry, Wait

from .steps import Step

#: Of a traceback, for the quarantine: its end.
TRACEBACK_CHARS_MAX = 2000
#: What passes by itself is no object's fault.
PASSING = (Wait, Retry, ReopenSnapshot)

#: Oid, data, serial, the commit that stepped it before, whether it is to be stepped.
Asked = tuple[bytes, bytes, bytes, int | None, bool]


@implementer(interfaces.IMVCCStorage)
class Overlay:
    """A storage that reads at a snapshot, and keeps what is written."""

    def __init__(self, snapshot: _zeolite.Snapshot, objects: _zeolite.Objects, ahead: dict[bytes, tuple[bytes, bytes]]):
        self._snapshot = snapshot
        self._objects = objects
        self._ahead = ahead
        self._tid = snapshot.tid()
        self._stored: dict[bytes, bytes] = {}
        self._checked: set[bytes] = set()
        #: What was committed so far: data and serial.
        self.records: dict[bytes, tuple[bytes, bytes]] = {}
        #: What the last commit has written.
        self.share: list[bytes] = []
        self.checks: set[bytes] = set()

    def new_instance(self) -> Overlay:
        return self

    def release(self) -> None:
        pass

    def close(self) -> None:
        self._snapshot.completed()

    def sync(self, force: bool = True) -> None:
        pass

    def poll_invalidations(self) -> list[bytes]:
        return []

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        found = self.records.get(oid) or self._ahead.get(oid) or self._snapshot.load(oid)
        if found is None:
            raise POSKeyError(oid)
        return found

    def loadBefore(self, oid: bytes, tid: bytes) -> tuple[bytes, bytes, None]:
        return (*self.load(oid), None)

    def prefetch(self, oids: Any) -> None:
        self._snapshot.prefetch([oid for oid in oids if oid not in self.records])

    def new_oid(self) -> bytes:
        return self._objects.new_oid()

    def tpc_begin(self, transaction: Any, tid: bytes | None = None, status: str = " ") -> None:
        self._stored, self._checked = {}, set()

    def store(self, oid: bytes, serial: bytes, data: bytes, version: str, transaction: Any) -> None:
        self._stored[oid] = data

    def checkCurrentSerialInTransaction(self, oid: bytes, serial: bytes, transaction: Any) -> None:
        if self.load(oid)[1] != serial:
            raise ReadConflictError(oid=oid, serials=(self.load(oid)[1], serial))
        self._checked.add(oid)

    def tpc_vote(self, transaction: Any) -> list[bytes]:
        return []

    def tpc_finish(self, transaction: Any, f: Any = None) -> bytes:
        self._tid += 1
        tid = p64(self._tid)
        self.records.update((oid, (data, tid)) for oid, data in self._stored.items())
        self.checks |= self._checked
        self.share = list(self._stored)
        if f is not None:
            f(tid)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        self._stored, self._checked = {}, set()

    def lastTransaction(self) -> bytes:
        return p64(self._tid)

    def isReadOnly(self) -> bool:
        return False

    def getName(self) -> str:
        return "a chunk of an evolve"

    def sortKey(self) -> str:
        return f"evolve {id(self)}"

    def getSize(self) -> int:
        return 0

    def __len__(self) -> int:
        return 0


class Tx:
    """What a step is given beside its object."""

    def __init__(self, connection: Any):
        #: ZODB's connection that the step works in. Commit and abort nothing in it.
        self.connection = connection

    def root(self) -> Any:
        """The root object of the database."""
        return self.connection.root()

    def get(self, oid: bytes) -> Any:
        """The object of an oid."""
        return self.connection.get(oid)


def _has_changed(connection: Any) -> bool:
    return bool(connection._registered_objects) or connection._savepoint_storage is not None


def told(error: Exception) -> str:
    """An exception for the quarantine: what it is, and the end of its traceback."""
    first = traceback.format_exception_only(error)[-1][: TRACEBACK_CHARS_MAX // 4]
    return first + traceback.format_exc()[len(first) - TRACEBACK_CHARS_MAX :]


class Stepping:
    """Steps chunks of a job; called by the worker, on any thread."""

    def __init__(self, database: _zeolite.Database, step: Step):
        self._objects = _zeolite.Objects(database)
        self._step = step

    def __call__(
        self, snapshot: _zeolite.Snapshot, asked: list[Asked]
    ) -> tuple[list[list[bytes] | str], dict[bytes, bytes], list[bytes]]:
        """What each has written, or why it failed; all that was written; what has to be current."""
        ahead = {oid: (data, serial) for oid, data, serial, _, _ in asked}
        overlay = Overlay(snapshot, self._objects, ahead)
        manager = transaction.TransactionManager()
        database = DB(overlay, cache_size=10_000, pool_size=1)
        try:
            connection = database.open(transaction_manager=manager)
            results = [self._one(one, connection, overlay, manager) for one in asked]
            manager.abort()
            connection.close()
        finally:
            database.close()
        written = {oid: data for oid, (data, _) in overlay.records.items()}
        return results, written, [oid for oid in overlay.checks if oid not in written]

    def _one(self, asked: Asked, connection: Any, overlay: Overlay, manager: Any) -> list[bytes] | str:
        oid, _, _, former, is_stepped = asked
        overlay.share = []
        try:
            manager.begin()
            obj, tx = connection.get(oid), Tx(connection)
            if former is not None and self._step.taking_back is not None:
                self._step.taking_back(self._as_left(oid, obj, former, connection), tx)
            if is_stepped:
                if IPersistent.providedBy(obj):
                    obj._p_activate()
                self._step(obj, tx)
                # Its record is written with the new version whatever the step has changed; and with whatever it has changed elsewhere,
                # so that a live transaction which knows the object from before is seen to go over it.
                if self._step.to or _has_changed(connection):
                    obj._p_changed = True
            manager.commit()
        except PASSING:
            manager.abort()
            raise
        except Exception as error:
            manager.abort()
            return told(error)
        return overlay.share

    def _as_left(self, oid: bytes, obj: Any, former: int, connection: Any) -> Any:
        """The object as the commit had left it: one beside the connection's, with the same oid."""
        data, _, _ = self._objects.before(oid, p64(former + 1))
        if data is None:
            raise POSKeyError(oid)
        reader = ObjectReader(connection, connection._cache, connection.db().classFactory)
        left = obj.__class__.__new__(obj.__class__)
        left.__setstate__(reader.getState(data))
        left._p_oid = oid
        return left


