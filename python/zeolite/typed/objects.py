"""Owns objects: classes with annotated fields, each object a record of its own in the database.

    class Page(zeolite.Object, cls="wiki.Page", version=2):
        title: str
        parent: Page | None = None          another object, loaded when it is looked at
        hits: zeolite.Counter               a collection: an object of its own, made with the page

    free ── tx.create ──> new ── commit ──> stored          known ── looked at ──> loaded ── assigned to ──> changed

An object belongs to the transaction, or the snapshot, that it was got in. What is in it can be looked at when that is over; what would
have to be loaded, or written, is refused then. What a record has beside the fields of the class is kept and written again.
"""

from __future__ import annotations

import inspect
import sys
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from zeolite.errors import BadValue, FixRequest, NewerVersion, NoUpgrade, Undecodable, WrongClass

from .encoding import Named, Out, Unknown, Unnamed, dumped, encoded, loaded
from .fields import MISSING, Field
from .kept import Kept, Keys, kept_by_methods

#: A version's number has 32 bits, a class's name 255 bytes.
VERSION_MAX = (1 << 32) - 1
CLASS_BYTES_MAX = 255

Old = dict[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])
#: What a record has: class, version, references, blobs, data.
Parts = tuple[str, int, list[int], list[bytes], bytes]

_CLASSES: dict[str, type[Object]] = {}
_NAMES: dict[str, Any] = {}


def upgrade(version: int) -> Callable[[Function], Function]:
    """Decorates, in a class, what makes of the fields of that version those of the next one: from a dict, a dict. References and
    collections are numbers in it."""

    def decorate(function: Function) -> Function:
        inner: Any = function.__func__ if isinstance(function, staticmethod) else function
        inner._z_upgrade = version
        return function

    return decorate


class Object:
    """An object of the database. Classes that derive from it say ``cls``, their name in the database, and their fields."""

    #: The name in the database; empty: it has no objects of its own, only classes below it have.
    _z_class: ClassVar[str] = ""
    _z_version: ClassVar[int] = 1
    _z_upgrades: ClassVar[dict[int, Callable[[Old], Old]]] = {}
    _z_known: ClassVar[dict[str, Field] | None] = None
    #: Indexes that are kept elsewhere, whose entries this program writes by itself.
    _z_indexes: ClassVar[frozenset[str]] = frozenset()
    _z_kept_known: ClassVar[list[Kept] | None] = None
    _z_all_known: ClassVar[list[Kept] | None] = None
    #: The class as it was in a former version: its indexes lose the entries of what becomes one of this version.
    _z_former: ClassVar[type[Object] | None] = None
    #: Where its statement is: two places in one code are two classes, also where they have one name.
    _z_stated: ClassVar[tuple[Any, int]] = (None, 0)
    _z_around: ClassVar[tuple[dict[str, Any], dict[str, Any]]] = ({}, {})

    _z_space: Any
    _z_oid: int | None
    _z_values: dict[str, Any] | None
    _z_extra: dict[str, Any]
    _z_kept: tuple[list[int], list[bytes]]
    _z_seen: dict[str, bytes]
    #: The keys that it has in the kept indexes, or may have (``kept.keys_there``); or the record of which they are to be worked out.
    _z_keys: Keys
    _z_keys_there: bool
    _z_read: Parts | None
    #: Of fields that nobody has assigned: what CBOR had, to be written again as it was.
    _z_stored: dict[str, Any]

    def __init_subclass__(
        subclass,
        /,
        *,
        cls: str = "",
        version: int = 1,
        former: type[Object] | None = None,
        indexes: Iterable[str] = (),
        **keywords: Any,
    ) -> None:
        super().__init_subclass__(**keywords)
        if len(encoded(cls)) > CLASS_BYTES_MAX or cls.startswith("zeolite."):
            raise BadValue(f"{cls!r} is no name for a class: it has more than {CLASS_BYTES_MAX} bytes, or begins with zeolite.")
        if not isinstance(version, int) or not 0 <= version <= VERSION_MAX:
            raise BadValue(f"version {version!r} of {subclass.__name__} is no number from 0 to {VERSION_MAX}")
        subclass._z_class, subclass._z_version, subclass._z_known, subclass._z_indexes = cls, version, None, frozenset(indexes)
        subclass._z_kept_known = subclass._z_all_known = None
        if former is not None and (former._z_class != cls or former._z_version >= version):
            was = f"{former._z_class!r}, version {former._z_version}"
            raise BadValue(f"{former.__name__} is {was}: no former version of {subclass.__name__}, which is {cls!r}, version {version}")
        subclass._z_former = former
        found = [getattr(one, "__func__", one) for one in vars(subclass).values()]
        own = {one._z_upgrade: one for one in found if hasattr(one, "_z_upgrade")}
        subclass._z_upgrades = {**({} if former is None else former._z_upgrades), **subclass._z_upgrades, **own}
        # Annotations of a class within a function may name what is there.
        around = sys._getframe(1)
        subclass._z_stated = (around.f_code, around.f_lineno)
        subclass._z_around = (around.f_globals, dict(around.f_locals) if around.f_locals is not around.f_globals else {})
        _NAMES[subclass.__name__] = subclass
        subclass._z_check_fields()
        if cls:
            subclass._z_take_name()

    @classmethod
    def _z_take_name(cls) -> None:
        """Of several classes of one name the one with the highest version reads what only its record says what it is."""
        other = _CLASSES.get(cls._z_class, cls)
        is_again = (other.__module__, other.__qualname__) == (cls.__module__, cls.__qualname__)
        is_again = is_again and (other._z_stated[0] is not cls._z_stated[0] or other._z_stated == cls._z_stated)
        if not is_again and other._z_version > cls._z_version:
            return
        if not is_again and other._z_version == cls._z_version:
            warnings.warn(
                f"two classes are {cls._z_class!r}, version {cls._z_version}: {other.__module__}.{other.__qualname__}, and now "
                f"{cls.__module__}.{cls.__qualname__}, which is taken from here on; give one another name (cls=...), or another version",
                stacklevel=3,
            )
        _CLASSES[cls._z_class] = cls

    @classmethod
    def _z_check_fields(cls) -> None:
        """Refuses annotations that cannot be stored. Those that name what comes later are looked at then."""
        with suppress(NameError):
            for name, annotation in inspect.get_annotations(cls).items():
                if name.startswith("_"):
                    continue
                try:
                    hint = cls._z_hints({name: annotation})[name]
                    if typing.get_origin(hint) is not ClassVar:
                        Field(name, hint, MISSING).initial(None)
                except BadValue as error:
                    raise BadValue(f"field {name} of {cls.__name__}: {error}") from None
                except RecursionError:
                    raise BadValue(f"field {name} of {cls.__name__}: a type that has itself in it; make it a class of objects") from None
                except (NameError, AttributeError, TypeError):
                    continue

    @classmethod
    def _z_hints(cls, own: dict[str, Any]) -> dict[str, Any]:
        """What annotations of the class say, where it stands."""
        around, local = cls._z_around
        names = {**{name: one for name, one in _NAMES.items() if name not in around}, **local, cls.__name__: cls}
        return typing.get_type_hints(_bearer(cls, own), around, names, include_extras=True)

    @classmethod
    def _z_fields(cls) -> dict[str, Field]:
        """The fields, with those of the classes above; annotations may name classes that come later, so they are looked at here."""
        if cls._z_known is None:
            fields: dict[str, Field] = {}
            for above in reversed([one for one in cls.__mro__ if issubclass(one, Object) and one is not Object]):
                own = inspect.get_annotations(above)
                hints = above._z_hints(own)
                for name in own:
                    if typing.get_origin(hints[name]) is ClassVar or name.startswith("_"):
                        continue
                    former = vars(above).get(name, MISSING)
                    if not isinstance(former, Field):
                        former = Field(name, hints[name], former)
                        setattr(above, name, former)
                    fields[name] = former
            cls._z_known = fields
        return cls._z_known

    @classmethod
    def _z_changes_in_place(cls) -> bool:
        """Whether what is in a field can change without an assignment."""
        return any(field.is_mutable for field in cls._z_fields().values())

    @classmethod
    def _z_kept_indexes(cls) -> list[Kept]:
        """The indexes that are kept with its objects."""
        if cls._z_kept_known is None:
            by_fields = [field.kept for field in cls._z_fields().values() if field.kept is not None]
            cls._z_kept_known = by_fields + kept_by_methods(cls)
        return cls._z_kept_known

    @classmethod
    def _z_formers(cls) -> list[type[Object]]:
        """The classes of former versions, the last one first."""
        return [] if cls._z_former is None else [cls._z_former, *cls._z_former._z_formers()]

    @classmethod
    def _z_all_indexes(cls) -> list[Kept]:
        """Those in which its records may be: also those that only a former version had."""
        if cls._z_all_known is None:
            all_of_them = [kept for of in (cls, *cls._z_formers()) for kept in of._z_kept_indexes()]
            cls._z_all_known = list({kept.name: kept for kept in reversed(all_of_them)}.values())
        return cls._z_all_known

    def __init__(self, **fields: Any) -> None:
        known = type(self)._z_fields()
        _bare(self, None, None)
        self._z_values = values = {}
        for name, field in known.items():
            if name in fields:
                if field.is_collection:
                    values[name] = field.initial(self)
                    if values[name]._z_begin(fields.get(name)):
                        del fields[name]
                        continue
                    raise BadValue(f"{name} is a collection: it is made with the object, and filled in the transaction")
                field.__set__(self, fields.pop(name))
            elif field.default is MISSING and not field.is_collection:
                raise BadValue(f"{type(self).__name__} needs {name}")
            else:
                values[name] = field.initial(self)
        if fields:
            raise BadValue(f"{type(self).__name__} has no field {', '.join(fields)}; it has {', '.join(known)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self)._z_fields() and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no field {name}; annotate it in the class, and raise its version")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        where = "not in a database" if self._z_oid is None else f"{self._z_oid:x}"
        return f"<{type(self).__name__} {where}>"

    def _z_collections(self) -> list[Any]:
        """Its collections."""
        if self._z_values is None:
            return []
        return [self._z_values[name] for name, field in type(self)._z_fields().items() if field.is_collection]

    def _z_take_collections(self, collections: list[Any]) -> None:
        """These, in the order of the fields, are its collections."""
        names = [name for name, field in type(self)._z_fields().items() if field.is_collection]
        (self._z_values or {}).update(zip(names, collections, strict=True))

    def _z_oid_for_use(self, out: Out | None = None) -> int:
        """The oid, for a reference from elsewhere."""
        if self._z_oid is None:
            raise FixRequest(f"{self!r} has no place yet; make it with tx.create")
        return self._z_oid

    def _z_displace(self) -> None:
        """It has no place any more: what gave it one does not happen."""
        for collection in self._z_collections():
            collection._z_oid = None
        self._z_space = self._z_oid = None
        self._z_keys, self._z_keys_there, self._z_read = {}, True, None

    def _z_forget(self) -> None:
        """It is read again when it is next looked at."""
        _bare(self, self._z_space, self._z_oid)

    def _z_load(self) -> dict[str, Any]:
        self._z_space.load_object(self)
        assert self._z_values is not None
        return self._z_values

    def _z_look(self, field: Field) -> None:
        """Keeps what a value that can change looks like: at the commit that tells whether it has."""
        if field.name not in self._z_seen and self._z_values is not None:
            self._z_seen[field.name] = dumped(field.plain(self._z_values[field.name], Out()))
            self._z_space.looked_at(self)

    def _z_write(self) -> None:
        self._z_space.check_writing()
        if self._z_values is None:
            self._z_load()
        self._z_space.will_write(self)

    def _z_changed(self) -> set[str]:
        """The fields whose values have changed in place."""
        fields, values = type(self)._z_fields(), self._z_values or {}
        return {name for name, seen in self._z_seen.items() if dumped(fields[name].plain(values[name], Out())) != seen}

    def _z_record(self, space: Any) -> Parts:
        """As it is stored."""
        assert self._z_values is not None
        out = Out(space)
        plain = {name: field.plain(self._z_values[name], out) for name, field in type(self)._z_fields().items()}
        seen = self._z_seen
        plain.update({name: stored for name, stored in self._z_stored.items() if name not in seen or dumped(plain[name]) == seen[name]})
        plain.update(self._z_extra)
        refs, blobs = self._z_kept
        out.refs.update(dict.fromkeys(refs if self._z_extra else []))
        out.blobs.update(dict.fromkeys(blobs))
        return self._z_class, self._z_version, list(out.refs), list(out.blobs), dumped(plain)

    def _z_fill(self, parts: Parts) -> None:
        """What is stored becomes its values, upgraded where it is of an older version."""
        class_name, version, refs, blobs, data = parts
        if class_name != self._z_class:
            other = _CLASSES.get(class_name)
            if other is None or not issubclass(other, type(self)):
                raise WrongClass(f"{self!r} is of class {class_name!r}; {type(self).__name__} is {self._z_class!r}")
            self.__class__ = other
        what = f"{class_name} (version {version}), {self._z_oid:x}"
        plain = upgraded(type(self), version, what, data)
        values: dict[str, Any] = {}
        stored = {name: plain[name] for name, field in type(self)._z_fields().items() if name in plain and not field.is_collection}
        held, named = self._z_know(plain), Named(self._z_space, refs)
        for name, field in type(self)._z_fields().items():
            try:
                values[name] = field.value(plain.pop(name), self, named) if name in plain else field.initial(self)
            except Unnamed as error:
                raise Undecodable(f"field {name} of {what}: {error}") from error
            except (BadValue, ValueError, TypeError, AttributeError) as error:
                raise Undecodable(f"field {name} of {what}: {error}; was the version raised when the class changed?") from error
            if values[name] is MISSING:
                raise Undecodable(f"{what} has no {name}; give the field a default, or raise the version and upgrade")
        del held
        if blobs:
            # Those that no field names are kept as they are.
            found = Out()
            for name, field in type(self)._z_fields().items():
                if field.shape is not None:
                    field.shape.plain(values[name], found)
            blobs = [blob for blob in blobs if blob not in found.blobs]
        self._z_values, self._z_extra, self._z_kept = values, plain, (refs, blobs)
        self._z_seen, self._z_stored = {}, stored
        self._z_read = parts if type(self)._z_all_indexes() else None

    def _z_as_read(self, of: type[Object]) -> Object:
        """Another one, of the class or of a former version of it, with the values that were read: nothing is noted when these are looked
        at, and nobody holds it."""
        assert self._z_oid is not None and self._z_read is not None
        was = known(of, self._z_space, self._z_oid)
        was._z_fill(self._z_read)
        was._z_seen = dict.fromkeys(of._z_fields(), b"")
        return was

    def _z_know(self, plain: dict[str, Any]) -> list[Object]:
        """The objects in the fields of which only their records say what they are, loaded together."""
        found = Unknown()
        for name, field in type(self)._z_fields().items():
            if field.shape is not None and field.shape.is_open and name in plain:
                with suppress(Exception):  # told where it is looked at
                    field.shape.value(plain[name], found)
        known: list[Object] = self._z_space.know(found.oids) if found.oids else []
        return known


def _bearer(above: type, annotations: dict[str, Any]) -> Any:
    """What bears a class's own annotations alone, in its module."""
    return type("bearer", (), {"__annotations__": annotations, "__module__": above.__module__})


def _bare(obj: Object, space: Any, oid: int | None) -> None:
    state: Mapping[str, Any] = {
        "_z_space": space, "_z_oid": oid, "_z_values": None, "_z_extra": {}, "_z_kept": ([], []), "_z_seen": {},
        "_z_stored": {}, "_z_keys": {}, "_z_keys_there": True, "_z_read": None,
    }  # fmt: skip
    obj.__dict__.update(state)


def known(of: type[Object], space: Any, oid: int) -> Object:
    """An object that is not loaded yet."""
    of._z_fields()
    obj: Object = of.__new__(of)
    _bare(obj, space, oid)
    return obj


def class_of(name: str, above: type[Object] = Object) -> type[Object]:
    """The class of that name in the database."""
    found = above if above._z_class == name else _CLASSES.get(name)
    if found is None:
        raise WrongClass(f"no class is {name!r} here; import the module that says cls={name!r}")
    if not issubclass(found, above):
        raise WrongClass(f"what is stored is of class {name!r}, and not a {above.__name__}")
    return found


def upgraded(of: type[Object], version: int, what: str, data: bytes) -> dict[str, Any]:
    """The fields of a record as the class has them now."""
    if version > of._z_version:
        raise NewerVersion(f"{what} was written by a newer version of the program; this one knows {of._z_version}: deploy the newer one")
    fields = loaded(data, what)
    while version < of._z_version:
        step = of._z_upgrades.get(version)
        if step is None:
            raise NoUpgrade(f"{what}: {of.__name__} has no upgrade from version {version}; decorate one with zeolite.upgrade({version})")
        try:
            fields = step(fields)
        except Exception as error:
            if hasattr(error, "add_note"):  # from 3.11 on
                error.add_note(f"in the upgrade of {what}, from version {version}")
            raise
        version += 1
    if not isinstance(fields, dict):
        raise Undecodable(f"{what} is no map of fields")
    return dict(fields)
