"""Owns which shape an annotation has, as a value and as a key; and the names for integers that are no i64 in Rust.

    str  bytes  bool  int  float  datetime  date  UUID  Blob  Any           U8 ... U64, I8 ... I64: integers of Rust's widths
    X | None   list[X]   set[X]   tuple[X, Y]   tuple[X, ...]   dict[K, X]   a dataclass   an Object   a collection
"""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Annotated, Any, Union

from zeolite.errors import BadValue

from . import keys, shapes


@dataclasses.dataclass(frozen=True)
class Width:
    """Of an integer in collections, as Rust calls it."""

    name: str


U8 = Annotated[int, Width("u8")]
U16 = Annotated[int, Width("u16")]
U32 = Annotated[int, Width("u32")]
U64 = Annotated[int, Width("u64")]
I8 = Annotated[int, Width("i8")]
I16 = Annotated[int, Width("i16")]
I32 = Annotated[int, Width("i32")]
I64 = Annotated[int, Width("i64")]

KNOWN = "str, bytes, bool, int, float, datetime, date, UUID, Blob, Any, X | None, list, set, tuple, dict, dataclasses, Objects and collections"
KNOWN_KEYS = "str, bytes, int, float, bool, datetime, date, UUID, Objects, X | None and tuples of these"


def is_object(annotation: Any) -> bool:
    """Whether it is a class of objects."""
    return isinstance(annotation, type) and hasattr(annotation, "_z_class")


def is_collection(annotation: Any) -> bool:
    """Whether it is a collection, with or without the types in it."""
    return hasattr(typing.get_origin(annotation) or annotation, "_z_collection")


def _width(annotation: Any) -> str | None:
    if typing.get_origin(annotation) is not Annotated:
        return None
    return next((said.name for said in typing.get_args(annotation)[1:] if isinstance(said, Width)), None)


def _optional(annotation: Any) -> Any:
    """What may be there or not; the same: it has to be there."""
    if typing.get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if all(is_object(part) for part in parts) and len(parts) > 1:
        # What of them it is, its record says.
        return next(base for base in parts[0].__mro__ if all(issubclass(part, base) for part in parts))
    if any(is_collection(part) for part in parts):
        raise BadValue(f"{annotation}: a collection is there with its object, and is empty at first; say it without what stands beside it")
    if len(parts) != 1:
        raise BadValue(f"{annotation} is several types: what is stored would not say which; use one, or Any")
    return parts[0]


@cache
def shape_of(annotation: Any) -> shapes.Shape:
    """The shape of values."""
    inner = _optional(annotation)
    if inner is not annotation:
        shape = shape_of(inner)
        has_none = type(None) in typing.get_args(annotation)
        return shapes.Optional(shape) if has_none else shape
    if annotation in shapes.SCALARS:
        return shapes.SCALARS[annotation]
    width = _width(annotation)
    if width is not None:
        return shapes.Int(width)
    if typing.get_origin(annotation) is Annotated:
        return shape_of(typing.get_args(annotation)[0])
    if annotation in (Any, object):
        return shapes.Anything()
    if is_object(annotation):
        return shapes.Reference(annotation)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = typing.get_type_hints(annotation, include_extras=True)
        names = [field.name for field in dataclasses.fields(annotation)]
        return shapes.Parts(annotation, {name: shape_of(hints[name]) for name in names})
    return _of_parts(annotation)


def _of_parts(annotation: Any) -> shapes.Shape:
    origin, parts = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if is_collection(annotation):
        raise BadValue(f"{annotation} is a collection, which is a field of its own: it stands in no other type, and is nobody's value")
    if origin in (list, set, frozenset):
        return shapes.Many(origin, shape_of(parts[0] if parts else Any))
    if origin is tuple and len(parts) == 2 and parts[1] is Ellipsis:
        return shapes.Many(tuple, shape_of(parts[0]))
    if origin is tuple and parts:
        return shapes.Parts(tuple, {str(place): shape_of(part) for place, part in enumerate(parts)})
    if origin is dict:
        key, value = parts or (str, Any)
        return shapes.Dict(shape_of(key), shape_of(value))
    raise BadValue(f"{annotation} cannot be stored; what can: {KNOWN}")


@cache
def key_of(annotation: Any) -> keys.KeyKind:
    """How keys of that type are written."""
    inner = _optional(annotation)
    if inner is not annotation:
        return keys.Optional(key_of(inner))
    if annotation in keys.KINDS:
        return keys.KINDS[annotation]
    width = _width(annotation)
    if width is not None:
        return keys.Number(width)
    if typing.get_origin(annotation) is Annotated:
        return key_of(typing.get_args(annotation)[0])
    if is_object(annotation):
        return keys.Reference(annotation)
    if typing.get_origin(annotation) is tuple and Ellipsis not in typing.get_args(annotation):
        return keys.Tuple([key_of(part) for part in typing.get_args(annotation)])
    raise BadValue(f"{annotation} cannot be a key; what can: {KNOWN_KEYS}")
