"""Owns the database at one state of it, as programs read it: objects and collections.

    Space         objects by their oids, each once; loaded when they are looked at
      Snapshot      an older state, or the newest: read only, kept from pack until it is closed
      Transaction   what is written is in ``transaction``

A space belongs to a *keeper*: the thread that began it, or the task of an event loop (``zeolite.aio``). It holds what was changed or looked
at in it; everything else goes when the program lets go of it, and is read again, from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

from zeolite import _zeolite
from zeolite.errors import BadValue, FixRequest, Forked, NotFound, Over, WrongClass, WrongDatabase, WrongThread, ZeoliteError

from .blobs import Blob
from .collections import Index, Unique
from .encoding import shown
from .keepers import Keeper
from .objects import Object, Parts, known
from .root import Root
from .settling import opened

Obj = TypeVar("Obj", bound=Object)
Answer = Any


class Space:
    """Objects and collections at one state of the database."""

    def __init__(self, native: _zeolite.Tx, keeper: Keeper):
        self._native = native
        self._keeper = keeper
        self._by = keeper.here()
        self._objects: WeakValueDictionary[int, Object] = WeakValueDictionary()
        self._store = native.store_id()
        self._open = True
        #: The indexes that are kept with classes, by class and name.
        self.opened_indexes: dict[tuple[type[Object], str], Any] = {}
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

    def index(self, of: type[Obj], name: str) -> Index[Any, Obj]:
        """The index of that name that is kept with the objects of a class, with what was written here: to be read."""
        found: Index[Any, Obj] = self._settled(of, name)
        return found

    def unique(self, of: type[Obj], name: str) -> Unique[Any, Obj]:
        """The same of a unique one."""
        found: Unique[Any, Obj] = self._settled(of, name)
        return found

    def _settled(self, of: type[Object], name: str) -> Any:
        return opened(self, of, name)

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

    def check_database(self, obj: Object | Blob) -> None:
        """Refuses what is of another database."""
        if not isinstance(obj, Object | Blob):
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

    def kept_index(self, cls: str, index: _zeolite.Declared, make: bool) -> tuple[int, bool] | None:
        """Where an index is that is kept with the objects of a class, and whether its name tells the kind of its keys."""
        self.check()
        self._keeper.may_wait()
        found: tuple[int, bool] | None = self._answer(self._native.kept_index(cls, index, make))
        return found

    def rests_on(self, oid: int) -> None:
        """The commit is refused when somebody has changed an object, or removed it."""
        self._native.rests_on(oid)

    def key_bytes_max(self) -> int:
        """Of the key of an entry, as the server takes it."""
        return self._native.key_bytes_max()

    def appended(self, oid: int | None) -> list[Any]:
        """What this transaction has put at the end of a list."""
        return []

    def of_blobs(self, ask: Callable[[_zeolite.TypedBlobs], Any]) -> Any:
        """An answer about blobs."""
        self.check()
        self._keeper.may_wait()
        return self._answer(ask(self._native.blobs()))

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
