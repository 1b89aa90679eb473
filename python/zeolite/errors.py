"""Owns the exceptions: one class for each remedy, so that an ``except`` clause says what is done about it.

==================  ==========================================================================
``Retry``           another commit was in the way (``Conflict``), or a prepared one was lost: run the transaction again
``ReopenSnapshot``  the snapshot is gone: begin a new transaction
``FixRequest``      the request, the data or the program is wrong; all that are not named here are such
``Wait``            the same may succeed later; ``Disconnected``, ``ReadOnly`` and ``Deadline`` are such
``GiveUp``          somebody has to act; ``NoUpgrade`` and ``Undecodable`` are such
``AskOutcome``      the commit may or may not have happened: ``db.outcome(error)`` asks
==================  ==========================================================================
"""

from __future__ import annotations

from typing import Any


class ZeoliteError(Exception):
    """Something that this package, or the server, refused. ``kind`` is the fault's name in docs/protocol.md."""

    kind = ""
    #: For what can be waited for: when to come back; 0: no advice.
    retry_after_ms = 0


class Retry(ZeoliteError):
    """Run the transaction again on a new snapshot. For a conflict the other attributes tell the place."""

    #: Zeolite's number of the object.
    oid: int | None = None
    class_name = ""
    base = 0
    newest = 0


class Conflict(Retry):
    """Another commit has written what this one writes, or relies on having read."""


class ReopenSnapshot(ZeoliteError):
    """Take a new snapshot: begin a new transaction."""


class FixRequest(ZeoliteError):
    """The request itself is wrong."""


class Gated(FixRequest):
    """The object's shape is older than its class's gate: the writer is old code. Deploy the newer program."""


class Forked(FixRequest):
    """Begun in the parent process: begin a new transaction in this one."""


class Unscannable(FixRequest):
    """Class or references of a record cannot be found: stored without them, what it refers to would be collected by pack."""


class Over(FixRequest):
    """The transaction was committed or given up, or the snapshot was closed: begin a new one, and get its objects there."""


class Closed(FixRequest):
    """The database was closed: connect again."""


class WrongDatabase(FixRequest):
    """An object of another database: a reference never leads from one into another."""


class KeptElsewhere(FixRequest):
    """The class has indexes that this program does not know: declare them (``zeolite.indexed``), or write their entries."""


class WrongThread(FixRequest):
    """A transaction belongs to the thread, or the task, that began it; so do its objects."""


class Nested(FixRequest):
    """This thread, or task, has a transaction open on this database: hand that one on instead."""


class WouldWait(FixRequest):
    """In an event loop nothing waits on its own: use the verb of ``zeolite.aio``, or ``await tx.run(function)``."""


class BadValue(FixRequest, TypeError):
    """A value that its field, or its collection, cannot hold."""


class NotFound(FixRequest, LookupError):
    """Nothing is stored there at this snapshot."""


class WrongClass(FixRequest, TypeError):
    """What is stored there is of another class."""


class NewerVersion(FixRequest):
    """Written by a newer version of the program than this one: deploy that one here, too."""


class Taken(FixRequest, KeyError):
    """The key of a unique index is another's."""

    __str__ = Exception.__str__


class Wait(ZeoliteError):
    """The same request may succeed later."""


class Disconnected(Wait):
    """No connection within the time limit."""


class ReadOnly(Wait):
    """The database takes no writes now; the text has the operator's banner."""


class Deadline(Wait):
    """The transaction's time was over; nothing of it was committed."""


class GiveUp(ZeoliteError):
    """An operator has to act."""


class NoUpgrade(GiveUp):
    """The class has no upgrade for the version that is stored."""


class Undecodable(GiveUp):
    """The stored data is not what the class says it is."""


class AskOutcome(ZeoliteError):
    """Whether the commit happened is not known: ask ``db.outcome(error)``, or look at the data, before doing it again."""

    #: What the server knows the commit by; empty: it cannot be asked for.
    commit_key = b""
    #: The state that the transaction had read.
    since = 0


_BY_KIND: dict[str, type[ZeoliteError]] = {
    "conflict": Conflict,
    "read conflict": Conflict,
    "over": Over,
    "deadline": Deadline,
    "gated": Gated,
    "forked": Forked,
    "disconnected": Disconnected,
    "read only": ReadOnly,
    "unscannable": Unscannable,
}
_BY_REMEDY: dict[str, type[ZeoliteError]] = {
    "retry": Retry,
    "reopen snapshot": ReopenSnapshot,
    "fix request": FixRequest,
    "wait": Wait,
    "give up": GiveUp,
    "ask outcome": AskOutcome,
}


def from_native(kind: str, remedy: str, message: str, **details: Any) -> ZeoliteError:
    """The exception for an error of the native half; called by it alone."""
    error = (_BY_KIND.get(kind) or _BY_REMEDY[remedy])(message)
    error.kind = kind
    for name, value in details.items():
        setattr(error, name, value)
    return error
