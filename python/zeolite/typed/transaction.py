"""Owns the transaction: what is written at one state of the database, and committed together or not at all.

    create, assign, append ... ──> held here ── flush: records, and the entries of kept indexes ──> the native half ── end ──> committed

What was assigned or changed in place is handed over at the commit, before an index is read, and at a savepoint.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar
from weakref import WeakSet

from zeolite import _zeolite
from zeolite.errors import AskOutcome, BadValue, FixRequest, KeptElsewhere

from .blobs import Blob
from .encoding import Out, shown
from .keepers import Keeper
from .objects import VERSION_MAX, Object, Parts, known
from .savepoints import Savepoint
from .settling import opened, settle
from .space import Space

Obj = TypeVar("Obj", bound=Object)


class Transaction(Space):
    """Reads and writes, committed together or not at all; see ``Database.transaction``."""

    def __init__(self, native: _zeolite.Tx, keeper: Keeper):
        super().__init__(native, keeper)
        self._written: dict[int, Object] = {}
        #: Handed over with its entries; an assignment brings it back among what was written.
        self._handed: dict[int, Object] = {}
        self._looked: dict[int, Object] = {}
        self._new: list[Object] = []
        self._deleted: dict[int, Object] = {}
        self._appended: dict[int, list[Any]] = {}
        self._placed: list[Any] = []
        self._marks, self._savepoints = 0, WeakSet[Savepoint]()
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

    def upload(self, source: bytes | str | os.PathLike[str]) -> Blob:
        """A new blob, of bytes or of a file. It is on the server's disk when this returns, and stays if what is committed names it."""
        self.check_writing()
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
            return Blob(self, self.of_blobs(lambda blobs: blobs.put(data)))
        path = os.fspath(source)
        return Blob(self, self.of_blobs(lambda blobs: blobs.upload(path)))

    def savepoint(self) -> Savepoint:
        """What has been written so far, to go back to: in a ``with`` when it raises, or by ``rollback`` of what this returns."""
        self.flush()
        return Savepoint(self)

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
        if obj._z_values is None and type(obj)._z_all_indexes():
            self.load_object(obj)  # its entries go with it
        self._native.delete(oid, b"")
        self._deleted[oid] = obj
        for objects in (self._written, self._handed, self._looked):
            objects.pop(oid, None)
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

    def _settled(self, of: type[Object], name: str) -> Any:
        self.flush()
        return opened(self, of, name)

    def new_oid(self) -> int:
        """A fresh oid."""
        self._keeper.may_wait()
        oid: int = self._answer(self._native.new_oid())
        return oid

    def put(self, oid: int, key: bytes, cls: str, out: Out, data: bytes) -> None:
        """Writes a record of a built-in class."""
        self._native.put(oid, key, cls, 1, list(out.refs), list(out.blobs), data)

    def put_stamped(self, oid: int, cls: str, out: Out, data: bytes, value: Any) -> None:
        """Puts an item at the end of a collection."""
        self._native.put_stamped(oid, cls, list(out.refs), list(out.blobs), data)
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
                # What a savepoint has taken back is as it was handed over before.
                if self._written[oid]._z_values is not None:
                    self._native.put(oid, b"", *self._written[oid]._z_record(self))
                done.add(oid)
        self._check_indexes()
        settle(self, list(self._written.values()), list(self._deleted.values()))
        # What can change in place is looked at again each time.
        for oid, obj in list(self._written.items()):
            if not type(obj)._z_changes_in_place():
                self._handed[oid] = self._written.pop(oid)

    def _check_indexes(self) -> None:
        """Refuses to write objects that are in indexes which are kept elsewhere: nobody would write their entries."""
        written = dict.fromkeys([type(obj) for obj in (*self._written.values(), *self._deleted.values())])
        # One that was deleted unseen may have been of a newer version, whose entries it would leave.
        unseen = {type(obj) for obj in self._deleted.values() if obj._z_values is None}
        for of in written:
            self._keeper.may_wait()
            declared = [kept.declared(of) for kept in of._z_all_indexes()]
            version = VERSION_MAX if of in unseen else of._z_version
            names = self._answer(self._native.unknown_indexes(of._z_class, version, declared, set(of._z_indexes)))
            if names:
                raise KeptElsewhere(
                    f"objects of {of._z_class} are in indexes that this program does not know ({', '.join(names)}): written here, they "
                    f"would not be found there. Declare them (zeolite.indexed, unique, indexed_by); where a former version of the class had "
                    f"them, name its class: former=...; or write the entries, and say so: indexes={names}"
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
            obj._z_displace()
        for collection in self._placed:
            collection._z_oid = None
        self._new, self._placed = [], []
