"""Owns the side of Python's own classes: a step on one object, in a transaction of the worker's.

    worker ── old record ──> the object as its class is now (upgraded) ── step ──> what has changed, for the worker's commit
                                                                  raises ──> the end of its traceback, into the quarantine

Whatever a transaction can do a step can: other objects, counters, indexes. What it read is checked at the commit, and where a live
transaction came between, it is run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zeolite import _zeolite
from zeolite.address import opened
from zeolite.database import Database
from zeolite.errors import BadValue
from zeolite.typed.encoding import loaded
from zeolite.typed.objects import Object
from zeolite.typed.keepers import Thread
from zeolite.typed.transaction import Transaction

from .steps import PASSING, ROLE, Function, Step, told
from .tried import Sample, differing


def _nothing(obj: Any, tx: Any) -> None:
    """The upgrades of its class are all that is to be done."""


class ObjectStep(Step):
    """A step for the objects of a class of Python's own."""

    def __init__(self, function: Function, of: type[Object], to: int | None, name: str):
        if not of._z_class:
            raise BadValue(f"{of.__name__} has no name in the database (cls=...), so it has no objects")
        super().__init__(function, of._z_class, of._z_version if to is None else to, name)
        self.of = of

    @classmethod
    def upgrading(cls, of: type[Object]) -> ObjectStep:
        """What brings the objects of a class to its version; named as Rust's is."""
        return cls(_nothing, of, None, f"{of._z_class} to version {of._z_version}")

    def take_back(self, function: Function) -> Function:
        raise BadValue("what a step for such a class has done elsewhere is taken back without its help")

    def check(self) -> None:
        if self.of._z_version < self.to:
            raise ValueError(
                f"the step {self.name} is to bring {self.class_name} to version {self.to}, but the class here is of version "
                f"{self.of._z_version}; import the new code"
            )


class _Stepping:
    """Called by the worker for each object, on any thread."""

    def __init__(self, step: ObjectStep):
        self._step = step

    def __call__(
        self, native: _zeolite.Tx, oid: int, cls: str, version: int, refs: list[int], blobs: list[bytes], data: bytes
    ) -> str | None:
        tx = Transaction(native, Thread())
        try:
            obj = tx.filled(self._step.of, oid, (cls, version, refs, blobs, data))
            self._step(obj, tx)
            if self._step.to:
                tx.will_be_written(obj)
            tx.flush()
        except PASSING:
            raise
        except Exception as error:
            return told(error)
        finally:
            tx.is_over()
        return None


class ObjectSide:
    """Objects of Python's own classes."""

    is_typed = True

    def __init__(self, where: str | Database):
        if isinstance(where, Database):
            self.database = where._native.for_evolves()
        else:
            self.database = opened(where, ROLE)

    @contextmanager
    def stepping(self, step: Step, *, tried: bool = False, remembers: bool = True) -> Iterator[Any]:
        """What steps the objects."""
        assert isinstance(step, ObjectStep)
        yield _Stepping(step)

    def sample(self, oid: int | None, old: bytes, new: bytes | None) -> Sample:
        """What is different."""
        what = f"object {oid:x}"
        return differing(oid, loaded(old, what), {} if new is None else loaded(new, what))

    def close(self) -> None:
        """Lets go of the connection."""
        self.database.close()
