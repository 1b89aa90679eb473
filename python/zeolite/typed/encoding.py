"""Owns the bytes below all shapes: CBOR behind its tag, the numbers of postcard, and what is found while a value is written, or read."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from datetime import datetime, timezone
from typing import Any

import cbor2

from zeolite.errors import BadValue, Undecodable

#: In front of data in CBOR: the tag of self-described CBOR.
CBOR_TAG = b"\xd9\xd9\xf7"
#: Containers within each other that the reader of CBOR takes; the record's own map is the first of them.
DEPTH_MAX = 400
#: From here on the reader is asked: some types are several containers in CBOR.
DEPTH_SURE = 100
#: Parts of one value, and containers among them: more are larger than a record may be.
PARTS_MAX = 1 << 26
CONTAINERS_MAX = 1 << 21
_CONTAINERS = (dict, list, tuple, Set, Mapping, deque, cbor2.CBORTag)


class Out:
    """What is found while a value is written: the oids and the blobs that it refers to. Without a space objects are only looked at."""

    def __init__(self, space: Any = None):
        self.space = space
        self.refs: dict[int, None] = {}
        self.blobs: dict[bytes, None] = {}

    def blob(self, blob: Any) -> str:
        """The id of a blob, as it is written."""
        if self.space is not None:
            self.space.check_database(blob)
        self.blobs[blob.id] = None
        text: str = blob.id.hex()
        return text

    def oid(self, obj: Any) -> int:
        """The oid of an object; one that is in no database yet gets one."""
        if self.space is None:
            return obj._z_oid or 0
        oid: int = self.space.oid_of(obj)
        self.refs[oid] = None
        return oid


class Unknown:
    """In the place of a space, while a value is read: finds the objects of which only their records say what they are."""

    def __init__(self) -> None:
        self.oids: list[int] = []

    def reference(self, of: Any, oid: int) -> None:
        """An object was met."""
        if not of._z_class:
            self.oids.append(oid)


class Unnamed(ValueError):
    """A reference that the header of its record does not name: whoever wrote it kept nothing alive, and pack may have taken it."""


class Named:
    """In the place of a space, while a value is read: what it refers to has to be named in the header of its record."""

    def __init__(self, space: Any, refs: list[int]):
        self.space = space
        self._refs = frozenset(refs) if len(refs) > 8 else refs

    def check(self, oid: int) -> None:
        """Refuses the reference."""
        if oid not in self._refs:
            raise Unnamed(f"it refers to {oid:x}, which the header of the record does not name: what is there may be another's, or be gone")

    def reference(self, of: Any, oid: int) -> Any:
        """The object."""
        self.check(oid)
        return self.space.reference(of, oid)


class Source:
    """Bytes in postcard, read from the front."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def raw(self, count: int) -> bytes:
        """The next so many bytes."""
        raw = self.data[self.at : self.at + count]
        if len(raw) != count:
            raise ValueError("it ends in the middle of a value")
        self.at += count
        return raw

    def varint(self) -> int:
        """The next number."""
        number = shift = 0
        while True:
            byte = self.raw(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def shown(value: Any) -> str:
    """A value in the text of an error: some have no text, as what is nested without end, or a number of ten thousand digits."""
    try:
        return f"{value!r:.100}"
    except Exception:
        return f"a value of {type(value).__name__}"


def encoded(text: str) -> bytes:
    """A text in UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = f"half of a character ({text[error.start]!r})"
        raise BadValue(f"{text!r:.100} has {half}, which UTF-8 does not have: decode the text as what it was") from None


def exact(number: float) -> float:
    """A float; an integer is one where nothing of it is lost."""
    try:
        same = float(number)
    except OverflowError:
        raise BadValue(f"{shown(number)} is larger than any float") from None
    if same != number and number == number:
        raise BadValue(f"{shown(number)} is no float, the nearest is {same:.0f}: say float(...) where that is meant")
    return same


def in_utc(value: datetime) -> datetime:
    """The same moment in UTC."""
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise BadValue(f"{value!r} is, in UTC, before the year 1 or after 9999") from None


def _depth(value: Any) -> int:
    """How many containers are within each other. It calls itself for none of them: so many calls would end the process."""
    waiting, depth, parts, containers = [(value, 1)], 0, 0, 0
    while waiting:
        one, level = waiting.pop()
        if isinstance(one, Mapping):
            inner: Any = [*one.keys(), *one.values()]
        else:
            inner = [one.value] if isinstance(one, cbor2.CBORTag) else one if isinstance(one, _CONTAINERS) else None
        if inner is None:
            continue
        depth, parts, containers = max(depth, level), parts + len(inner), containers + 1
        if level >= DEPTH_MAX:
            raise BadValue(_TOO_DEEP)
        if parts > PARTS_MAX or containers > CONTAINERS_MAX:
            raise BadValue(f"it has more than {PARTS_MAX} parts, or {CONTAINERS_MAX} containers; put them into a collection")
        waiting.extend((part, level + 1) for part in inner if isinstance(part, _CONTAINERS))
    return depth


_TOO_DEEP = f"it is nested more than {DEPTH_MAX - 1} deep, or within itself, and nobody could read it again; make objects of its parts"


def readable(value: Any) -> Any:
    """The same value, if CBOR has it and it can be read again."""
    is_deep = _depth(value) > DEPTH_SURE
    data = dumped([value])
    if is_deep:
        try:
            cbor2.loads(data[len(CBOR_TAG) :])
        except Exception:
            raise BadValue(_TOO_DEEP) from None
    return value


def dumped(plain: Any) -> bytes:
    """Plain values in CBOR."""
    try:
        return CBOR_TAG + cbor2.dumps(plain)
    except Exception as error:
        raise BadValue(f"a value cannot be written in CBOR: {error}") from error


def loaded(data: bytes, what: str) -> Any:
    """Plain values from CBOR."""
    if not data.startswith(CBOR_TAG):
        raise Undecodable(f"the data of {what} is no CBOR (it does not begin with d9 d9 f7): a class that Python reads has that codec")
    try:
        return cbor2.loads(data[len(CBOR_TAG) :])
    except Exception as error:
        raise Undecodable(f"the data of {what} is damaged CBOR: {error}") from error
