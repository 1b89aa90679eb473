"""Owns what the package's errors are for ZODB: each is both, an error of ``zeolite.errors`` by its remedy, and one of ZODB's.

What can be run again is a ``TransientError``, which the transaction managers of Zope and Pyramid do by themselves.
"""

from __future__ import annotations

from ZODB.POSException import (
    ConflictError,
    ReadConflictError,
    ReadOnlyError,
    StorageError,
    UndoError,
)
from ZODB.utils import p64
from transaction.interfaces import TransientError

from zeolite import errors


class CommitLost(errors.Retry, StorageError, TransientError):
    """The server has given the transaction up between its two phases: nothing of it was committed."""


class SnapshotLost(errors.ReopenSnapshot, ReadConflictError):
    """What the transaction reads was packed, or the database behind the address is another one."""


class Unavailable(errors.Wait, StorageError, TransientError):
    """The server is busy or going down, does not answer in time, or its disk is full."""


class Disconnected(errors.Disconnected, StorageError, TransientError):
    """No connection to the server within the time limit."""


class ReadOnlyNow(errors.ReadOnly, ReadOnlyError):
    """The database takes no writes now; the text has the operator's banner."""


class Refused(errors.FixRequest, StorageError):
    """The request itself is wrong."""


class Gated(errors.Gated, StorageError):
    """This program is older than the shape of what it would write."""


class Forked(errors.Forked, StorageError):
    """Begun in the parent process: begin a new transaction in this one."""


class Broken(errors.GiveUp, StorageError):
    """An operator has to act."""


class OutcomeUnknown(errors.AskOutcome, StorageError):
    """Whether the transaction was committed is not known: it must not simply be run again."""


class Unscannable(errors.Unscannable, StorageError):
    """Class or references of a record cannot be found: it is refused."""


_CLASSES: list[tuple[type[errors.ZeoliteError], type[errors.ZeoliteError]]] = [
    (errors.Gated, Gated),
    (errors.Forked, Forked),
    (errors.Unscannable, Unscannable),
    (errors.Disconnected, Disconnected),
    (errors.ReadOnly, ReadOnlyNow),
    (errors.Retry, CommitLost),
    (errors.ReopenSnapshot, SnapshotLost),
    (errors.Wait, Unavailable),
    (errors.FixRequest, Refused),
    (errors.GiveUp, Broken),
    (errors.AskOutcome, OutcomeUnknown),
]


def zodb_error(error: errors.ZeoliteError) -> Exception:
    """The same for ZODB."""
    if isinstance(error, errors.Retry) and error.oid is not None:
        oid = error.oid if error.oid == 0 else error.oid - 15
        of = ReadConflictError if error.kind == "read conflict" else ConflictError
        return of(str(error), oid=p64(max(oid, 0)), serials=(p64(error.newest), p64(error.base)))
    if error.kind == "undo blocked":
        return UndoError(str(error))
    for ours, theirs in _CLASSES:
        if isinstance(error, ours):
            made = theirs(str(error))
            made.__dict__.update(error.__dict__)
            return made
    return error
