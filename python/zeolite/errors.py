"""Owns the exceptions: one class for each remedy, so that an ``except`` clause says what is done about it.

==================  ==========================================================================
``Retry``           another commit was in the way, or a prepared one was lost: run the transaction again
``ReopenSnapshot``  the snapshot is gone: begin a new transaction
``FixRequest``      the request is wrong; ``Gated``, ``Forked`` and ``Unscannable`` are such
``Wait``            the same may succeed later; ``Disconnected`` and ``ReadOnly`` are such
``GiveUp``          an operator has to act
``AskOutcome``      the commit may or may not have happened
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


class Wait(ZeoliteError):
    """The same request may succeed later."""


class Disconnected(Wait):
    """No connection within the time limit."""


class ReadOnly(Wait):
    """The database takes no writes now; the text has the operator's banner."""


class GiveUp(ZeoliteError):
    """An operator has to act."""


class AskOutcome(ZeoliteError):
    """Whether the commit happened is not known: look at the data before doing it again."""

    commit_key = b""


_BY_KIND: dict[str, type[ZeoliteError]] = {
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
