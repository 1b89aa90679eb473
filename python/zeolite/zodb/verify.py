"""Owns the comparison of two databases, transaction by transaction and byte by byte.

Of a database of Zeolite it is also checked that the references by which the server collects garbage are those that ZODB finds in the
same pickle: what it did not know of would be collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import zip_longest
from typing import Any, Protocol

from ZODB.blob import is_blob_record
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf
from ZODB.utils import oid_repr, tid_repr
from zodbpickle.pickle import Unpickler

from .places import Place
from .staged import note

#: Bytes of blobs that are compared at once.
_PIECE = 1 << 20


class Seen(Protocol):
    """Is told what is looked at."""

    def add(self, size: int) -> None:
        """A transaction that is in both, with its bytes."""

    def add_lost(self) -> None:
        """A blob that has a file in neither."""


def differences(one: Place, other: Place, seen: Seen) -> Iterator[str]:
    """What is different, in words."""
    ours, theirs = one.transactions(references=True), other.transactions(references=True)
    left: Any = next(ours, None)
    right: Any = next(theirs, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.tid < right.tid):
            yield f"transaction {tid_repr(left.tid)} is in {one.name} only"
            left = next(ours, None)
        elif left is None or right.tid < left.tid:
            yield f"transaction {tid_repr(right.tid)} is in {other.name} only"
            right = next(theirs, None)
        else:
            yield from _of_transactions(one, left, other, right, seen)
            left, right = next(ours, None), next(theirs, None)


def _of_transactions(one: Place, left: Any, other: Place, right: Any, seen: Seen) -> Iterator[str]:
    where = f"transaction {tid_repr(left.tid)}"
    for part, mine, yours in zip(("user", "description", "extension"), note(left), note(right)):
        if mine != yours:
            yield f"{where}: {part} is {mine!r} in {one.name}, {yours!r} in {other.name}"
    ours, theirs = {row.oid: row for row in left}, {row.oid: row for row in right}
    for oid in sorted({*ours, *theirs}):
        yield from _of_records(f"{where}, object {oid_repr(oid)}", one, ours.get(oid), other, theirs.get(oid), seen)
    seen.add(sum(len(row.data or b"") for row in ours.values()))


def _of_records(where: str, one: Place, mine: Any, other: Place, yours: Any, seen: Seen) -> Iterator[str]:
    if mine is None or yours is None:
        yield f"{where} is in {(other if mine is None else one).name} only"
        return
    if mine.data != yours.data:
        yield f"{where}: {_size(mine.data)} in {one.name}, other {_size(yours.data)} in {other.name}"
    elif is_blob_record(mine.data):
        yield from _of_blobs(where, one, other, mine.oid, mine.tid, seen)
    for place, row in ((one, mine), (other, yours)):
        known = getattr(row, "references", None)
        if known is not None and row.data is not None and set(known) != _references(row.data):
            yield f"{where}: {place.name} goes by other references than ZODB finds in the pickle"


def _references(data: bytes) -> set[bytes]:
    try:
        return {*referencesf(data)}
    except UnicodeDecodeError:
        # A pickle of Python 2 with text that is not ASCII, which ZODB cannot read on Python 3: read the same way, as Latin-1.
        told: list[Any] = []
        unpickler = Unpickler(BytesIO(data), encoding="latin-1")
        unpickler.persistent_load = told.append
        unpickler.noload()
        unpickler.noload()
        # Lists are weak references, and those to other databases.
        oids = [one[0] if isinstance(one, tuple) else one for one in told if not isinstance(one, list)]
        return {oid.encode("latin-1") if isinstance(oid, str) else oid for oid in oids}


def _size(data: bytes | None) -> str:
    return "a deletion" if data is None else f"{len(data)} bytes"


def _of_blobs(where: str, one: Place, other: Place, oid: bytes, tid: bytes, seen: Seen) -> Iterator[str]:
    mine, yours = _blob(one, oid, tid), _blob(other, oid, tid)
    if mine is None and yours is None:
        seen.add_lost()
    elif (mine is None) != (yours is None):
        yield f"{where}: its blob is in {(other if mine is None else one).name} only"
    elif mine is not None and yours is not None and any(a != b for a, b in zip_longest(_pieces(mine), _pieces(yours))):
        yield f"{where}: its blob differs"


def _blob(place: Place, oid: bytes, tid: bytes) -> str | None:
    try:
        return place.loadBlob(oid, tid)
    except POSKeyError:
        return None


def _pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece
