"""Owns the savepoint: what a transaction had written at a moment, and how its objects go back to that.

    with tx.savepoint():                what is raised takes back what was written in it, and goes on
        ...

    mark = tx.savepoint();  ...;  mark.rollback()

What was written so far is handed over first, so going back is: the native half forgets what came later; objects that were made since have no
place any more; those that were changed or looked at are read again when they are next looked at. What was read stays read: a serializable
transaction has still decided by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zeolite.errors import FixRequest

if TYPE_CHECKING:
    from .transaction import Transaction


class Savepoint:
    """Made by ``Transaction.savepoint``."""

    def __init__(self, tx: Transaction):
        self._tx = tx
        self._native = tx._native.savepoint()
        self._written, self._handed, self._deleted = dict(tx._written), dict(tx._handed), dict(tx._deleted)
        self._new, self._placed = len(tx._new), len(tx._placed)
        self._appended = {oid: len(values) for oid, values in tx._appended.items()}
        self._opened = dict(tx.root._opened)
        tx._marks += 1
        self._number = tx._marks
        # Who holds it may go back to it; nobody else can.
        tx._savepoints.add(self)

    def rollback(self) -> None:
        """Takes back what was written since; as often as you like. Savepoints that were made since are over."""
        tx = self._tx
        tx.check_writing()
        if self not in tx._savepoints:
            raise FixRequest("an earlier savepoint was gone back to, so there is nothing left of this one; make another")
        tx._native.back_to(self._native)
        for later in [one for one in tx._savepoints if one._number > self._number]:
            tx._savepoints.discard(later)
        for obj in tx._new[self._new :]:
            tx._objects.pop(obj._z_oid or 0, None)
            obj._z_displace()
        for collection in tx._placed[self._placed :]:
            collection._z_oid = None
        for oid, obj in tx._deleted.items():
            if oid not in self._deleted and obj._z_oid is not None:
                tx._objects[oid] = obj
        del tx._new[self._new :], tx._placed[self._placed :]
        new = {id(obj) for obj in tx._new}
        for obj in (*tx._written.values(), *tx._handed.values(), *tx._looked.values(), *tx._deleted.values()):
            if obj._z_oid is not None:
                collections = obj._z_collections()
                obj._z_forget()
                if id(obj) in new:
                    # Its maker has it still when nothing of the transaction happens: with values, and with the collections that it had.
                    tx.load_object(obj)
                    obj._z_take_collections(collections)
        tx._written, tx._handed, tx._deleted, tx._looked = dict(self._written), dict(self._handed), dict(self._deleted), {}
        tx._appended = {oid: tx._appended[oid][:count] for oid, count in self._appended.items()}
        tx.root._opened = dict(self._opened)

    def __enter__(self) -> Savepoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._tx._open and self in self._tx._savepoints:
            self.rollback()
