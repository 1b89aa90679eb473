"""Owns the collections: objects whose parts are written by many at once, with the layouts that Rust's client has (docs/clients.md).

    Map[K, V]      an entry for each key, in the order of keys
    Set[K]         an entry for each member, in their order
    Index[K, T]    objects by a key that several may have
    Unique[K, V]   values, most often objects, by a key that only one may have

Lists and queues are in ``lines``, what is kept in one record in ``numbers`` and ``small``.

A collection is named in the root, or is a field of an object; what was never written to is empty, and is made by the first write. Walks
come in pages, and see what their transaction has written so far.
"""

from __future__ import annotations

import struct
import typing
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar, Generic, TypeVar

from zeolite.errors import BadValue, FixRequest, NotFound, Taken, Undecodable, WrongClass

from . import keys
from .annotations import key_of, shape_of
from .encoding import Named, Out, Source, Unknown
from .objects import Object

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T", bound=Object)
Self = TypeVar("Self", bound="Collection")

#: In front of the data of each built-in class.
FORMAT = b"\1"
#: Key, class, data and references of an entry.
Entry = tuple[bytes, str, bytes, list[int]]
#: The same without its key.
Found = tuple[str, bytes, list[int]]
ENTRY, UNIQUE = "zeolite.Entry", "zeolite.Unique"


class Collection:
    """What all have in common: their place, made when it is needed."""

    _z_collection: ClassVar[str] = ""
    #: What the types in the brackets are where none are said.
    _z_default: ClassVar[tuple[Any, ...]] = ()
    #: The data of a new one; none: its record comes with what is first done to it.
    _z_empty: ClassVar[bytes | None] = FORMAT
    #: All collections, by their classes in the database.
    _z_all: ClassVar[dict[str, type[Collection]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "_z_collection" in vars(cls):
            Collection._z_all[cls._z_collection] = cls

    def __init__(self, *_: Any, **__: Any) -> None:
        raise FixRequest(
            f"a {type(self).__name__} is a field of an object, or has a name in the root (tx.root); it is made by its first write"
        )

    @classmethod
    def _z_open(cls: type[Self], annotation: Any, owner: Any, oid: int | None) -> Self:
        """A collection at its place; ``owner`` has the space, and is told when an oid is made."""
        made = cls.__new__(cls)
        made._z_owner, made._z_oid = owner, oid
        made._z_bound(*(typing.get_args(annotation) or cls._z_default))
        return made

    _z_owner: Any
    _z_oid: int | None
    #: There may be objects in it of which only their records say what they are.
    _z_is_open = False
    #: There may be objects in it.
    _z_refers = False
    #: It was looked for where nothing was found in it, and it is there.
    _z_is_there = False

    def _z_bound(self, *types: Any) -> None:
        """The types in the brackets are known."""

    @property
    def _z_space(self) -> Any:
        space = self._z_owner._z_space
        if space is None:
            raise FixRequest(f"{self._z_owner!r} has no place yet; make it with tx.create")
        return space

    def _z_place(self) -> int:
        """The oid, made if there is none."""
        space = self._z_space
        space.check_writing_to(self._z_owner)
        make = getattr(self._z_owner, "_z_make", None)
        if self._z_oid is None and make is not None:
            make()
        if self._z_oid is None:
            empty, oid = self._z_initial(), space.new_oid()
            if empty is not None:
                space.put(oid, b"", self._z_collection, Out(), empty)
            self._z_oid = oid
            space._placed.append(self)
            self._z_owner._z_write()
        return self._z_oid

    def _z_initial(self) -> bytes | None:
        """The data of a new one."""
        return self._z_empty

    def _z_begin(self, initial: Any) -> bool:
        """What a new one begins with; False: that is not to be said of such a collection."""
        return False

    def _z_oid_for_use(self, out: Out) -> int:
        oid = self._z_place() if self._z_oid is None else self._z_oid
        out.refs[oid] = None
        return oid

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'empty' if self._z_oid is None else f'{self._z_oid:x}'}>"

    # Entries, for those that have them

    def _z_read(self, key: bytes) -> Found | None:
        """An entry."""
        if self._z_oid is None:
            self._z_space.check()
            return None
        found = self._z_space.get_record(self._z_oid, key)
        if found is None:
            self._z_check_there(key)
            return None
        return found[0], found[4], found[2]

    def _z_check_there(self, key: bytes = b"\0") -> None:
        """Nothing was found: if it is not there itself, that is told, once."""
        if self._z_is_there or self._z_empty is None:
            return
        if not key or self._z_space.get_record(self._z_oid, b"") is None:
            raise NotFound(f"{self!r}, which {self._z_owner!r} refers to, is not in this state of the database: somebody has deleted it")
        self._z_is_there = True

    def _z_walk(
        self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False, keys_only: bool = False, limit: int | None = None
    ) -> Iterator[Entry]:
        """Entries in the order of their keys."""
        if self._z_oid is None:
            self._z_space.check()
            return
        more = limit is None or limit > 0
        while more:
            page, more = self._z_space.page(self._z_oid, start, stop, reverse, keys_only, limit)
            if page:
                self._z_is_there = True
            elif not more:
                self._z_check_there()
            held = self._z_space.know(self._z_unknown(page)) if self._z_is_open else []
            yield from page
            del held
            limit = None if limit is None else limit - len(page)
            if page and reverse:
                stop = page[-1][0]
            elif page:
                start = keys.after(page[-1][0])

    def _z_unknown(self, page: list[Entry]) -> list[int]:
        """The objects in entries of which only their records say what they are: to be loaded together. What cannot be read is told when it
        is looked at."""
        found = Unknown()
        for entry in page:
            with suppress(Exception):
                self._z_look_at(entry, found)
        return found.oids

    def _z_look_at(self, entry: Entry, space: Any) -> None:
        """Reads an entry in a space."""

    def _z_value(self, shape: Any, cls: str, found: Found) -> Any:
        """The value in an entry's data."""
        return self._z_value_in(shape, cls, found, self._z_space)

    def _z_value_in(self, shape: Any, cls: str, found: Found, space: Any) -> Any:
        if found[0] != cls:
            raise WrongClass(f"an entry of {self!r} is of class {found[0]!r}, and not {cls!r}; open it as what it is")
        source = Source(found[1])
        try:
            if source.raw(1) != FORMAT:
                raise ValueError("its format is not 1")
            if found[2] and not self._z_refers:
                raise ValueError("it refers to objects")
            value = shape.take(source, Named(space, found[2]))
            if source.at != len(source.data):
                raise ValueError(f"{len(source.data) - source.at} bytes are left over")
        except (ValueError, struct.error, BadValue) as error:
            raise Undecodable(f"an entry of {self!r} is no {shape.name}: {error}; open it with the types that it was made with") from error
        return value

    def _z_put(self, key: bytes, cls: str, out: Out, data: bytes) -> None:
        oid = self._z_place()
        self._z_space.put(oid, key, cls, out, FORMAT + data)

    def _z_delete(self, key: bytes) -> None:
        self._z_space.check_writing_to(self._z_owner)
        if self._z_oid is not None:
            self._z_space.delete_cell(self._z_oid, key)


class _Keyed(Collection, Generic[K]):
    """What has a key in front of each entry."""

    _z_key: keys.KeyKind

    def _z_between(self, start: Any, stop: Any, prefix: Any) -> tuple[bytes, bytes | None]:
        if prefix is not None:
            if start is not None or stop is not None:
                raise BadValue("a prefix, or a start and a stop, not both")
            if not isinstance(prefix, str | bytes) or not isinstance(self._z_key, keys.Bytes):
                raise BadValue("a prefix is of keys that are text or bytes")
            first = prefix.encode() if isinstance(prefix, str) else prefix
            return first, keys.after_prefix(first)
        return (b"" if start is None else self._z_encoded(start)), (None if stop is None else self._z_encoded(stop))

    def _z_out(self, key: Any) -> Out:
        """With what the key refers to."""
        out = Out(self._z_space)
        for obj in self._z_key.refs(key):
            out.oid(obj)
        return out

    def _z_encoded(self, key: Any) -> bytes:
        """The bytes of a key, whose objects are of this database."""
        encoded = self._z_key.put(key)
        for obj in self._z_key.refs(key):
            self._z_space.check_database(obj)
        return encoded

    def _z_look_at(self, entry: Entry, space: Any) -> None:
        self._z_key.read(entry[0], space)

    def __contains__(self, key: object) -> bool:
        return self._z_read(self._z_encoded(key)) is not None

    def __len__(self) -> int:
        """Counted by going over all keys: where it is wanted often, keep a Counter beside it."""
        return sum(1 for _ in self._z_walk(keys_only=True))

    def __bool__(self) -> bool:
        return next(self._z_walk(keys_only=True, limit=1), None) is not None

    def keys(
        self, start: K | None = None, stop: K | None = None, *, prefix: K | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[K]:
        """The keys in their order, from ``start`` to before ``stop``, or those that begin with ``prefix``."""
        first, end = self._z_between(start, stop, prefix)
        for key, *_ in self._z_walk(first, end, reverse=reverse, keys_only=True, limit=limit):
            yield self._z_key.read(key, self._z_space)

    def __iter__(self) -> Iterator[K]:
        return self.keys()


class _Valued(_Keyed[K], Generic[K, V]):
    """What has a value in each entry."""

    _z_default = (str, Object)
    _z_entry: ClassVar[str] = ENTRY
    _z_shape: Any

    def _z_bound(self, *types: Any) -> None:
        self._z_key, self._z_shape = key_of(types[0]), shape_of(types[1])
        self._z_is_open = self._z_key.is_open or self._z_shape.is_open
        self._z_refers = self._z_key.refers or self._z_shape.refers

    def _z_look_at(self, entry: Entry, space: Any) -> None:
        super()._z_look_at(entry, space)
        if entry[1]:
            self._z_value_in(self._z_shape, self._z_entry, entry[1:], space)

    def _z_set(self, key: K, value: V) -> None:
        out = self._z_out(key)  # a new object is placed before it is a key
        encoded = self._z_encoded(key)
        data = self._z_shape.put(value, out)
        self._z_put(encoded, self._z_entry, out, data)

    def __getitem__(self, key: K) -> V:
        found = self._z_read(self._z_encoded(key))
        if found is None:
            raise KeyError(key)
        value: V = self._z_value(self._z_shape, self._z_entry, found)
        return value

    def get(self, key: K, default: V | None = None) -> V | None:
        """The value of a key, or the default."""
        found = self._z_read(self._z_encoded(key))
        return default if found is None else self._z_value(self._z_shape, self._z_entry, found)

    def __delitem__(self, key: K) -> None:
        encoded = self._z_encoded(key)
        if self._z_read(encoded) is None:
            raise KeyError(key)
        self._z_delete(encoded)

    def items(
        self, start: K | None = None, stop: K | None = None, *, prefix: K | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[K, V]]:
        """Keys and values in the order of keys, from ``start`` to before ``stop``, or those that begin with ``prefix``."""
        first, end = self._z_between(start, stop, prefix)
        for key, cls, data, refs in self._z_walk(first, end, reverse=reverse, limit=limit):
            yield self._z_key.read(key, self._z_space), self._z_value(self._z_shape, self._z_entry, (cls, data, refs))

    def values(self) -> Iterator[V]:
        """The values in the order of their keys."""
        return (value for _, value in self.items())


class Map(_Valued[K, V]):
    """An ordered map with an entry for each key: writers of different keys never conflict."""

    _z_collection = "zeolite.Map"

    def __setitem__(self, key: K, value: V) -> None:
        self._z_set(key, value)

    def pop(self, key: K, default: V | None = None) -> V | None:
        """Takes a key out, and gives its value."""
        encoded = self._z_encoded(key)
        found = self._z_read(encoded)
        if found is None:
            return default
        self._z_delete(encoded)
        value: V = self._z_value(self._z_shape, self._z_entry, found)
        return value


class Unique(_Valued[K, V]):
    """A value for each key, which only one may have: KeyError (``Taken``) for the second one."""

    _z_collection = "zeolite.UniqueIndex"
    _z_entry = UNIQUE

    def __setitem__(self, key: K, value: V) -> None:
        """Takes the key; for the object that has it already it stays as it is."""
        found = self._z_read(self._z_encoded(key))
        if found is None:
            self._z_set(key, value)
            return
        owner = self._z_value(self._z_shape, self._z_entry, found)
        if not (isinstance(owner, Object) and isinstance(value, Object) and owner._z_oid == value._z_oid):
            raise Taken(f"{key!r} is taken in {self!r}; choose another key")

    def replace(self, key: K, value: V) -> None:
        """Takes the key, whoever has it."""
        self._z_set(key, value)


class Set(_Keyed[K]):
    """An ordered set with an entry for each member."""

    _z_collection = "zeolite.Members"
    _z_default = (str,)

    def _z_bound(self, *types: Any) -> None:
        self._z_key = key_of(types[0])
        self._z_is_open = self._z_key.is_open

    def add(self, member: K) -> None:
        """Puts a member in, without reading."""
        out = self._z_out(member)  # a new object is placed before it is a key
        self._z_put(self._z_encoded(member), ENTRY, out, b"")

    def discard(self, member: K) -> None:
        """Takes a member out, without reading."""
        self._z_delete(self._z_encoded(member))


class Index(_Keyed[tuple[K, T]], Generic[K, T]):
    """Objects by a key that several may have: any number of writers add to one key at once. Its keys are pairs of key and object."""

    _z_collection = "zeolite.Index"
    _z_default = (str, Object)
    _z_inner: keys.KeyKind

    def _z_bound(self, *types: Any) -> None:
        self._z_inner = key_of(types[0])
        self._z_key = keys.Tuple([self._z_inner, keys.Reference(types[1])])
        self._z_is_open = self._z_key.is_open

    def _z_first(self, key: K) -> bytes:
        """What all entries of a key begin with."""
        encoded = self._z_inner.put(key, last=False)
        for obj in self._z_inner.refs(key):
            self._z_space.check_database(obj)
        return encoded

    def add(self, key: K, obj: T) -> None:
        """Puts an object under a key, without reading."""
        out = self._z_out((key, obj))
        self._z_put(self._z_encoded((key, obj)), ENTRY, out, b"")

    def discard(self, key: K, obj: T) -> None:
        """Takes an object away from a key, without reading."""
        self._z_delete(self._z_encoded((key, obj)))

    def find(self, key: K) -> list[T]:
        """The objects of a key."""
        first = self._z_first(key)
        walk = self._z_walk(first, keys.after_prefix(first), keys_only=True)
        return [self._z_key.read(encoded, self._z_space)[1] for encoded, *_ in walk]

    def between(
        self, start: K | None = None, stop: K | None = None, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[K, T]]:
        """Keys and their objects in the order of keys, from ``start`` to before ``stop``."""
        first = b"" if start is None else self._z_first(start)
        end = None if stop is None else self._z_first(stop)
        for encoded, *_ in self._z_walk(first, end, reverse=reverse, keys_only=True, limit=limit):
            yield self._z_key.read(encoded, self._z_space)
