"""Owns what an annotation says of a value, and the two ways in which values are written.

    in an object       plain values for CBOR: texts, numbers, lists, maps; a reference is the oid, a time its text (RFC 3339)
    in a collection    postcard: one part after the other, without names or types
                         int, u64 ...   varint; signed ones zigzag      str, bytes, list, dict   behind their number
                         float          8 bytes, little endian          X | None                 00, or 01 and the value

Both are what Rust's client reads as the corresponding type (docs/clients.md). Which shape an annotation has is said in ``annotations``.
"""

from __future__ import annotations

import dataclasses
import struct
import uuid
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from zeolite.errors import BadValue

from .blobs import Blob
from .encoding import Named, Out, Source, dumped, encoded, exact, in_utc, loaded, readable, shown, varint


class Shape:
    """How values of one type are written."""

    name = ""
    #: A value can change without being assigned anew.
    mutable = False
    #: There may be objects in it of which only their records say what they are.
    is_open = False
    #: There may be objects in it.
    refers = False
    #: There may be whatever CBOR has in it.
    has_any = False

    def _like(self, *parts: Shape) -> None:
        """What is so of a part is so of the whole."""
        self.is_open = any(part.is_open for part in parts)
        self.refers = any(part.refers for part in parts)
        self.has_any = any(part.has_any for part in parts)

    def plain(self, value: Any, out: Out) -> Any:
        """The value for CBOR."""
        raise NotImplementedError

    def value(self, plain: Any, space: Any) -> Any:
        """The value of what CBOR had."""
        raise NotImplementedError

    def put(self, value: Any, out: Out) -> bytes:
        """The value in postcard."""
        raise NotImplementedError

    def take(self, source: Source, space: Any) -> Any:
        """The value in postcard's bytes."""
        raise NotImplementedError

    def wrong(self, value: Any) -> BadValue:
        """For a value of another type."""
        return BadValue(f"{shown(value)} is no {self.name}")


class Scalar(Shape):
    """A value of one type, by two functions each way."""

    def __init__(
        self,
        type_: type,
        put: Callable[[Any], bytes],
        take: Callable[[Source], Any],
        plain: Callable[[Any], Any] = lambda value: value,
        value: Callable[[Any], Any] | None = None,
    ):
        self.type: Any = type_
        self.name = type_.__name__
        self._put, self._take, self._plain, self._value = put, take, plain, value

    def _checked(self, value: Any) -> Any:
        if not isinstance(value, self.type) or (self.type is date and isinstance(value, datetime)):
            raise self.wrong(value)
        return value

    def plain(self, value: Any, out: Out) -> Any:
        return self._plain(self._checked(value))

    def value(self, plain: Any, space: Any) -> Any:
        return self._checked(plain) if self._value is None else self._value(plain)

    def put(self, value: Any, out: Out) -> bytes:
        return self._put(self._checked(value))

    def take(self, source: Source, space: Any) -> Any:
        return self._take(source)


class Int(Shape):
    """An integer of a width."""

    def __init__(self, width: str, name: str = ""):
        self.width, self.name = width, name or width
        bits = int(width[1:])
        self.low, self.high = (0, 1 << bits) if width[0] == "u" else (-1 << (bits - 1), 1 << (bits - 1))
        # A plain int of a field may as well be Rust's u64.
        self.high_of_field = 1 << 64 if name == "int" else self.high

    def plain(self, value: Any, out: Out) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value < self.high_of_field:
            raise self.wrong(value)
        return int(value)

    def value(self, plain: Any, space: Any) -> Any:
        return self.plain(plain, Out())

    def put(self, value: Any, out: Out) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value < self.high:
            raise self.wrong(value)
        if self.width in ("u8", "i8"):
            return struct.pack("B" if self.low == 0 else "b", value)
        return varint(value if self.low == 0 else value * 2 if value >= 0 else -value * 2 - 1)

    def take(self, source: Source, space: Any) -> Any:
        if self.width in ("u8", "i8"):
            return struct.unpack("B" if self.low == 0 else "b", source.raw(1))[0]
        number = source.varint()
        return number if self.low == 0 else (number >> 1) ^ -(number & 1)


class Float(Shape):
    """A float; an integer that is one is taken."""

    name = "float"

    def plain(self, value: Any, out: Out) -> Any:
        if not isinstance(value, float | int) or isinstance(value, bool):
            raise self.wrong(value)
        return exact(value)

    def value(self, plain: Any, space: Any) -> Any:
        return self.plain(plain, Out())

    def put(self, value: Any, out: Out) -> bytes:
        return struct.pack("<d", self.plain(value, out))

    def take(self, source: Source, space: Any) -> Any:
        return struct.unpack("<d", source.raw(8))[0]


class Optional(Shape):
    """Nothing, or a value."""

    def __init__(self, inner: Shape):
        self.inner, self.name, self.mutable = inner, f"{inner.name} | None", inner.mutable
        self._like(inner)

    def plain(self, value: Any, out: Out) -> Any:
        return None if value is None else self.inner.plain(value, out)

    def value(self, plain: Any, space: Any) -> Any:
        return None if plain is None else self.inner.value(plain, space)

    def put(self, value: Any, out: Out) -> bytes:
        return b"\0" if value is None else b"\1" + self.inner.put(value, out)

    def take(self, source: Source, space: Any) -> Any:
        return self.inner.take(source, space) if source.raw(1) != b"\0" else None


class Many(Shape):
    """A list, a set, or a tuple of any length."""

    def __init__(self, type_: type, inner: Shape):
        self.type: Any = type_
        self.inner = inner
        self._like(inner)
        self.name, self.mutable = f"{type_.__name__}[{inner.name}]", type_ in (list, set) or inner.mutable

    def _parts(self, value: Any) -> Any:
        if not isinstance(value, self.type):
            raise self.wrong(value)
        return sorted(value, key=repr) if self.type in (set, frozenset) else value

    def plain(self, value: Any, out: Out) -> Any:
        return [self.inner.plain(one, out) for one in self._parts(value)]

    def value(self, plain: Any, space: Any) -> Any:
        if not isinstance(plain, list):
            raise self.wrong(plain)
        return self.type(self.inner.value(one, space) for one in plain)

    def put(self, value: Any, out: Out) -> bytes:
        return varint(len(value)) + b"".join(self.inner.put(one, out) for one in self._parts(value))

    def take(self, source: Source, space: Any) -> Any:
        return self.type([self.inner.take(source, space) for _ in range(source.varint())])


class Dict(Shape):
    """A dict; in postcard as its pairs."""

    mutable = True

    def __init__(self, key: Shape, inner: Shape):
        self.key, self.inner, self.name = key, inner, f"dict[{key.name}, {inner.name}]"
        self._like(key, inner)

    def plain(self, value: Any, out: Out) -> Any:
        if not isinstance(value, dict):
            raise self.wrong(value)
        return {self.key.plain(key, out): self.inner.plain(one, out) for key, one in value.items()}

    def value(self, plain: Any, space: Any) -> Any:
        if not isinstance(plain, dict):
            raise self.wrong(plain)
        return {self.key.value(key, space): self.inner.value(one, space) for key, one in plain.items()}

    def put(self, value: Any, out: Out) -> bytes:
        if not isinstance(value, dict):
            raise self.wrong(value)
        return varint(len(value)) + b"".join(self.key.put(key, out) + self.inner.put(one, out) for key, one in value.items())

    def take(self, source: Source, space: Any) -> Any:
        return {self.key.take(source, space): self.inner.take(source, space) for _ in range(source.varint())}


class Parts(Shape):
    """A tuple, or a dataclass: a list or a map in CBOR, its parts one after the other in postcard."""

    def __init__(self, type_: type, parts: dict[str, Shape]):
        self.type: Any = type_
        self.parts, self.name = parts, type_.__name__
        frozen = type_ is tuple or type_.__dataclass_params__.frozen  # type: ignore[attr-defined]
        self.mutable = not frozen or any(part.mutable for part in parts.values())
        self._like(*parts.values())

    def _values(self, value: Any) -> list[Any]:
        # Of a class below it only what this one has would be stored.
        is_one = isinstance(value, tuple) and len(value) == len(self.parts) if self.type is tuple else type(value) is self.type
        if not is_one:
            raise self.wrong(value)
        return list(value) if self.type is tuple else [getattr(value, name) for name in self.parts]

    def plain(self, value: Any, out: Out) -> Any:
        values = [part.plain(one, out) for part, one in zip(self.parts.values(), self._values(value), strict=True)]
        return values if self.type is tuple else dict(zip(self.parts, values, strict=True))

    def value(self, plain: Any, space: Any) -> Any:
        if self.type is tuple:
            if not isinstance(plain, list) or len(plain) != len(self.parts):
                raise self.wrong(plain)
            return tuple(part.value(one, space) for part, one in zip(self.parts.values(), plain, strict=True))
        if not isinstance(plain, dict) or not plain.keys() <= self.parts.keys():
            raise self.wrong(plain)
        return self._made({name: self.parts[name].value(one, space) for name, one in plain.items()})

    def _made(self, values: dict[str, Any]) -> Any:
        fields = [field.name for field in dataclasses.fields(self.type) if field.init and field.name in values]
        return self.type(**{name: values[name] for name in fields})

    def put(self, value: Any, out: Out) -> bytes:
        return b"".join(part.put(one, out) for part, one in zip(self.parts.values(), self._values(value), strict=True))

    def take(self, source: Source, space: Any) -> Any:
        values = {name: part.take(source, space) for name, part in self.parts.items()}
        return tuple(values.values()) if self.type is tuple else self._made(values)


class Reference(Shape):
    """An object of the database."""

    refers = True

    def __init__(self, of: Any):
        self.of, self.name, self.is_open = of, of.__name__, not of._z_class

    def plain(self, value: Any, out: Out) -> Any:
        if not isinstance(value, self.of):
            raise self.wrong(value)
        return out.oid(value)

    def value(self, plain: Any, space: Any) -> Any:
        if not isinstance(plain, int) or isinstance(plain, bool):
            raise self.wrong(plain)
        return space.reference(self.of, plain)

    def put(self, value: Any, out: Out) -> bytes:
        return varint(self.plain(value, out))

    def take(self, source: Source, space: Any) -> Any:
        return space.reference(self.of, source.varint())


class OfBlob(Shape):
    """A blob, by the digits of its id."""

    name = "Blob"

    def plain(self, value: Any, out: Out) -> Any:
        if not isinstance(value, Blob):
            raise self.wrong(value)
        return out.blob(value)

    def value(self, plain: Any, space: Any) -> Any:
        id = bytes.fromhex(plain)
        if len(id) != 16:
            raise self.wrong(plain)
        return Blob(space.space if isinstance(space, Named) else space, id)

    def put(self, value: Any, out: Out) -> bytes:
        return _counted(self.plain(value, out).encode())

    def take(self, source: Source, space: Any) -> Any:
        return self.value(_text(source), space)


class Anything(Shape):
    """Whatever CBOR has; in postcard as bytes that hold CBOR."""

    name, mutable, has_any = "value of CBOR", True, True

    def plain(self, value: Any, out: Out) -> Any:
        return value  # whoever has all of it looks whether it can be read again

    def value(self, plain: Any, space: Any) -> Any:
        return plain

    def put(self, value: Any, out: Out) -> bytes:
        data = dumped(readable(value))
        return varint(len(data)) + data

    def take(self, source: Source, space: Any) -> Any:
        return loaded(source.raw(source.varint()), "a value of a collection")


def _text_of(value: str) -> str:
    if not value.isascii():
        encoded(value)
    return value


def _counted(data: bytes) -> bytes:
    return varint(len(data)) + data


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return in_utc(value).isoformat().replace("+00:00", "Z")


def _read_moment(text: str) -> datetime:
    # Python knows no more than microseconds.
    head, point, rest = text.partition(".")
    if point:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{head}.{digits[:6]:0<6}{rest[len(digits) :]}"
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _text(source: Source) -> str:
    return source.raw(source.varint()).decode()


SCALARS: dict[Any, Shape] = {
    str: Scalar(str, lambda value: _counted(encoded(value)), _text, _text_of),
    bytes: Scalar(bytes, lambda value: _counted(value), lambda source: source.raw(source.varint())),
    bool: Scalar(bool, lambda value: bytes([value]), lambda source: source.raw(1) != b"\0"),
    int: Int("i64", "int"),
    float: Float(),
    Blob: OfBlob(),
    datetime: Scalar(
        datetime, lambda value: _counted(_moment(value).encode()), lambda source: _read_moment(_text(source)), _moment, _read_moment
    ),
    date: Scalar(
        date,
        lambda value: _counted(value.isoformat().encode()),
        lambda source: date.fromisoformat(_text(source)),
        date.isoformat,
        date.fromisoformat,
    ),
    uuid.UUID: Scalar(
        uuid.UUID,
        lambda value: _counted(value.bytes),
        lambda source: uuid.UUID(bytes=source.raw(source.varint())),
        lambda value: value.bytes,
        lambda plain: uuid.UUID(bytes=plain),
    ),
}
