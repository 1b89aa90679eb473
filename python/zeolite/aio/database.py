"""Owns the database for asyncio: around ``zeolite.Database``, whose work runs on stacks of its own (``loop``)."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import zeolite
from zeolite.address import check_options, native
from zeolite.database import ATTEMPTS, options_of
from zeolite.errors import AskOutcome
from zeolite.typed.objects import Object
from zeolite.typed.root import Root as PlainRoot

from .collections import (
    Blob,
    BoundedCounter,
    Counter,
    Greatest,
    Index,
    Least,
    List,
    Map,
    Queue,
    Set,
    SmallList,
    SmallSet,
    Unique,
    of,
)
from .loop import Task, run, waited

of_ = of  # where a class is called so
P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T", bound=Object)
S = TypeVar("S", bound=zeolite.Space)


@options_of(native)
def connect(*address: Any, **options: Any) -> Coroutine[Any, Any, Database]:
    """Connects as ``zeolite.connect`` does; for the loop that runs."""
    return _connect(*address, **options)


async def _connect(*address: Any, **options: Any) -> Database:
    check_options(options)
    return Database(await asyncio.to_thread(native, *address, **options))


class Database:
    """A database, for one event loop. Close it, or use it in an ``async with``."""

    def __init__(self, connection: Any):
        self._keeper = Task(asyncio.get_running_loop())
        self._plain = zeolite.Database(connection, self._keeper)

    def transaction(
        self,
        *,
        note: str = "",
        user: str = "",
        deadline: float | None = None,
        attempts: int = ATTEMPTS,
        serializable: bool = False,
        fresh: bool = False,
        batch: bool = False,
    ) -> Transactions:
        """A decorator for coroutine functions, which are called again when another commit was in the way; or an ``async with``, which is
        not repeated. The keywords are those of ``zeolite.Database.transaction``."""
        plain = self._plain.transaction(
            note=note, user=user, deadline=deadline, attempts=attempts, serializable=serializable, fresh=fresh, batch=batch
        )
        return Transactions(plain)

    def snapshot(self, at: str | int | datetime | timedelta | None = None) -> Snapshots:
        """The database as it was, in an ``async with``."""
        return Snapshots(self._plain, at)

    async def outcome(self, of: AskOutcome | bytes, *, since: int = 0) -> int | None:
        """What became of a commit, see ``zeolite.Database.outcome``."""
        return await run(lambda: self._plain.outcome(of, since=since))

    async def close(self) -> None:
        """Lets go of the connection, when the commits that are on their way have come to their end. Who still reads is told (``Closed``)."""
        try:
            await self._keeper.close()
        finally:
            await asyncio.to_thread(self._plain.close)

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Root:
    """The names of a database, see ``zeolite.typed.root``."""

    def __init__(self, plain: PlainRoot):
        self._plain = plain

    async def names(self) -> list[str]:
        """All of them, in their order."""
        return await run(lambda: list(self._plain))

    async def get(self, name: str, of: type[T]) -> T | None:
        """The object of that name, loaded, if there is one."""
        return await run(lambda: _loaded(self._plain.get(name, of)))

    async def set(self, name: str, obj: Object) -> None:
        """A name for an object."""
        await run(self._plain.__setitem__, name, obj)

    async def remove(self, name: str) -> None:
        """Takes a name away."""
        await run(self._plain.__delitem__, name)

    async def counter(self, name: str) -> Counter:
        """A number that many change at once."""
        return of(await run(self._plain.counter, name))

    async def bounded(self, name: str, initial: zeolite.BoundedCounter | None = None) -> BoundedCounter:
        """A number that many change at once, and that stays within bounds; ``zeolite.bounds`` says what a new one begins with."""
        return of(await run(self._plain.bounded, name, initial))

    async def greatest(self, name: str) -> Greatest:
        """The greatest number that was ever offered."""
        return of(await run(self._plain.greatest, name))

    async def least(self, name: str) -> Least:
        """The least number that was ever offered."""
        return of(await run(self._plain.least, name))

    async def small_set(self, name: str, members: type[V]) -> SmallSet[V]:
        """A set in one record."""
        return of(await run(lambda: self._plain.small_set(name, members)))

    async def small_list(self, name: str, items: type[V]) -> SmallList[V]:
        """A list in one record."""
        return of(await run(lambda: self._plain.small_list(name, items)))

    @overload
    async def map(self, name: str) -> Map[str, Any]: ...
    @overload
    async def map(self, name: str, value: type[V]) -> Map[str, V]: ...
    @overload
    async def map(self, name: str, value: type[V], key: type[K]) -> Map[K, V]: ...
    async def map(self, name: str, value: Any = Object, key: Any = str) -> Map[Any, Any]:
        """An ordered map."""
        return of(await run(lambda: self._plain.map(name, value, key)))

    @overload
    async def unique(self, name: str) -> Unique[str, Any]: ...
    @overload
    async def unique(self, name: str, value: type[V]) -> Unique[str, V]: ...
    @overload
    async def unique(self, name: str, value: type[V], key: type[K]) -> Unique[K, V]: ...
    async def unique(self, name: str, value: Any = Object, key: Any = str) -> Unique[Any, Any]:
        """A unique index."""
        return of(await run(lambda: self._plain.unique(name, value, key)))

    @overload
    async def index(self, name: str, objects: type[T]) -> Index[str, T]: ...
    @overload
    async def index(self, name: str, objects: type[T], key: type[K]) -> Index[K, T]: ...
    async def index(self, name: str, objects: Any, key: Any = str) -> Index[Any, Any]:
        """An index of objects."""
        return of(await run(lambda: self._plain.index(name, objects, key)))

    async def set_of(self, name: str, members: type[K]) -> Set[K]:
        """An ordered set."""
        return of(await run(lambda: self._plain.set(name, members)))

    async def list(self, name: str, items: type[V]) -> List[V]:
        """A list that many append to."""
        return of(await run(lambda: self._plain.list(name, items)))

    async def queue(self, name: str, items: type[V]) -> Queue[V]:
        """A queue of items that are taken once."""
        return of(await run(lambda: self._plain.queue(name, items)))


def _loaded(obj: T | None) -> T | None:
    if obj is not None and obj._z_values is None:
        obj._z_load()
    return obj


class _Space(Generic[S]):
    def __init__(self, plain: S):
        #: The one of ``zeolite``, for plain code: ``await tx.run(function, tx.plain)``.
        self.plain = plain
        self.root = Root(plain.root)

    @property
    def tid(self) -> int:
        """The state that it reads."""
        return self.plain.tid

    @overload
    async def get(self, of: T) -> T: ...
    @overload
    async def get(self, of: type[T], oid: int) -> T: ...
    async def get(self, of: Any, oid: int | None = None) -> Any:
        """An object, loaded."""
        return await run(lambda: self.plain.get(of) if oid is None else self.plain.get(of, oid))

    async def load(self, objects: Iterable[T]) -> list[T]:
        """Loads objects together, with one request: then they can be looked at without ``await``."""
        return await run(self.plain.load, objects)

    async def index(self, of: type[T], name: str) -> Index[Any, T]:
        """The index of that name that is kept with the objects of a class."""
        return of_(await run(self.plain.index, of, name))

    async def unique(self, of: type[T], name: str) -> Unique[Any, T]:
        """The same of a unique one."""
        return of_(await run(self.plain.unique, of, name))

    async def run(self, function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
        """Calls plain code, which uses the plain objects and ``plain``; where it waits, the task does."""
        return await run(function, *arguments, **keywords)


class Snapshot(_Space[zeolite.Snapshot]):
    """The database as it was."""


class Transaction(_Space[zeolite.Transaction]):
    """Reads and writes, committed together or not at all."""

    @property
    def committed(self) -> int | None:
        """The tid of its commit; None: it is not committed, or that is not known."""
        return self.plain.committed

    async def create(self, obj: T) -> T:
        """Gives a new object its place."""
        return await run(self.plain.create, obj)

    async def delete(self, obj: Object) -> None:
        """Deletes an object."""
        await run(self.plain.delete, obj)

    async def upload(self, source: bytes | str | os.PathLike[str]) -> Blob:
        """A new blob, of bytes or of a file; ``plain`` of it is what a field takes."""
        return of(await run(self.plain.upload, source))

    def savepoint(self) -> Savepoints:
        """What has been written so far, to go back to when what stands in the ``async with`` raises."""
        return Savepoints(self.plain)

    async def rollback(self) -> None:
        """Gives up all that it wrote, without an error; it is over then."""
        self.plain.rollback()


class Savepoints:
    """A savepoint to enter."""

    def __init__(self, plain: zeolite.Transaction):
        self._plain = plain

    async def __aenter__(self) -> Savepoints:
        self._entered = await run(self._plain.savepoint)
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await run(self._entered.__exit__, *raised)

    async def rollback(self) -> None:
        """Takes back what was written since it was entered."""
        await run(self._entered.rollback)


class Snapshots:
    """A snapshot to enter."""

    def __init__(self, plain: zeolite.Database, at: Any):
        self._plain, self._at = plain, at

    async def __aenter__(self) -> Snapshot:
        self._entered = await run(self._plain.snapshot, self._at)
        return Snapshot(self._entered)

    async def __aexit__(self, *_: object) -> None:
        self._entered.close()


class Transactions:
    """How transactions are done; made by ``Database.transaction``."""

    def __init__(self, plain: zeolite.Transactions):
        self._plain = plain

    def __call__(self, function: Callable[Concatenate[Transaction, P], Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """The coroutine function in a transaction of its own, each time that it is called."""

        @functools.wraps(function)
        async def called(*arguments: P.args, **keywords: P.kwargs) -> R:
            return await run(
                self._plain.run, lambda tx: waited(function(Transaction(tx), *arguments, **keywords))
            )  # fmt: skip

        return called

    async def __aenter__(self) -> Transaction:
        return Transaction(await run(self._plain.__enter__))

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await run(self._plain.__exit__, kind, *rest)
