"""Owns the vote, and with it the resolution of conflicts by the application's own classes.

    hold ──> stale                 everything is held, nobody can write it any more
      newest states of the stale   one load
      _p_resolveConflict           of their classes, here
    amend ──> stale                once more, unless a class has refused

What the server itself has decided, by BTrees' rules, is not asked again: its reason is in the error (``why``).

Since everything is held, nothing moves on meanwhile: one amendment is enough. What only was read (``readCurrent``) is never resolved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ZODB.ConflictResolution import tryToResolveConflict
from ZODB.POSException import ConflictError, POSKeyError, ReadConflictError
from ZODB.utils import p64, u64, z64

if TYPE_CHECKING:
    from .storage import Storage

#: Beyond this something is wrong: what is held does not move on.
ROUNDS_MAX = 3


def vote(storage: Storage, staged: Any) -> list[bytes]:
    """The first phase; the oids whose records are not what was stored."""
    stale = staged.vote()
    resolved: set[bytes] = set()
    for _ in range(ROUNDS_MAX):
        if not stale:
            merged = staged.native.merged() if hasattr(staged, "native") else []
            return [*resolved.union(merged)]
        resolved.update(_resolve(storage, staged, stale))
        stale = staged.native.amend()
    raise _conflict(stale[0])


def _conflict(stale: Any) -> ConflictError:
    """Of an object that moved on; its ``why`` is what the server says of it."""
    oid, base, newest, written, data, why = stale
    serials = (p64(newest), p64(base))
    if written:
        error = ConflictError(oid=oid, serials=serials, data=data)
    else:
        error = ReadConflictError(oid=oid, serials=serials)
    error.why = why
    if why:
        error.message = f"{error.message}: {why}"
    return error


class _Known:
    """What ZODB's driver asks a storage for: former states, most often from the cache."""

    def __init__(self, storage: Storage):
        self._objects = storage._objects
        self._crs_transform_record_data = storage._crs_transform_record_data
        self._crs_untransform_record_data = storage._crs_untransform_record_data

    def loadSerial(self, oid: bytes, serial: bytes) -> bytes:
        data, found, _ = self._objects.before(oid, p64(u64(serial) + 1))
        if data is None or p64(found) != serial:
            raise POSKeyError(oid)
        return data


def _resolve(storage: Storage, staged: Any, stale: list[Any]) -> list[bytes]:
    for one in stale:
        oid, base, _, written, data, why = one
        # What the server has refused by the rules of its class, Python would refuse after another round trip.
        if not written or why or data is None or (p64(base) == z64 and oid != z64):
            raise _conflict(one)
    oids = [oid for oid, *_ in stale]
    known = _Known(storage)
    states = storage._objects.newest(oids, max(newest for _, _, newest, *_ in stale))
    for one, (committed, serial) in zip(stale, states):
        oid, base, _, _, data, _ = one
        if committed is None:
            raise _conflict(one)
        if p64(base) == z64:
            # Two processes that open a new database at once both make its root.
            if committed != data:
                raise ConflictError(oid=oid, serials=(p64(serial), z64), data=data)
            staged.native.resolved(oid, serial, data)
            continue
        made = tryToResolveConflict(known, oid, p64(serial), p64(base), data, committed)
        staged.native.resolved(oid, serial, made)
    return oids
