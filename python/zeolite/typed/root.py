"""Owns the names of the root: where everything begins. What cannot be reached from there is garbage, and goes with a pack.

    tx.root["home"] = page                        a name for an object
    tx.root.unique("titles", Page)                a collection of that name, made by its first write; str keys unless said otherwise
    tx.root.open("sizes", Map[str, zeolite.U32])  the same, with its type written out
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, TypeVar, overload

from zeolite.errors import BadValue, Undecodable, WrongClass

from . import keys
from .collections import ENTRY, FORMAT, Collection, Index, Map, Set, Unique
from .encoding import Named, Out, Source, Unnamed, varint
from .lines import List, Queue
from .numbers import BoundedCounter, Counter, Greatest, Least
from .objects import Object, class_of
from .small import SmallList, SmallSet

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T", bound=Object)
C = TypeVar("C", bound=Collection)

ROOT = 0
#: `list` is a verb of the root.
_list = list
#: Names are keys like those of any map.
_NAME = keys.Bytes(str)


class _Named:
    """The owner of a collection that has a name."""

    def __init__(self, space: Any, name: str):
        self._z_space = space
        self._name = name
        self.collection: Any = None

    def _z_write(self) -> None:
        self._z_space.root._name(self._name, self.collection._z_oid, self.collection._z_collection)

    def __repr__(self) -> str:
        return f"the name {self._name!r}"


class Root:
    """The names of a database at one state of it."""

    def __init__(self, space: Any):
        self._space = space
        self._opened: dict[tuple[str, Any], Any] = {}

    def _found(self, name: str) -> tuple[int, str] | None:
        """The oid and the class that a name stands for."""
        record = self._space.get_record(ROOT, _NAME.put(name))
        return None if record is None else self._read(name, record[4], record[2])

    def _read(self, name: str, data: bytes, refs: _list[int]) -> tuple[int, str]:
        source = Source(data)
        source.raw(1)
        oid, cls = source.varint(), source.raw(source.varint()).decode()
        try:
            Named(self._space, refs).check(oid)
        except Unnamed as error:
            raise Undecodable(f"the name {name!r}: {error}") from error
        return oid, cls

    def _name(self, name: str, oid: int, cls: str) -> None:
        space = self._space
        if space.get_record(ROOT, b"") is None:
            space.put(ROOT, b"", Map._z_collection, Out(), FORMAT)
        named = cls.encode()
        out = Out()
        out.refs[oid] = None
        space.put(ROOT, _NAME.put(name), ENTRY, out, FORMAT + varint(oid) + varint(len(named)) + named)

    def open(self, name: str, kind: type[C]) -> C:
        """The collection of that name."""
        opened = self._opened.get((name, kind))
        if opened is None:
            cls: Any = typing.get_origin(kind) or kind
            found = self._found(name)
            if found is not None and found[1] != cls._z_collection:
                raise WrongClass(f"the name {name!r} stands for {found[1]!r}, and not for {cls._z_collection!r}")
            owner = _Named(self._space, name)
            opened = owner.collection = cls._z_open(kind, owner, found and found[0])
            self._opened[name, kind] = opened
        result: C = opened
        return result

    def counter(self, name: str) -> Counter:
        """A number that many change at once."""
        return self.open(name, Counter)

    def bounded(self, name: str, initial: BoundedCounter | None = None) -> BoundedCounter:
        """A number that many change at once, and that stays within bounds; ``zeolite.bounds`` says what a new one begins with."""
        opened = self.open(name, BoundedCounter)
        if initial is not None:
            opened._z_begin(initial)
        return opened

    def greatest(self, name: str) -> Greatest:
        """The greatest number that was ever offered."""
        return self.open(name, Greatest)

    def least(self, name: str) -> Least:
        """The least number that was ever offered."""
        return self.open(name, Least)

    @overload
    def map(self, name: str) -> Map[str, Any]: ...
    @overload
    def map(self, name: str, value: type[V]) -> Map[str, V]: ...
    @overload
    def map(self, name: str, value: type[V], key: type[K]) -> Map[K, V]: ...
    def map(self, name: str, value: Any = Object, key: Any = str) -> Map[Any, Any]:
        """An ordered map; its values are objects unless said otherwise."""
        return self.open(name, Map[key, value])

    @overload
    def unique(self, name: str) -> Unique[str, Any]: ...
    @overload
    def unique(self, name: str, value: type[V]) -> Unique[str, V]: ...
    @overload
    def unique(self, name: str, value: type[V], key: type[K]) -> Unique[K, V]: ...
    def unique(self, name: str, value: Any = Object, key: Any = str) -> Unique[Any, Any]:
        """A unique index; its values are objects unless said otherwise."""
        return self.open(name, Unique[key, value])

    @overload
    def index(self, name: str) -> Index[str, Any]: ...
    @overload
    def index(self, name: str, of: type[T]) -> Index[str, T]: ...
    @overload
    def index(self, name: str, of: type[T], key: type[K]) -> Index[K, T]: ...
    def index(self, name: str, of: Any = Object, key: Any = str) -> Index[Any, Any]:
        """An index of objects."""
        return self.open(name, Index[key, of])

    @overload
    def set(self, name: str) -> Set[str]: ...
    @overload
    def set(self, name: str, of: type[K]) -> Set[K]: ...
    def set(self, name: str, of: Any = str) -> Set[Any]:
        """An ordered set."""
        return self.open(name, Set[of])

    @overload
    def small_set(self, name: str) -> SmallSet[str]: ...
    @overload
    def small_set(self, name: str, of: type[V]) -> SmallSet[V]: ...
    def small_set(self, name: str, of: Any = str) -> SmallSet[Any]:
        """A set in one record."""
        return self.open(name, SmallSet[of])

    @overload
    def small_list(self, name: str) -> SmallList[str]: ...
    @overload
    def small_list(self, name: str, of: type[V]) -> SmallList[V]: ...
    def small_list(self, name: str, of: Any = str) -> SmallList[Any]:
        """A list in one record."""
        return self.open(name, SmallList[of])

    @overload
    def list(self, name: str) -> List[str]: ...
    @overload
    def list(self, name: str, of: type[V]) -> List[V]: ...
    def list(self, name: str, of: Any = str) -> List[Any]:
        """A list that many append to."""
        return self.open(name, List[of])

    @overload
    def queue(self, name: str) -> Queue[str]: ...
    @overload
    def queue(self, name: str, of: type[V]) -> Queue[V]: ...
    def queue(self, name: str, of: Any = str) -> Queue[Any]:
        """A queue of items that are taken once."""
        return self.open(name, Queue[of])

    def __getitem__(self, name: str) -> Any:
        """The object of that name; collections are opened with their types (``root.map`` ...)."""
        found = self._found(name)
        if found is None:
            raise KeyError(name)
        return self._object(name, found, Object)

    def _object(self, name: str, found: tuple[int, str], of: type[Object]) -> Any:
        oid, cls = found
        if cls.startswith("zeolite."):
            raise WrongClass(f"the name {name!r} stands for a collection, {cls!r}: open it with its types, as root.map(...)")
        return self._space.reference(class_of(cls, of), oid)

    @overload
    def get(self, name: str) -> Any: ...
    @overload
    def get(self, name: str, of: type[T]) -> T | None: ...
    def get(self, name: str, of: Any = Object) -> Any:
        """The object of that name, if there is one."""
        found = self._found(name)
        return None if found is None else self._object(name, found, of)

    def __setitem__(self, name: str, obj: Object) -> None:
        self._space.check_writing()
        if isinstance(obj, Collection):
            raise BadValue(f"{obj!r} is a collection: one that is to have a name is opened by it, as tx.root.map({name!r}, ...)")
        self._name(name, self._space.oid_of(obj), type(obj)._z_class)

    def __delitem__(self, name: str) -> None:
        """What it stood for is garbage, unless something else refers to it."""
        self._space.check_writing()
        if self._found(name) is None:
            raise KeyError(name)
        self._space.delete_cell(ROOT, _NAME.put(name))
        self._opened = {opened: one for opened, one in self._opened.items() if opened[0] != name}

    def __contains__(self, name: str) -> bool:
        return self._found(name) is not None

    def __iter__(self) -> Iterator[str]:
        """The names, in their order."""
        return (name for name, *_ in self._pages(keys_only=True))

    def keys(self) -> Iterator[str]:
        """The names, in their order."""
        return iter(self)

    def items(self) -> Iterator[tuple[str, Any]]:
        """The names and what they stand for: an object, loaded when it is looked at; of a collection its kind, as ``zeolite.Map``, since
        only the program knows its types."""
        for name, data, refs in self._pages(keys_only=False):
            oid, cls = self._read(name, data, refs)
            is_one = cls.startswith("zeolite.")
            yield name, Collection._z_all.get(cls, Collection) if is_one else self._object(name, (oid, cls), Object)

    def values(self) -> Iterator[Any]:
        """What the names stand for, as in ``items``."""
        return (what for _, what in self.items())

    def _pages(self, *, keys_only: bool) -> Iterator[tuple[str, bytes, _list[int]]]:
        start, more = b"", True
        while more:
            page, more = self._space.page(ROOT, start, None, False, keys_only, None)
            yield from ((_NAME.read(key, self._space), data, refs) for key, _, data, refs in page)
            start = keys.after(page[-1][0]) if page else start
