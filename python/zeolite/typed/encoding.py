"""Owns the bytes below all shapes: CBOR behind its tag, the numbers of postcard, and what is found while a value is written."""

from __future__ import annotations

from typing import Any

import cbor2

from zeolite.errors import BadValue, Undecodable

#: In front of data in CBOR: the tag of self-described CBOR.
CBOR_TAG = b"\xd9\xd9\xf7"


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
