"""Owns a field of a class: what its annotation says, its default, its value for CBOR and back, and the assignment."""

from __future__ import annotations

import copy
import typing
from typing import Any

from zeolite.errors import BadValue

from .annotations import is_collection, shape_of
from .encoding import Named, Out, readable, shown
from .kept import kept_by_field
from .shapes import Shape

#: A field that has no default.
MISSING: Any = object()


class Field:
    """One field, as a descriptor."""

    def __init__(self, name: str, annotation: Any, default: Any):
        self.name = name
        self.default = default
        self.is_collection = is_collection(annotation)
        self.kept = None if self.is_collection else kept_by_field(name, annotation)
        self.collection = annotation
        self.shape: Shape | None = None if self.is_collection else shape_of(annotation)
        self.is_mutable = self.shape is not None and self.shape.mutable

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        if obj is None:
            return self
        values = obj._z_values
        if values is None:
            values = obj._z_load()
        if self.is_mutable and obj._z_oid is not None:
            obj._z_look(self)
        return values[self.name]

    def __set__(self, obj: Any, value: Any) -> None:
        if self.is_collection:
            if obj._z_values is not None and obj._z_values.get(self.name) is value:
                return  # `page.hits += 1` ends here
            raise BadValue(f"{self.name} is a collection: change what is in it, it cannot be replaced by {shown(value)}")
        self.plain(value, Out())
        if obj._z_oid is not None:
            obj._z_write()
        obj._z_values[self.name] = value
        obj._z_stored.pop(self.name, None)

    def plain(self, value: Any, out: Out) -> Any:
        """The value for CBOR; what cannot be one is told with the field's name."""
        if self.shape is None:
            return value._z_oid_for_use(out)
        try:
            plain = self.shape.plain(value, out)
            return readable(plain) if self.shape.has_any else plain
        except BadValue as error:
            raise BadValue(f"field {self.name}: {error}") from None

    def value(self, plain: Any, obj: Any, named: Named) -> Any:
        """The value of what CBOR had, in a record that names these references."""
        if self.shape is not None:
            return self.shape.value(plain, named)
        if plain is not None:
            if not isinstance(plain, int) or isinstance(plain, bool):
                raise BadValue(f"{shown(plain)} is no reference to a collection")
            named.check(plain)
        return self.made(obj, plain)

    def made(self, obj: Any, oid: int | None = None) -> Any:
        """A collection of the object; without an oid it is made when it is written to."""
        return (typing.get_origin(self.collection) or self.collection)._z_open(self.collection, obj, oid)

    def initial(self, obj: Any) -> Any:
        """What it is where nothing was said."""
        if self.is_collection:
            made = self.made(obj)
            if self.default is not MISSING:
                made._z_begin(self.default)
            return made
        # A copy of what stands for nothing would be something.
        return MISSING if self.default is MISSING else copy.deepcopy(self.default)
