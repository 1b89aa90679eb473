"""Owns the causes of conflict errors: who met whom, in what, and why it could not be merged.

    one document   both have written one document, or an entry of its own: that is between them, whatever the storage
    a tree         both have changed something of one BTree; Zeolite says by which rule of BTrees it is refused

Who the other one was is found afterwards, by the note of the transaction that the error names.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from ZODB.POSException import ConflictError, ReadConflictError

#: The notes of live transactions.
LIVE = "live"
#: Whoever else was faster.
EVOLVE = "the evolve"
#: What both have written.
DOCUMENT = "one document of both"


def told(error: ConflictError, connection: Any, serials: dict[Any, bytes]) -> tuple[str, str, bool, bytes | None]:
    """Of an error, in a new transaction: class, reason, whether a document was written by both, the newest transaction in the way."""
    both = False
    for document, serial in serials.items():
        document._p_activate()
        both |= document._p_serial != serial
    name = error.class_name or (type(connection.get(error.oid)).__name__ if error.oid else "?")
    why = getattr(error, "why", None) or ""
    numbers = re.findall(r"reason (\d+)", why)
    if "not replayed: " in why and numbers:
        reason = f"not replayed for reason {numbers[-1]}"
    elif "not replayed: " in why:
        reason = "not replayed: " + why.rpartition("not replayed: ")[2]
    else:
        reason = f"reason {numbers[-1]}" if numbers else ""
    read = "read of " if isinstance(error, ReadConflictError) else ""
    return read + name.rpartition(".")[2], reason, both, error.serials[0] if error.serials else None


def table(storage: Any, errors: list[tuple[str, str, bool, bytes | None]]) -> Counter[tuple[str, str, str]]:
    """How often: against whom, in what, why."""
    notes: dict[bytes | None, str] = {None: "?"}
    causes: Counter[tuple[str, str, str]] = Counter()
    for name, reason, both, tid in errors:
        if tid not in notes:
            found = [transaction.description for transaction in storage.iterator(tid, tid)]
            notes[tid] = LIVE if found and LIVE in str(found[0]) else EVOLVE
        causes[(notes[tid], DOCUMENT if both else f"a tree: {name}", "" if both else reason)] += 1
    return causes
