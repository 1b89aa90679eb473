"""Owns the collections whose items stand in the order of their commits, under keys that the server completes: many append at once.

    List[V]    stays; what its own transaction has appended comes last
    Queue[V]   each item is taken once; what is pushed can be taken once it is committed
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Generic, TypeVar

from .annotations import shape_of
from .collections import ENTRY, FORMAT, Collection, Entry
from .encoding import Out

V = TypeVar("V")


class _Line(Collection, Generic[V]):
    """Items in the order of their commits; the server completes their keys."""

    _z_default = (str,)
    _z_item: ClassVar[str] = ENTRY
    _z_shape: Any

    def _z_bound(self, *types: Any) -> None:
        self._z_shape = shape_of(types[0])
        self._z_is_open, self._z_refers = self._z_shape.is_open, self._z_shape.refers

    def _z_look_at(self, entry: Entry, space: Any) -> None:
        if entry[1]:
            self._z_value_in(self._z_shape, self._z_item, entry[1:], space)

    def _z_append(self, value: V) -> None:
        oid, out = self._z_place(), Out(self._z_space)
        data = self._z_shape.put(value, out)
        self._z_space.put_stamped(oid, self._z_item, out, FORMAT + data, value)

    def _z_items(self, reverse: bool = False, limit: int | None = None) -> Iterator[tuple[bytes, V]]:
        for key, cls, data, refs in self._z_walk(reverse=reverse, limit=limit):
            yield key, self._z_value(self._z_shape, self._z_item, (cls, data, refs))


class List(_Line[V]):
    """A list that many append to at once, in the order of their commits. What its own transaction has appended comes last."""

    _z_collection = "zeolite.Sequence"

    def append(self, value: V) -> None:
        """Puts an item at the end, without reading."""
        self._z_append(value)

    def _z_own(self) -> list[V]:
        own: list[V] = self._z_space.appended(self._z_oid)
        return own

    def __iter__(self) -> Iterator[V]:
        yield from (value for _, value in self._z_items())
        yield from self._z_own()

    def __len__(self) -> int:
        """Counted by going over all keys."""
        return sum(1 for _ in self._z_walk(keys_only=True)) + len(self._z_own())

    def __bool__(self) -> bool:
        return bool(self._z_own()) or next(self._z_walk(keys_only=True, limit=1), None) is not None

    def newest(self, limit: int) -> list[V]:
        """The last items, the newest first."""
        own = self._z_own()[::-1][:limit]
        return own + [value for _, value in self._z_items(reverse=True, limit=limit - len(own))]

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Items with their keys, which are there once they are committed."""
        return self._z_items()

    def replace(self, key: bytes, value: V) -> None:
        """Another item at the place of a key."""
        out = Out(self._z_space)
        data = self._z_shape.put(value, out)
        self._z_put(key, ENTRY, out, data)

    def remove(self, key: bytes) -> None:
        """Takes the item of a key out."""
        self._z_delete(key)


class Queue(_Line[V]):
    """Items that are taken once: two transactions that take the same one conflict. What is pushed can be taken once it is committed."""

    _z_collection = "zeolite.Queue"
    _z_item = "zeolite.QueueItem"

    def push(self, value: V) -> None:
        """Puts an item at the end, without reading."""
        self._z_append(value)

    def peek(self, limit: int = 1) -> list[V]:
        """The first items, left where they are."""
        return [value for _, value in self._z_items(limit=limit)]

    def take(self, limit: int = 1) -> list[V]:
        """The first items, taken out."""
        items = list(self._z_items(limit=limit))
        for key, _ in items:
            self._z_delete(key)
        return [value for _, value in items]

    def __len__(self) -> int:
        return sum(1 for _ in self._z_walk(keys_only=True))
