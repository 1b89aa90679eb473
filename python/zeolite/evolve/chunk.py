"""Owns the stepping of one chunk: a ZODB connection on the chunk's snapshot, in which each step is a transaction of its own that stays
in this process.

    snapshot of the server  <──  Overlay  <──  connection   step 1, commit;  step 2, commit;  step 3 fails, abort
                                    └──> what all of them have written, for one commit of the worker

So a step sees what those before it have made, and one that fails leaves nothing. A connection is used for one chunk after the other, and
remembers the objects that nobody has changed since: a chunk may be ten objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transaction
from persistent.interfaces import IPersistent
from ZODB import DB
from ZODB.POSException import POSKeyError
from ZODB.serialize import ObjectReader
from ZODB.utils import p64

from zeolite import _zeolite
from zeolite.zodb.blobfiles import Files

from .elsewhere import OWN, Databases
from .overlay import Overlay
from .steps import PASSING, Step, told

#: Oid, data, serial, the commit that stepped it before, whether it is to be stepped.
Asked = tuple[bytes, bytes, bytes, int | None, bool]
#: Of one: the oids that its step wrote, and whether it may know more than its object and these; or why it failed.
Told = tuple[list[bytes], bool] | str
#: Objects that are stepped between two collections of the connection's cache.
COLLECT = 1000
#: Objects that a connection of its own remembers.
CACHED = 10_000


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


def _is_persistent(obj: Any) -> bool:
    """By its class: asked itself, a ghost would load its state, which may be what fails."""
    return bool(IPersistent.implementedBy(type(obj)))


class Stepping:
    """Steps chunks of a job; called by the worker, on any thread."""

    def __init__(self, database: _zeolite.Database, step: Step, files: Files | None, remembers: bool = True):
        self._objects = _zeolite.Objects(database)
        self._step = step
        #: Where blobs are; none: steps meet none.
        self._files = files
        #: Connections that no chunk uses, each with the overlay of the last one.
        self._idle: list[tuple[Any, Overlay]] = []
        #: Of a whole plan in one commit it has to be known what steps read: then nothing is remembered.
        self._remembers = remembers

    def __call__(
        self, snapshot: _zeolite.Snapshot, asked: list[Asked]
    ) -> tuple[list[Told], dict[bytes, tuple[bytes, bytes | None]], list[bytes], list[bytes]]:
        """What each has done; all that was written, with the blobs; what has to be current; what was read beside the objects."""
        ahead = {oid: (data, serial) for oid, data, serial, _, _ in asked}
        overlay = Overlay(snapshot, self._objects, ahead, self._files)
        try:
            with self._connected(overlay) as connection:
                results = []
                for one in asked:
                    results.append(self._one(one, connection, overlay))
                    if len(results) % COLLECT == 0:
                        connection.cacheGC()
        finally:
            overlay.ended()
        blobs = {oid: blob for oid, (blob, _) in overlay.blobs.items()}
        written = {oid: (data, blobs.get(oid)) for oid, (data, _) in overlay.records.items()}
        return results, written, [oid for oid in overlay.checks if oid not in written], list(overlay.read)

    @contextmanager
    def _connected(self, overlay: Overlay) -> Iterator[Any]:
        """A connection on the chunk; here one that nobody else uses. What fails beside the steps ends it."""
        try:
            connection, last = self._idle.pop()
        except IndexError:
            database = DB(overlay, cache_size=CACHED, pool_size=1, databases=Databases(), database_name=OWN)
            connection = database.open(transaction_manager=transaction.TransactionManager())
            # What it looks at to begin with no step has seen.
            overlay.read.clear()
        else:
            self._remind(overlay, last)
            connection._storage = connection._normal_storage = overlay
        try:
            yield connection
            connection.transaction_manager.abort()
            connection.cacheGC()
        except BaseException:
            self._end(connection)
            raise
        self._idle.append((connection, overlay))

    def _remind(self, overlay: Overlay, last: Overlay | None) -> None:
        """Tells the connection of the last chunk what it must not remember."""
        since = overlay.snapshot.since(last.snapshot) if last is not None and self._remembers else None
        if last is not None and since is not None:
            overlay.stale = [*since, *last.records]
            overlay.is_warm = True

    def close(self) -> None:
        """No chunk comes any more."""
        while self._idle:
            self._end(self._idle.pop()[0])

    @staticmethod
    def _end(connection: Any) -> None:
        connection.transaction_manager.abort()
        database = connection.db()
        connection.close()
        database.close()

    def _object(self, connection: Any, oid: bytes) -> Any:
        """What the step is given."""
        return connection.get(oid)

    def _one(self, asked: Asked, connection: Any, overlay: Overlay) -> Told:
        oid, _, _, former, is_stepped = asked
        manager, overlay.share, overlay.own = connection.transaction_manager, [], oid
        obj: Any = None
        try:
            manager.begin()
            obj, given, tx = connection.get(oid), self._object(connection, oid), Tx(connection)
            if former is not None and self._step.taking_back is not None:
                self._step.taking_back(self._as_left(oid, obj, former, connection), tx)
            if is_stepped:
                if _is_persistent(obj):
                    obj._p_activate()
                self._step(given, tx)
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
        finally:
            # Another step that reads it loads it again, and that is seen.
            if _is_persistent(obj):
                obj._p_deactivate()
        return overlay.share, overlay.may_know_more()

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
