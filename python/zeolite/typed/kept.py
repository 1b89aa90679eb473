"""Owns what a class says of the indexes that are kept with its objects, as Rust's derive does (decision 30): under which keys one is found.

    class Note(zeolite.Object, cls="wiki.Note"):
        slug: Annotated[str, zeolite.unique]          a unique index of the field's name
        author: Annotated[str, zeolite.indexed]       an index
        text: str

        @zeolite.indexed_by(str)                      an index of the method's name; none, one, or several keys
        def word(self) -> list[str]: ...

The keys of a record are a function of it: one of the class's version is in the indexes under the keys of its values. One of a former version may
be there under the keys that it had then, or not at all. When entries are written is said in ``settling``.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from .annotations import key_of

Function = TypeVar("Function", bound=Callable[..., Iterable[Any]])
#: Of an object, by the name of the index: its keys by their bytes.
Keys = dict[str, dict[bytes, Any]]


@dataclasses.dataclass(frozen=True)
class Indexed:
    """In ``Annotated``: an index is kept by this field."""

    is_unique: bool = False


indexed = Indexed()
unique = Indexed(is_unique=True)


def indexed_by(key: Any, *, unique: bool = False) -> Callable[[Function], Function]:
    """Decorates a method that gives the keys of an object in the index of the method's name."""

    def decorate(function: Function) -> Function:
        function._z_indexed = key, unique  # type: ignore[attr-defined]
        return function

    return decorate


class Kept:
    """One index of a class."""

    def __init__(self, field: str, key: Any, is_unique: bool, keys: Callable[[Any], Iterable[Any]]):
        self.field, self.key, self.is_unique = field, key, is_unique
        self._keys = keys

    @functools.cached_property
    def name(self) -> str:
        """Behind the class, in the root: keys of another kind are in another index."""
        label = key_of(self.key).label
        kind = "" if label == "text" else f"({label})"
        return f"unique:{self.field}{kind}" if self.is_unique else f"{self.field}{kind}"

    def root_name(self, cls: str) -> str:
        """The name in the root. A class that ends like the beginning of a unique index's name has a colon more."""
        more = ":" if cls.rstrip(":").endswith(":unique") else ""
        return f"{cls}{more}:{self.name}"

    def keys(self, obj: Any) -> dict[bytes, Any]:
        """The keys of an object, each once."""
        kind = key_of(self.key)
        return {kind.put(key): key for key in self._keys(obj)}


def kept_by_field(name: str, annotation: Any) -> Kept | None:
    """The index that an annotation asks for."""
    if typing.get_origin(annotation) is not Annotated:
        return None
    said = next((one for one in typing.get_args(annotation)[1:] if isinstance(one, Indexed)), None)
    return None if said is None else Kept(name, annotation, said.is_unique, lambda obj: [obj._z_values[name]])


def kept_by_methods(of: type) -> list[Kept]:
    """The indexes that methods give the keys of."""
    found = []
    for name in dir(of):
        method = getattr(of, name, None)
        if hasattr(method, "_z_indexed"):
            key, is_unique = method._z_indexed  # type: ignore[union-attr]
            found.append(Kept(name, key, is_unique, method))  # type: ignore[arg-type]
    return found


def keys_of(obj: Any) -> Keys:
    """All keys of an object as it is."""
    return {kept.name: kept.keys(obj) for kept in type(obj)._z_kept_indexes()}


def former_keys(obj: Any, plain: dict[str, Any]) -> Keys:
    """Those under which a record of a former version may be found: those that it has now, and those of fields that were called the same."""
    keys = keys_of(obj)
    for kept in type(obj)._z_kept_indexes():
        field = type(obj)._z_fields().get(kept.field)
        if field is not None and field.shape is not None and kept.field in plain:
            with suppress(Exception):  # it was of another type, and no key
                key = field.shape.value(plain[kept.field], obj._z_space)
                keys[kept.name][key_of(kept.key).put(key)] = key
    return keys
