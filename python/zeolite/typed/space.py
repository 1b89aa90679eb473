"""Owns transactions and snapshots as programs have them: objects and collections at one state of the database, and what is written there.

    Space         objects by their oids, each once; loaded when they are looked at
      Snapshot      an older state, or the newest: read only, kept from pack until it is closed
      Transaction   reads and writes; what changed is written at the commit

A space belongs to a *keeper*: the thread that began it, or the task of an event loop (``zeolite.aio``). It holds what was changed or looked
at in it; everything else goes when the program lets go of it, and is read again, from the cache.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar, overload
from weakref import WeakValueDictionary

from zeolite import _zeolite
from zeolite.errors import (
    AskOutcome,
    BadValue,
    FixRequest,
    Forked,
    KeptElsewhere,
    NotFound,
    Over,
    WrongClass,
    WrongDatabase,
    WrongThread,
    ZeoliteError,
)

from .encoding import shown
from .objects import Object, Parts, known
from .root import Root

Obj = TypeVar("Obj", bound=Object)
Answer = Any


class Keeper(Protocol):
    """Who uses a space, and how he waits."""

    #: Where answers are told; none: he waits for each.
    bridge: _zeolite.Bridge | None

    def here(self) -> object:
        """Who asks now."""

    def may_wait(self) -> None:
        """Refuses what could wait where nothing may."""

    def wait(self, answer: _zeolite.Pending, to_the_end: bool = False) -> Any:
        """The answer, when it has come. To the end: also when nobody wants it any more."""

    def sleep(self, seconds: float) -> None:
        """Later."""


class Thread:
    """The keeper of plain programs: a thread, which waits for each answer, without the interpreter's lock."""

    bridge: _zeolite.Bridge | None = None

    def here(self) -> object:
        return os.getpid(), threading.get_ident()

    def may_wait(self) -> None:
        """It may."""

    def wait(self, answer: _zeolite.Pending, to_the_end: bool = False) -> Any:
        raise AssertionError("nothing is told to a thread")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Space:
    """Objects and collections at one state of the database."""

    def __init__(self, native: _zeolite.Tx, keeper: Keeper):
        self._native = native
        self._keeper = keeper
        self._by = keeper.here()
        self._objects: WeakValueDictionary[int, Object] = WeakValueDictionary()
        self._store = native.store_id()
        self._open = True
        #: The state that it reads: the number of the newest commit in it.
        self.tid = native.snapshot()
        #: The names of the database: ``space.root.unique("titles")``.
        self.root = Root(self)

    @overload
    def get(self, of: Obj) -> Obj: ...
    @overload
    def get(self, of: type[Obj], oid: int) -> Obj: ...
    def get(self, of: Any, oid: int | None = None) -> Any:
        """An object by its class and oid; or one that was got elsewhere, as it is here. NotFound where there is none."""
        self.check()
        if oid is None:
            if not isinstance(of, Object) or of._z_oid is None:
                raise BadValue(f"{shown(of)} is no object of the database; get it by class and oid")
            self.check_database(of)
            of, oid = type(of), of._z_oid
        obj = self.reference(of, oid)
        if obj._z_values is None:
            self.load_object(obj)
        return obj

    def load(self, objects: Iterable[Obj]) -> list[Obj]:
        """Loads objects of this space together, with one request, before they are looked at one by one."""
        objects = list(objects)
        wanted = list({obj._z_oid: obj for obj in objects if obj._z_values is None and obj._z_oid is not None}.values())
        if wanted:
            self.check()
            self._keeper.may_wait()
            records = self._answer(self._native.get_many([obj._z_oid or 0 for obj in wanted]))
            for obj, record in zip(wanted, records, strict=True):
                self._fill(obj, record)
        return objects

    # What objects and collections ask for

    def check(self) -> None:
        """Refuses whoever has not begun it, and what comes after its end."""
        here = self._keeper.here()
        if self._by != here:
            if isinstance(self._by, tuple) and isinstance(here, tuple) and self._by[0] != here[0]:
                raise Forked(f"this {type(self).__name__.lower()} was begun in process {self._by[0]}, before a fork; begin one here")
            raise WrongThread(
                f"this {type(self).__name__.lower()} was begun by another thread or task; begin one here, and get its objects there (get)"
            )
        if not self._open:
            raise Over(f"this {type(self).__name__.lower()} is over; begin a new one, and get its objects there (get)")

    def check_database(self, obj: Object) -> None:
        """Refuses an object of another database."""
        if not isinstance(obj, Object):
            told = f"the class {obj.__name__}; make an object of it" if isinstance(obj, type) else f"{shown(obj)}, which is no object"
            raise BadValue(f"an object of the database is wanted, and this is {told}")
        there = obj._z_space
        if there is not None and there._store != self._store:
            raise WrongDatabase(
                f"{obj!r} is of another database, and its number means something else here; make an object here that is like it"
            )

    def check_writing(self) -> None:
        """Refuses what cannot be written here."""
        self.check()
        raise FixRequest("a snapshot is only read; write in a transaction")

    def check_writing_to(self, owner: Any) -> None:
        """The same of what belongs to something."""
        self.check_writing()

    def _answer(self, answer: Answer) -> Any:
        return self._keeper.wait(answer) if type(answer) is _zeolite.Pending else answer

    def reference(self, of: type[Object], oid: int) -> Any:
        """The object of an oid; one of a class that only its record says is loaded."""
        obj = self._objects.get(oid)
        if obj is None:
            obj = self._objects[oid] = known(of, self, oid)
        if not type(obj)._z_class:
            self.load_object(obj)
        if not isinstance(obj, of):
            if obj._z_values is not None or not issubclass(of, type(obj)):
                raise WrongClass(f"{obj!r} is no {of.__name__}")
            of._z_fields()  # its fields are there from then on
            obj.__class__ = of
        return obj

    def know(self, oids: list[int]) -> list[Object]:
        """Loads objects of which only their records say what they are, with one request. Hold them until they are referred to. What cannot
        be loaded is left to whoever looks at it."""
        made = []
        for oid in dict.fromkeys(oids):
            if oid not in self._objects:
                made.append(known(Object, self, oid))
                self._objects[oid] = made[-1]
        if not made:
            return made
        self.check()
        self._keeper.may_wait()
        for obj, record in zip(made, self._answer(self._native.get_many([obj._z_oid or 0 for obj in made])), strict=True):
            try:
                self._fill(obj, record)
            except ZeoliteError:
                del self._objects[obj._z_oid or 0]
        return made

    def load_object(self, obj: Object) -> None:
        """Fills an object with what is stored."""
        assert obj._z_oid is not None
        self._fill(obj, self.get_record(obj._z_oid, b""))

    def _fill(self, obj: Object, record: Parts | None) -> None:
        if record is None:
            raise NotFound(f"{obj!r} is not in this state of the database; it was deleted, or is newer")
        obj._z_fill(record)

    def looked_at(self, obj: Object) -> None:
        """A value that can change was looked at."""

    def will_write(self, obj: Object) -> None:
        """An object is about to change."""
        self.check_writing()

    def get_record(self, oid: int, key: bytes) -> Parts | None:
        """What is in a cell."""
        self.check()
        self._keeper.may_wait()
        record: Parts | None = self._answer(self._native.get(oid, key))
        return record

    def page(
        self, oid: int, start: bytes, stop: bytes | None, reverse: bool, keys_only: bool, limit: int | None
    ) -> tuple[list[tuple[bytes, str, bytes, list[int]]], bool]:
        """Entries of a collection, as many as are at hand; and whether there may be more."""
        self.check()
        self._keeper.may_wait()
        answer = self._native.page(oid, start, stop, reverse, keys_only, limit)
        page: tuple[list[tuple[bytes, str, bytes, list[int]]], bool] = self._answer(answer)
        return page

    def appended(self, oid: int | None) -> list[Any]:
        """What this transaction has put at the end of a list."""
        return []

    def oid_of(self, obj: Object) -> int:
        """The oid of an object for a reference to it."""
        self.check_database(obj)
        return obj._z_oid_for_use()


class Snapshot(Space):
    """The database as it was; use it in a ``with``, or close it."""

    def close(self) -> None:
        """Nothing is kept from pack for it any more. What was loaded can still be looked at."""
        self._open = False
        self._native.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transaction(Space):
    """Reads and writes, committed together or not at all; see ``Database.transaction``."""

    def __init__(self, native: _zeolite.Tx, keeper: Keeper):
        super().__init__(native, keeper)
        self._written: dict[int, Object] = {}
        self._looked: dict[int, Object] = {}
        self._new: list[Object] = []
        self._deleted: dict[int, type[Object]] = {}
        self._appended: dict[int, list[Any]] = {}
        self._rolled_back = False

    @property
    def committed(self) -> int | None:
        """The tid of its commit; None: it is not committed, or that is not known."""
        return self._native.committed()

    def create(self, obj: Obj) -> Obj:
        """Gives a new object its place. It stays only if something that can be reached from the root refers to it."""
        self.check_writing()
        if not isinstance(obj, Object) or not type(obj)._z_class:
            raise BadValue(f"{shown(obj)} is no object of a class with a name in the database (cls=...)")
        if obj._z_oid is not None:
            raise FixRequest(f"{obj!r} has its place already")
        oid = self.new_oid()
        obj._z_space, obj._z_oid = self, oid
        self._objects[oid] = self._written[oid] = obj
        self._new.append(obj)
        for collection in obj._z_collections():
            collection._z_place()
        return obj

    def rollback(self) -> None:
        """Gives up all that it wrote, without an error; it is over then."""
        self.check()
        self._rolled_back = True
        self.give_up()

    def delete(self, obj: Object) -> None:
        """Deletes an object. References to it stay, and find nothing."""
        self.check_writing_to(self.get_here(obj))
        oid = obj._z_oid
        assert oid is not None
        self._native.delete(oid, b"")
        self._deleted[oid] = type(obj)
        self._written.pop(oid, None)
        self._looked.pop(oid, None)
        self._objects.pop(oid, None)

    def get_here(self, obj: Obj) -> Obj:
        """Refuses an object of another transaction."""
        self.check_database(obj)
        if obj._z_space is not self:
            raise FixRequest(f"{obj!r} was got in another transaction; get it in this one (tx.get)")
        return obj

    def check_writing(self) -> None:
        self.check()

    def looked_at(self, obj: Object) -> None:
        if self._open and obj._z_oid is not None and obj._z_oid not in self._deleted:
            self._looked[obj._z_oid] = obj

    def will_write(self, obj: Object) -> None:
        self.check_writing_to(obj)
        oid = obj._z_oid
        assert oid is not None
        self._written[oid] = obj

    def check_writing_to(self, owner: Any) -> None:
        self.check()
        if getattr(owner, "_z_oid", None) in self._deleted:
            raise FixRequest(f"{owner!r} was deleted in this transaction")

    def new_oid(self) -> int:
        """A fresh oid."""
        self._keeper.may_wait()
        oid: int = self._answer(self._native.new_oid())
        return oid

    def put(self, oid: int, key: bytes, cls: str, refs: list[int], data: bytes) -> None:
        """Writes a record of a built-in class."""
        self._native.put(oid, key, cls, 1, refs, [], data)

    def put_stamped(self, oid: int, cls: str, refs: list[int], data: bytes, value: Any) -> None:
        """Puts an item at the end of a collection."""
        self._native.put_stamped(oid, cls, refs, [], data)
        self._appended.setdefault(oid, []).append(value)

    def appended(self, oid: int | None) -> list[Any]:
        return self._appended.get(oid, []) if oid is not None else []

    def apply(self, oid: int, cls: str, operation: bytes) -> None:
        """Changes a record of a built-in class by an operation."""
        self._native.apply(oid, cls, operation)

    def delete_cell(self, oid: int, key: bytes) -> None:
        """Deletes an entry."""
        self._native.delete(oid, key)

    def oid_of(self, obj: Object) -> int:
        self.check_database(obj)
        if obj._z_oid is None:
            self.create(obj)
        elif obj._z_space is not self and getattr(obj._z_space, "_open", False) and obj in getattr(obj._z_space, "_new", ()):
            raise FixRequest(f"{obj!r} is new in a transaction that has not been committed yet")
        return obj._z_oid_for_use()

    # Of a worker of evolves

    def filled(self, of: type[Object], oid: int, parts: Parts) -> Object:
        """An object whose record is known already."""
        obj = self._objects[oid] = known(of, self, oid)
        obj._z_fill(parts)
        return obj

    def will_be_written(self, obj: Object) -> None:
        """Also where nothing of it has changed; unless it was deleted."""
        if obj._z_oid is not None and obj._z_oid not in self._deleted:
            self._written[obj._z_oid] = obj

    def is_over(self) -> None:
        """Nothing is looked at or written any more: what becomes of it is another's business."""
        self._open = False

    # Its end

    def flush(self) -> None:
        """Hands over what has changed, and what that refers to."""
        self.check()
        for oid, obj in self._looked.items():
            if oid not in self._written and obj._z_changed():
                self._written[oid] = obj
        done: set[int] = set()
        while waiting := [oid for oid in self._written if oid not in done]:
            for oid in waiting:
                self._native.put(oid, b"", *self._written[oid]._z_record(self))
                done.add(oid)
        self._check_indexes()

    def _check_indexes(self) -> None:
        """Refuses to write objects that are in indexes which are kept elsewhere: nobody would write their entries."""
        written = dict.fromkeys([type(obj) for obj in self._written.values()] + list(self._deleted.values()))
        for of in written:
            self._keeper.may_wait()
            names = [name for name in self._answer(self._native.kept_indexes(of._z_class)) if name not in of._z_indexes]
            if names:
                raise KeptElsewhere(
                    f"objects of {of._z_class} are in indexes that a program in Rust keeps ({', '.join(names)}): written here, they would "
                    f"not be found there. Write them in Rust; or write the entries too, and say so: indexes={names}"
                )

    def end(self) -> None:
        """Commits, unless it was rolled back."""
        if self._rolled_back:
            return
        self.flush()
        self._keeper.may_wait()
        self._open = False
        try:
            answer = self._native.commit()
            if type(answer) is _zeolite.Pending:
                self._keeper.wait(answer, to_the_end=True)
        except AskOutcome as error:
            error.since = self.tid
            raise

    def give_up(self) -> None:
        """Nothing of it happens. Objects that were new in it have no place any more."""
        self._open = False
        self._native.close()
        if self.committed is not None:
            return  # it was interrupted when it had happened
        for obj in self._new:
            for collection in obj._z_collections():
                collection._z_oid = None
            obj._z_space = obj._z_oid = None
        self._new = []
