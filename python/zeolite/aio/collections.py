"""Owns the collections with ``await``: each is around one of ``zeolite``'s, which ``of`` gives for a field of an object.

    hits = aio.of(page.hits);  await hits.add(1);  await hits.value()
    async for key, page in titles.items(): ...           pages come loaded, many with one request
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar, overload

import zeolite
from zeolite.typed.collections import Collection, _Keyed, _Valued
from zeolite.typed.lines import _Line
from zeolite.typed.objects import Object

from .loop import run

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
T = TypeVar("T", bound=Object)

#: What a walk brings at once.
CHUNK = 100


def with_objects(values: list[V]) -> list[V]:
    """The values, with the objects among them loaded, many with one request."""
    found: list[Any] = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    objects = [one for one in found if isinstance(one, Object)]
    if objects:
        objects[0]._z_space.load(objects)
    return values


async def _walk(walk: Iterator[V]) -> AsyncIterator[V]:
    while chunk := await run(lambda: with_objects(list(islice(walk, CHUNK)))):
        for one in chunk:
            yield one


class _Around:
    def __init__(self, plain: Collection | zeolite.Blob):
        self.plain: Any = plain

    def __repr__(self) -> str:
        return f"<aio {self.plain!r}>"


class Counter(_Around):
    """See ``zeolite.Counter``."""

    async def value(self) -> int:
        """The number, with what this transaction has added."""
        number: int = await run(lambda: self.plain.value)
        return number

    async def add(self, difference: int) -> None:
        """Adds, without reading it."""
        await run(self.plain.add, difference)


class BoundedCounter(Counter):
    """See ``zeolite.BoundedCounter``."""

    async def bounds(self) -> tuple[int, int]:
        """The least and the greatest that it may be."""
        low, high = await run(lambda: (self.plain.low, self.plain.high))
        return low, high


class _Offered(_Around):
    async def value(self) -> int | None:
        """The number; None if none was ever offered."""
        number: int | None = await run(lambda: self.plain.value)
        return number

    async def offer(self, number: int) -> None:
        """Offers a number, without reading what is there."""
        await run(self.plain.offer, number)


class Greatest(_Offered):
    """See ``zeolite.Greatest``."""


class Least(_Offered):
    """See ``zeolite.Least``."""


class Blob(_Around):
    """See ``zeolite.Blob``."""

    async def length(self) -> int:
        """How many bytes it has."""
        length: int = await run(lambda: self.plain.length)
        return length

    async def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """A range of its bytes, in memory."""
        data: bytes = await run(self.plain.read, start, stop)
        return data

    async def save(self, path: str | os.PathLike[str]) -> int:
        """Writes it into a file that is not there yet; its length."""
        length: int = await run(self.plain.save, path)
        return length


class _Small(_Around, Generic[V]):
    async def values(self) -> list[V]:
        """All of it; objects are loaded."""
        return await run(lambda: with_objects(list(self.plain)))


class SmallSet(_Small[V]):
    """See ``zeolite.SmallSet``."""

    async def add(self, member: V) -> None:
        """Puts a member in."""
        await run(self.plain.add, member)

    async def discard(self, member: V) -> None:
        """Takes a member out."""
        await run(self.plain.discard, member)


class SmallList(_Small[V]):
    """See ``zeolite.SmallList``."""

    async def append(self, value: V) -> None:
        """Puts an item at the end."""
        await run(self.plain.append, value)


class _Counted(_Around):
    async def count(self) -> int:
        """Counted by going over all keys."""
        number: int = await run(self.plain.__len__)
        return number


class _AioKeyed(_Counted, Generic[K]):
    async def contains(self, key: K) -> bool:
        """Whether there is such a key."""
        return bool(await run(self.plain.__contains__, key))

    def keys(
        self, start: K | None = None, stop: K | None = None, *, prefix: K | None = None, reverse: bool = False, limit: int | None = None
    ) -> AsyncIterator[K]:
        """The keys in their order."""
        return _walk(self.plain.keys(start, stop, prefix=prefix, reverse=reverse, limit=limit))


class _AioValued(_AioKeyed[K], Generic[K, V]):
    @overload
    async def get(self, key: K) -> V | None: ...
    @overload
    async def get(self, key: K, default: D) -> V | D: ...
    async def get(self, key: K, default: Any = None) -> Any:
        """The value of a key, or the default; an object is loaded."""
        (value,) = await run(lambda: with_objects([self.plain.get(key, default)]))
        return value

    async def set(self, key: K, value: V) -> None:
        """Puts a value under a key."""
        await run(self.plain.__setitem__, key, value)

    async def remove(self, key: K) -> None:
        """Takes a key out; KeyError where it is not."""
        await run(self.plain.__delitem__, key)

    def items(
        self, start: K | None = None, stop: K | None = None, *, prefix: K | None = None, reverse: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[K, V]]:
        """Keys and values in the order of keys."""
        return _walk(self.plain.items(start, stop, prefix=prefix, reverse=reverse, limit=limit))


class Map(_AioValued[K, V]):
    """See ``zeolite.Map``."""


class Unique(_AioValued[K, V]):
    """See ``zeolite.Unique``: ``set`` raises KeyError where the key is taken."""

    async def replace(self, key: K, value: V) -> None:
        """Takes the key, whoever has it."""
        await run(self.plain.replace, key, value)


class Set(_AioKeyed[K]):
    """See ``zeolite.Set``."""

    async def add(self, member: K) -> None:
        """Puts a member in."""
        await run(self.plain.add, member)

    async def discard(self, member: K) -> None:
        """Takes a member out."""
        await run(self.plain.discard, member)


class Index(_Counted, Generic[K, T]):
    """See ``zeolite.Index``."""

    async def add(self, key: K, obj: T) -> None:
        """Puts an object under a key."""
        await run(self.plain.add, key, obj)

    async def discard(self, key: K, obj: T) -> None:
        """Takes an object away from a key."""
        await run(self.plain.discard, key, obj)

    async def find(self, key: K) -> list[T]:
        """The objects of a key, loaded."""
        return await run(lambda: with_objects(self.plain.find(key)))

    def between(
        self, start: K | None = None, stop: K | None = None, *, reverse: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[K, T]]:
        """Keys and their objects in the order of keys."""
        return _walk(self.plain.between(start, stop, reverse=reverse, limit=limit))


class List(_Counted, Generic[V]):
    """See ``zeolite.List``."""

    async def append(self, value: V) -> None:
        """Puts an item at the end."""
        await run(self.plain.append, value)

    async def newest(self, limit: int) -> list[V]:
        """The last items, the newest first."""
        return await run(lambda: with_objects(self.plain.newest(limit)))

    def __aiter__(self) -> AsyncIterator[V]:
        return _walk(iter(self.plain))


class Queue(_Counted, Generic[V]):
    """See ``zeolite.Queue``."""

    async def push(self, value: V) -> None:
        """Puts an item at the end."""
        await run(self.plain.push, value)

    async def peek(self, limit: int = 1) -> list[V]:
        """The first items, left where they are."""
        return await run(lambda: with_objects(self.plain.peek(limit)))

    async def take(self, limit: int = 1) -> list[V]:
        """The first items, taken out."""
        return await run(lambda: with_objects(self.plain.take(limit)))


@overload
def of(plain: zeolite.Counter) -> Counter: ...
@overload
def of(plain: zeolite.BoundedCounter) -> BoundedCounter: ...
@overload
def of(plain: zeolite.Greatest) -> Greatest: ...
@overload
def of(plain: zeolite.Least) -> Least: ...
@overload
def of(plain: zeolite.Blob) -> Blob: ...
@overload
def of(plain: zeolite.SmallSet[V]) -> SmallSet[V]: ...
@overload
def of(plain: zeolite.SmallList[V]) -> SmallList[V]: ...
@overload
def of(plain: zeolite.Map[K, V]) -> Map[K, V]: ...
@overload
def of(plain: zeolite.Unique[K, V]) -> Unique[K, V]: ...
@overload
def of(plain: zeolite.Set[K]) -> Set[K]: ...
@overload
def of(plain: zeolite.Index[K, T]) -> Index[K, T]: ...
@overload
def of(plain: zeolite.List[V]) -> List[V]: ...
@overload
def of(plain: zeolite.Queue[V]) -> Queue[V]: ...
def of(plain: Any) -> Any:
    """The collection, or the blob, of an object's field, with ``await``."""
    return globals()[type(plain).__name__](plain)
