"""Owns the keys of collections: the order of the bytes is the order of the values. docs/clients.md has the layouts.

    str, bytes        as they are; one zero byte in front if they are empty or begin with a zero byte
    int               8 bytes, big endian, the sign bit turned; ``zeolite.U32`` and the like have their widths
    bool, float, date, aware datetime, UUID, an object of the database, ``X | None``, tuples of these

Text and bytes in all places of a tuple but the last are closed by 00 00, and a zero byte within them is written 00 01.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

from zeolite.errors import BadValue, Undecodable

from .encoding import encoded, exact, in_utc, shown

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class KeyKind:
    """How keys of one type are written. ``last``: nothing follows."""

    name = ""
    #: What it is called in the name of an index that is kept (``KeyKind`` in Rust's client): ``text``, ``u64``, ``text,u16``.
    label = ""
    #: There may be objects in it of which only their records say what they are.
    is_open = False
    #: There may be objects in it.
    refers = False

    def put(self, value: Any, last: bool = True) -> bytes:
        """The bytes of a key."""
        raise NotImplementedError

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        """The key that begins there, and where what follows it begins."""
        raise NotImplementedError

    def refs(self, value: Any) -> list[Any]:
        """The objects in a key: an entry keeps them."""
        return []

    def read(self, data: bytes, space: Any) -> Any:
        """The key that all of the bytes are."""
        try:
            value, at = self.take(data, 0, space)
        except (struct.error, ValueError, IndexError, OverflowError) as error:
            raise self.bad(data) from error
        if at != len(data):
            raise self.bad(data)
        return value

    def bad(self, data: bytes) -> Undecodable:
        """For bytes that another type has written."""
        return Undecodable(f"the key {data!r} is no {self.name}; open the collection with the key type that it was made with")

    def wrong(self, value: Any) -> BadValue:
        """For a value of another type."""
        return BadValue(f"{shown(value)} is no {self.name}, which the keys of this collection are")


class Bytes(KeyKind):
    """Text or bytes."""

    def __init__(self, type_: type):
        self.type: Any = type_
        self.name, self.label = type_.__name__, "text" if type_ is str else "bytes"

    def put(self, value: Any, last: bool = True) -> bytes:
        if not isinstance(value, self.type):
            raise self.wrong(value)
        data: bytes = encoded(value) if isinstance(value, str) else bytes(value)
        if not last:
            return data.replace(b"\0", b"\0\1") + b"\0\0"
        return data if data and data[0] else b"\0" + data

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        if last:
            raw, end = data[at:], len(data)
            if not raw or (raw[0] == 0 and len(raw) > 1 and raw[1] != 0):
                raise self.bad(data)
            raw = raw[1:] if raw[0] == 0 else raw
        else:
            end = at
            while data[end : end + 2] != b"\0\0":
                end = data.index(b"\0", end)
                if data[end : end + 2] == b"\0\1":
                    end += 2
                elif data[end : end + 2] != b"\0\0":
                    raise self.bad(data)
            raw, end = data[at:end].replace(b"\0\1", b"\0"), end + 2
        return (raw.decode() if self.type is str else raw), end


class Number(KeyKind):
    """An integer of a width."""

    def __init__(self, name: str):
        self.name, self.label, self.bytes = name, name, int(name[1:]) // 8
        self.turned = 1 << (8 * self.bytes - 1) if name[0] == "i" else 0

    def put(self, value: Any, last: bool = True) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(value)
        try:
            return (value + self.turned).to_bytes(self.bytes, "big")
        except OverflowError:
            raise self.wrong(value) from None

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        end = at + self.bytes
        if end > len(data):
            raise self.bad(data)
        return int.from_bytes(data[at:end], "big") - self.turned, end


class Float(KeyKind):
    """A float, in total order: -0.0 is before 0.0, and another key."""

    name, label = "float", "f64"

    def put(self, value: Any, last: bool = True) -> bytes:
        if not isinstance(value, float | int) or isinstance(value, bool):
            raise self.wrong(value)
        bits = struct.pack(">d", exact(value))
        return bytes(byte ^ 0xFF for byte in bits) if bits[0] & 0x80 else bytes([bits[0] ^ 0x80]) + bits[1:]

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        bits = data[at : at + 8]
        raw = bytes([bits[0] ^ 0x80]) + bits[1:] if bits[0] & 0x80 else bytes(byte ^ 0xFF for byte in bits)
        return struct.unpack(">d", raw)[0], at + 8


class Fixed(KeyKind):
    """What has a fixed number of bytes, by two functions."""

    def __init__(self, type_: type, label: str, size: int, put: Callable[[Any], bytes], take: Callable[[bytes], Any]):
        self.type, self.label, self.size, self.name = type_, label, size, type_.__name__
        self._put, self._take = put, take

    def put(self, value: Any, last: bool = True) -> bytes:
        if type(value) is not self.type:
            raise self.wrong(value)
        return self._put(value)

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        end = at + self.size
        if end > len(data):
            raise self.bad(data)
        return self._take(data[at:end]), end


class Optional(KeyKind):
    """Nothing, which is before everything else, or a key."""

    def __init__(self, inner: KeyKind):
        self.inner, self.name, self.is_open, self.refers = inner, f"{inner.name} | None", inner.is_open, inner.refers
        self.label = f"{_inner(inner)}?"

    def put(self, value: Any, last: bool = True) -> bytes:
        return b"\0" if value is None else b"\1" + self.inner.put(value, last)

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        if data[at] > 1:
            raise self.bad(data)
        return self.inner.take(data, at + 1, space, last) if data[at] else (None, at + 1)

    def refs(self, value: Any) -> list[Any]:
        return [] if value is None else self.inner.refs(value)


class Tuple(KeyKind):
    """Several parts."""

    def __init__(self, parts: list[KeyKind]):
        self.parts, self.name = parts, f"tuple[{', '.join(part.name for part in parts)}]"
        self.label = ",".join(map(_inner, parts))
        self.is_open = any(part.is_open for part in parts)
        self.refers = any(part.refers for part in parts)

    def put(self, value: Any, last: bool = True) -> bytes:
        if not isinstance(value, tuple) or len(value) != len(self.parts):
            raise self.wrong(value)
        inner = b"".join(part.put(one, last=False) for part, one in zip(self.parts[:-1], value[:-1], strict=True))
        return inner + self.parts[-1].put(value[-1], last)

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        values = []
        for place, part in enumerate(self.parts):
            value, at = part.take(data, at, space, last and place == len(self.parts) - 1)
            values.append(value)
        return tuple(values), at

    def refs(self, value: Any) -> list[Any]:
        return [one for part, item in zip(self.parts, value, strict=True) for one in part.refs(item)]


class Reference(KeyKind):
    """An object, by its oid."""

    label, refers = "ref", True

    def __init__(self, of: Any):
        self.of, self.name, self.is_open = of, of.__name__, not of._z_class

    def put(self, value: Any, last: bool = True) -> bytes:
        if not isinstance(value, self.of):
            raise self.wrong(value)
        oid: int = value._z_oid_for_use()
        return oid.to_bytes(8, "big")

    def take(self, data: bytes, at: int, space: Any, last: bool = True) -> tuple[Any, int]:
        if at + 8 > len(data):
            raise self.bad(data)
        return space.reference(self.of, int.from_bytes(data[at : at + 8], "big")), at + 8

    def refs(self, value: Any) -> list[Any]:
        return [value]


def _inner(kind: KeyKind) -> str:
    return f"({kind.label})" if isinstance(kind, Tuple) else kind.label


def _time(value: datetime) -> bytes:
    if value.tzinfo is None:
        raise BadValue(f"{value!r} has no time zone; a point in time as a key needs one")
    since = in_utc(value) - EPOCH
    return struct.pack(">QI", since.days * 86_400 + since.seconds + (1 << 63), since.microseconds * 1000)


def _read_time(data: bytes) -> datetime:
    seconds, nanos = struct.unpack(">QI", data)
    return EPOCH + timedelta(seconds=seconds - (1 << 63), microseconds=nanos // 1000)


def _day(value: date) -> bytes:
    return struct.pack(">HBB", value.year + (1 << 15), value.month, value.day)


def _read_day(data: bytes) -> date:
    year, month, day = struct.unpack(">HBB", data)
    return date(year - (1 << 15), month, day)


def _bool(data: bytes) -> bool:
    if data not in (b"\0", b"\1"):
        raise ValueError(data)
    return data == b"\1"


KINDS: dict[Any, KeyKind] = {
    str: Bytes(str),
    bytes: Bytes(bytes),
    int: Number("i64"),
    float: Float(),
    bool: Fixed(bool, "bool", 1, lambda value: bytes([value]), _bool),
    datetime: Fixed(datetime, "timestamp", 12, _time, _read_time),
    date: Fixed(date, "date", 4, _day, _read_day),
    uuid.UUID: Fixed(uuid.UUID, "uuid", 16, lambda value: bytes(value.bytes), lambda data: uuid.UUID(bytes=data)),
}


def after(key: bytes) -> bytes:
    """The first key after this one."""
    return key + b"\0"


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key after all that begin so; none: they go on to the end."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
