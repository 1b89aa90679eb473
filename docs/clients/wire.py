"""What Zeolite's records and keys are made of, in plain Python: a reference for other languages, not a client library.

Everything here is held against ``tests/vectors/*.json``, which the Rust library is held against too. The page that explains it is
docs/clients.md. Integers are little endian in records and operations, big endian in keys.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

# ---------------------------------------------------------------- records


class Record(NamedTuple):
    """What a cell holds: a header that the server reads, and data that it does not."""

    cls: str
    version: int
    data: bytes
    refs: tuple[int, ...] = ()  # the oids that the data refers to
    blobs: tuple[bytes, ...] = ()  # 16 bytes each


def encode_record(record: Record) -> bytes:
    name = record.cls.encode()
    head = struct.pack("<BB", 2 if record.blobs else 1, len(name)) + name
    head += struct.pack(f"<II{len(record.refs)}Q", record.version, len(record.refs), *record.refs)
    if record.blobs:
        head += struct.pack("<H", len(record.blobs)) + b"".join(record.blobs)
    return head + record.data


def decode_record(encoded: bytes) -> Record:
    if encoded[0] not in (1, 2):
        raise ValueError(f"a record of format {encoded[0]}; this reads 1 and 2")
    at = 2 + encoded[1]
    cls = encoded[2:at].decode()
    version, count = struct.unpack_from("<II", encoded, at)
    refs = struct.unpack_from(f"<{count}Q", encoded, at + 8)
    at += 8 + 8 * count
    blobs: tuple[bytes, ...] = ()
    if encoded[0] == 2:
        (count,) = struct.unpack_from("<H", encoded, at)
        blobs = tuple(encoded[at + 2 + 16 * n : at + 18 + 16 * n] for n in range(count))
        at += 2 + 16 * count
    return Record(cls, version, encoded[at:], refs, blobs)


# ---------------------------------------------------------------- keys: the order of the bytes is the order of the values

WIDTHS = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16}
PARTS = {"time": ["i64", "u32"], "day": ["i16", "u8", "u8"]}


def encode_key(kind: Any, value: Any, last: bool = True) -> bytes:
    """A key of a type; a list of types is a tuple.

    ``"u64"``, ``"i32"``, ``"bool"``, ``"oid"``, ``"str"``, ``"bytes"``, ``"char"``, ``"f64"``, ``"option<u64>"``, ``"fixed"`` (bytes of
    one length, a UUID), ``"time"`` (seconds and nanoseconds), ``"day"`` (year, month, day).
    """
    if isinstance(kind, list):
        parts = [encode_key(one, part, last=False) for one, part in zip(kind[:-1], value[:-1])]
        return b"".join(parts) + encode_key(kind[-1], value[-1], last)
    if kind in ("str", "bytes"):
        data = value.encode() if kind == "str" else value
        if not last:
            return data.replace(b"\0", b"\0\1") + b"\0\0"
        return data if data and data[0] else b"\0" + data  # never empty: the empty key is the object itself
    if kind == "bool":
        return bytes([value])
    if kind == "fixed":
        return value
    if kind == "char":
        return encode_key("u32", ord(value))
    if kind in PARTS:
        return encode_key(PARTS[kind], value, last)
    if kind.startswith("option<"):
        return b"\0" if value is None else b"\1" + encode_key(kind[7:-1], value, last)
    if kind in ("f32", "f64"):
        bits = struct.pack(">f" if kind == "f32" else ">d", value)
        turned = [byte ^ 0xFF for byte in bits] if bits[0] & 0x80 else [bits[0] ^ 0x80, *bits[1:]]
        return bytes(turned)
    width = WIDTHS["64" if kind == "oid" else kind[1:]]
    if kind[0] == "i":
        value += 1 << (8 * width - 1)  # the sign bit is turned
    return int(value).to_bytes(width, "big")


# ---------------------------------------------------------------- postcard: the values in collections, and in most objects


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, the eighth says that more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def encode_value(kind: str, value: Any) -> bytes:
    """A value in postcard: its parts one after the other, with neither names nor types."""
    outer, _, inner = kind.removesuffix(">").partition("<")
    if kind in ("u8", "i8"):
        return struct.pack("B" if kind == "u8" else "b", value)
    if kind[0] == "u" and kind[1:] in WIDTHS:
        return varint(value)
    if kind[0] == "i" and kind[1:] in WIDTHS:
        return varint(value * 2 if value >= 0 else -value * 2 - 1)  # zigzag
    if kind == "bool":
        return bytes([value])
    if kind == "f64":
        return struct.pack("<d", value)
    if kind in ("str", "bytes"):
        data = value.encode() if kind == "str" else value
        return varint(len(data)) + data
    if outer == "option":
        return b"\0" if value is None else b"\1" + encode_value(inner, value)
    if outer == "list":
        return varint(len(value)) + b"".join(encode_value(inner, one) for one in value)
    if outer == "tuple":  # and a struct: its fields in the order of their declaration
        return b"".join(encode_value(one, part) for one, part in zip(inner.split(","), value))
    raise ValueError(kind)


def read_varint(data: bytes, at: int = 0) -> tuple[int, int]:
    """The number, and where what follows it begins."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def read_text(data: bytes, at: int = 0) -> tuple[str, int]:
    length, at = read_varint(data, at)
    return data[at : at + length].decode(), at + length


# ---------------------------------------------------------------- the built-in classes

FORMAT = b"\1"  # in front of the data and the operations of each of them
CBOR = b"\xd9\xd9\xf7"  # in front of data in CBOR: tag 55799


def number(value: int) -> bytes:
    """The data of a Counter, a Min, a Max; and an operation on one of them: what is added, or offered."""
    return FORMAT + struct.pack("<q", value)


def bounded(value: int, low: int, high: int) -> bytes:
    return FORMAT + struct.pack("<qqq", value, low, high)


def items(members: list[bytes]) -> bytes:
    """The data of a List, and of a Set, whose members ascend; an operation that appends to a List looks the same."""
    packed = (struct.pack("<IH", len(member), 0) + member for member in members)
    return FORMAT + struct.pack("<I", len(members)) + b"".join(packed)


def set_change(member: bytes, add: bool, refs: tuple[int, ...] = ()) -> bytes:
    """The operation that adds a member to a Set, or takes it out."""
    head = struct.pack("<BIH", 1 if add else 2, len(member), len(refs))
    return FORMAT + head + member + struct.pack(f"<{len(refs)}Q", *refs)


def appended(members: list[bytes]) -> bytes:
    """The operation that appends to a List."""
    return FORMAT + b"".join(struct.pack("<IH", len(member), 0) + member for member in members)


COLLECTION = FORMAT  # the data of the object of a Map, Index, UniqueIndex, Members, Queue, Sequence


def entry(value: bytes, refs: tuple[int, ...] = (), cls: str = "zeolite.Entry") -> bytes:
    """The record of an entry: of a collection, or of a name in the root; ``value`` is in postcard."""
    return encode_record(Record(cls, 1, FORMAT + value, refs))


def root_name(name: str) -> tuple[int, bytes]:
    """The cell of a name in the root."""
    return 0, encode_key("str", name)


def named(oid: int, cls: str) -> bytes:
    """The record of a name in the root, for an object of a class."""
    return entry(encode_value("tuple<u64,str>", (oid, cls)), (oid,))


def read_named(record: bytes) -> tuple[int, str]:
    """The oid and the class that a name in the root stands for."""
    data = decode_record(record).data[1:]
    oid, at = read_varint(data)
    return oid, read_text(data, at)[0]
