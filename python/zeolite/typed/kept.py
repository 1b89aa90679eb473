"""Owns what a class says of the indexes that are kept with its objects, as Rust's derive does (decision 30): under which keys one is found.

    class Note(zeolite.Object, cls="wiki.Note"):
        slug: Annotated[str, zeolite.unique]          a unique index of the field's name
        author: Annotated[str, zeolite.indexed]       an index
        text: str

        @zeolite.indexed_by(str)                      an index of the method's name; none, one, or several keys
        def word(self) -> list[str]: ...

The keys of a record are a function of it: one of the class's version is in the indexes under the keys of its values. One of a former version may
be there under the keys that its former class gave it (``former=Note1``; without one, those of the fields of the same names), or not at all.
Nobody asks for the keys of what is only read: those of the record that was read are worked out when the object is written or deleted.

What an index is called in the root is the native half's business; when entries are written is said in ``settling``.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from zeolite import _zeolite
from zeolite.errors import BadValue, FixRequest, ZeoliteError

from .annotations import key_of
from .encoding import loaded

Function = TypeVar("Function", bound=Callable[..., Iterable[Any]])
#: Of an object, by the name of the index: its keys by their bytes.
Keys = dict[str, dict[bytes, Any]]
#: In the key of an entry of an index of many: the object's oid.
OID_BYTES = 8


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
    def label(self) -> str:
        """The kind of its keys: those of another kind are in another index."""
        return key_of(self.key).label

    @functools.cached_property
    def _names(self) -> tuple[str, str]:
        return _zeolite.kept_name(self.field, self.is_unique, self.label)

    @property
    def name(self) -> str:
        """Behind the class, in the root."""
        return self._names[0]

    @property
    def bare_name(self) -> str:
        """The name without the kind of its keys: that of one of text, and of others before names told the kind."""
        return self._names[1]

    def declared(self, of: Any) -> _zeolite.Declared:
        """As a class has it, or a former one of it. The bare name is another's where a version before that had other keys, and where the
        class says so."""
        versions = [of, *of._z_formers()]
        declares = next(at for at, one in enumerate(versions) if any(kept.name == self.name for kept in one._z_kept_indexes()))
        was_other = self.bare_name in of._z_indexes or any(
            (former.field, former.is_unique) == (self.field, self.is_unique) and former.label != self.label
            for above in versions[declares + 1 :]
            for former in above._z_kept_indexes()
        )
        return self.field, self.is_unique, self.label, was_other

    def keys(self, obj: Any) -> dict[bytes, Any]:
        """The keys of an object as it is, each once."""
        found = {}
        for key in self._given(obj):
            try:
                found[self.put(key)] = key
            except BadValue as error:
                raise BadValue(f"{self.told(obj)}: {error}") from error
        return found

    def stored_keys(self, obj: Any) -> tuple[dict[bytes, Any], bool]:
        """Those of one as it was read, and whether these are all: somebody may have written what is no key."""
        found, are_all = {}, True
        for key in self._given(obj):
            try:
                found[self.put(key)] = key
            except BadValue:
                are_all = False
        return found, are_all

    def put(self, key: Any) -> bytes:
        """A key's bytes in an entry."""
        return key_of(self.key).put(key, last=self.is_unique)

    def length(self, key: bytes) -> int:
        """Of the entry's key."""
        return len(key) if self.is_unique else len(key) + OID_BYTES

    def told(self, obj: Any) -> str:
        """Where something is wrong."""
        return f"class {obj._z_class!r}, index {self.bare_name!r}, object {obj._z_oid:x}"

    def _given(self, obj: Any) -> list[Any]:
        try:
            return list(self._keys(obj))
        except Exception as error:
            if isinstance(error, ZeoliteError) and not isinstance(error, FixRequest):
                raise  # a matter of the server, which somebody repeats
            raise BadValue(
                f"{self.told(obj)}: what gives its keys raised {type(error).__name__}: {error}; let {self.field} give none for such an object"
            ) from error


def kept_by_field(name: str, annotation: Any) -> Kept | None:
    """The index that an annotation asks for."""
    _refuse_within(annotation)
    if typing.get_origin(annotation) is not Annotated:
        return None
    said = next((one for one in typing.get_args(annotation)[1:] if isinstance(one, Indexed)), None)
    return None if said is None else Kept(name, annotation, said.is_unique, lambda obj: [obj._z_values[name]])


def _refuse_within(annotation: Any) -> None:
    """Refuses one that is asked for by a part of a field's type: the keys are the values of whole fields."""
    for part in typing.get_args(annotation)[: 1 if typing.get_origin(annotation) is Annotated else None]:
        said = typing.get_args(part)[1:] if typing.get_origin(part) is Annotated else ()
        for one in said:
            if isinstance(one, Indexed):
                word = "unique" if one.is_unique else "indexed"
                inner = getattr(typing.get_args(part)[0], "__name__", typing.get_args(part)[0])
                is_optional = type(None) in typing.get_args(annotation)
                told = f"write Annotated[{inner} | None, zeolite.{word}]" if is_optional else "write a method with zeolite.indexed_by"
                raise BadValue(f"an index is kept by a whole field, and zeolite.{word} stands within a type: {told}")
        _refuse_within(part)


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


def keys_there(obj: Any) -> tuple[Keys, bool]:
    """The keys under which an object is in the indexes, or may be, and whether it is known that it is: those of the record that was read,
    until entries have been written for it here."""
    if obj._z_read is not None:
        obj._z_keys, obj._z_keys_there = _keys_of_record(obj)
        obj._z_read = None
    return obj._z_keys, obj._z_keys_there


def _keys_of_record(obj: Any) -> tuple[Keys, bool]:
    """Those that the record that was read has now, and those that one of a former version may have."""
    of, version = type(obj), obj._z_read[1]
    keys, are_there = _stored(of, obj._z_as_read(of))
    if version == of._z_version:
        return keys, are_there
    former = next((one for one in of._z_formers() if one._z_version == version), None)
    formerly = _of_fields(obj) if former is None else _stored(former, obj._z_as_read(former))[0]
    for name, found in formerly.items():
        keys.setdefault(name, {}).update(found)
    return keys, False


def _stored(of: Any, was: Any) -> tuple[Keys, bool]:
    keys: Keys = {}
    are_all = True
    for kept in of._z_kept_indexes():
        keys[kept.name], are_its_all = kept.stored_keys(was)
        are_all = are_all and are_its_all
    return keys, are_all


def _of_fields(obj: Any) -> Keys:
    """The keys of the fields of a version without a class here that are called the same in the class, or in one of those in between."""
    keys, plain = Keys(), loaded(obj._z_read[4], repr(obj))
    versions = [type(obj), *type(obj)._z_formers()] if isinstance(plain, dict) else []
    for of, kept in [(of, kept) for of in versions for kept in of._z_kept_indexes()]:
        field = of._z_fields().get(kept.field)
        if field is not None and field.shape is not None and kept.field in plain:
            with suppress(Exception):  # it was of another type, and no key
                key = field.shape.value(plain[kept.field], obj._z_space)
                keys.setdefault(kept.name, {})[kept.put(key)] = key
    return keys
