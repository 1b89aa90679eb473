"""Owns the numbers that many writers change at once: to change one is an operation, which reads nothing and does not conflict.

    Counter          added to: ``page.hits += 1``
    BoundedCounter   added to within bounds; a transaction that would leave them is refused at its commit
    Greatest, Least  offered to: the greatest, or the least, of all that was offered
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

from zeolite.errors import BadValue, FixRequest, WrongClass

from .collections import FORMAT, Collection
from .encoding import shown

Added = TypeVar("Added", bound="_Added")


def _operand(number: int) -> bytes:
    try:
        return FORMAT + struct.pack("<q", number)
    except struct.error:
        raise BadValue(f"{shown(number)} is no integer of 64 bits") from None


class _Number(Collection):
    """Numbers in one record."""

    def _z_numbers(self, count: int) -> tuple[int, ...] | None:
        found = self._z_read(b"")
        if found is None:
            return None
        if found[0] != self._z_collection or len(found[1]) != 1 + 8 * count:
            raise WrongClass(f"{self!r} holds class {found[0]!r}, and not {self._z_collection!r}")
        return struct.unpack(f"<{count}q", found[1][1:])

    def _z_do(self, number: int) -> None:
        operation = _operand(number)
        oid = self._z_place()
        self._z_space.apply(oid, self._z_collection, operation)


class _Added(_Number):
    """A number that is added to."""

    def _z_found(self) -> tuple[int, ...]:
        """The number first."""
        raise NotImplementedError

    @property
    def value(self) -> int:
        """The number, with what this transaction has added."""
        return self._z_found()[0]

    def add(self, difference: int) -> None:
        """Adds, without reading it. Whether bounds allow it is known at the commit at the latest: a ``Conflict``, or ``FixRequest``."""
        self._z_do(difference)

    def __iadd__(self: Added, difference: int) -> Added:
        self.add(difference)
        return self

    def __isub__(self: Added, difference: int) -> Added:
        self.add(-difference)
        return self

    def __int__(self) -> int:
        return self.value


class Counter(_Added):
    """A number that many change at once: ``page.hits += 1``, ``page.hits.value``."""

    _z_collection = "zeolite.Counter"
    _z_empty = FORMAT + struct.pack("<q", 0)

    def _z_found(self) -> tuple[int, ...]:
        return self._z_numbers(1) or (0,)


class BoundedCounter(_Added):
    """A number that many change at once, and that stays within bounds: stock, seats, budgets. ``zeolite.bounds`` says what a new one is."""

    _z_collection = "zeolite.Bounded"
    _z_bounds: tuple[int, int, int] | None = None

    def _z_begin(self, initial: Any) -> bool:
        if not isinstance(initial, BoundedCounter) or initial._z_bounds is None:
            return False
        self._z_bounds = initial._z_bounds
        return True

    def _z_initial(self) -> bytes:
        if self._z_bounds is None:
            raise FixRequest("a bounded counter begins with a value and its bounds: say zeolite.bounds(value, low=..., high=...)")
        return FORMAT + struct.pack("<3q", *self._z_bounds)

    def _z_found(self) -> tuple[int, ...]:
        found = self._z_numbers(3) or self._z_bounds
        if found is None:
            raise FixRequest(f"{self!r} was not made yet; say what it begins with: zeolite.bounds(value, low=..., high=...)")
        return found

    @property
    def low(self) -> int:
        """The least that it may be."""
        return self._z_found()[1]

    @property
    def high(self) -> int:
        """The greatest that it may be."""
        return self._z_found()[2]


def bounds(value: int, *, low: int, high: int) -> BoundedCounter:
    """What a new bounded counter begins with: the default of a field, an argument of a constructor or of ``tx.root.bounded``."""
    if not low <= value <= high:
        raise BadValue(f"{value} is not from {low} to {high}")
    for number in (value, low, high):
        _operand(number)
    made = BoundedCounter.__new__(BoundedCounter)
    made._z_owner, made._z_oid, made._z_bounds = None, None, (value, low, high)
    return made


class _Extreme(_Number):
    _z_empty = None

    @property
    def value(self) -> int | None:
        """The number; None if none was ever offered."""
        found = self._z_numbers(1)
        return None if found is None else found[0]

    def offer(self, number: int) -> None:
        """Offers a number, without reading what is there."""
        self._z_do(number)


class Greatest(_Extreme):
    """The greatest number that was ever offered: a high-water mark."""

    _z_collection = "zeolite.Max"


class Least(_Extreme):
    """The least number that was ever offered: the lowest price."""

    _z_collection = "zeolite.Min"
