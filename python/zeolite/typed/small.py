"""Owns the small set and the small list: all items in one record, changed by operations that never conflict.

One load brings all of it, and each change rewrites all of it: for tags and permissions, up to 1 MiB. What grows belongs into a ``Set`` or a
``List``, whose items are entries. docs/resolvers.md has the layout; an item is its value in postcard with the oids that it refers to.

    data       01 | number of items u32 | for each: its length u32, how many references u16, its bytes
    operation  01 | for each change of a set 01 (add) or 02 (remove) | an item, and its references
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from zeolite.errors import BadValue, Undecodable, WrongClass

from .annotations import shape_of
from .collections import FORMAT, Collection
from .encoding import Named, Out, Source, Unknown

V = TypeVar("V")

_ADD, _REMOVE = b"\1", b"\2"


class _Small(Collection, Generic[V]):
    _z_default = (str,)
    _z_empty = FORMAT + struct.pack("<I", 0)
    _z_shape: Any

    def _z_bound(self, *types: Any) -> None:
        self._z_shape = shape_of(types[0])

    def _z_item(self, value: V) -> bytes:
        """For an operation: the bytes, and what they refer to."""
        out = Out(self._z_space)
        data = self._z_shape.put(value, out)
        if out.blobs:
            raise BadValue(f"a {type(self).__name__} holds no blobs: refer to an object that has them, or use a List or a Map")
        return struct.pack("<IH", len(data), len(out.refs)) + data + b"".join(struct.pack("<Q", oid) for oid in out.refs)

    def _z_do(self, operation: bytes) -> None:
        oid = self._z_place()
        self._z_space.apply(oid, self._z_collection, FORMAT + operation)

    def _z_values(self) -> list[V]:
        found = self._z_read(b"")
        if found is None:
            return []
        if found[0] != self._z_collection:
            raise WrongClass(f"{self!r} holds class {found[0]!r}, and not {self._z_collection!r}")
        items = self._z_items(found[1])
        if self._z_shape.is_open:
            unknown = Unknown()
            for item in items:
                self._z_shape.take(Source(item), unknown)
            held = self._z_space.know(unknown.oids)
            values = self._z_taken(items, found[2])
            del held
            return values
        return self._z_taken(items, found[2])

    def _z_taken(self, items: list[bytes], refs: list[int]) -> list[V]:
        named = Named(self._z_space, refs)
        try:
            return [self._z_shape.take(Source(item), named) for item in items]
        except ValueError as error:
            raise Undecodable(f"an item of {self!r} is no {self._z_shape.name}: {error}; open it with the type that it was made with") from error

    def _z_items(self, data: bytes) -> list[bytes]:
        source = Source(data)
        try:
            if source.raw(1) != FORMAT:
                raise ValueError("its format is not 1")
            (count,) = struct.unpack("<I", source.raw(4))
            items = []
            for _ in range(count):
                length, _ = struct.unpack("<IH", source.raw(6))
                items.append(source.raw(length))
        except ValueError as error:
            raise Undecodable(f"{self!r} is damaged: {error}") from error
        return items

    def __iter__(self) -> Iterator[V]:
        return iter(self._z_values())

    def __len__(self) -> int:
        return len(self._z_values())

    def __contains__(self, value: object) -> bool:
        return value in self._z_values()


class SmallSet(_Small[V]):
    """A set in one record: adding and taking out never conflict."""

    _z_collection = "zeolite.Set"

    def add(self, member: V) -> None:
        """Puts a member in, without reading."""
        self._z_do(_ADD + self._z_item(member))

    def discard(self, member: V) -> None:
        """Takes a member out, without reading."""
        self._z_do(_REMOVE + self._z_item(member))


class SmallList(_Small[V]):
    """A list in one record, in the order of commits: appending never conflicts."""

    _z_collection = "zeolite.List"

    def append(self, value: V) -> None:
        """Puts an item at the end, without reading."""
        self._z_do(self._z_item(value))
