"""Owns when entries of kept indexes are written: with what has changed, and before an index is read.

    keys of the record as it was loaded ──┐                          gone: deletes, of a unique key if it is the object's own
    keys of the object as it is       ────┴─ compared, by object ──> new:  puts, of a unique key if it is free

All that goes is taken out before anything is put in, so two objects can exchange their keys. What is taken out is deleted also where nothing
is: somebody who fills the index meanwhile is then in the way, or gives way. The entries are those of ``Index`` and ``Unique``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zeolite.errors import Taken

from .collections import Index, Unique
from .kept import Keys, keys_of
from .objects import Object


def opened(space: Any, of: type[Object], name: str) -> Any:
    """The collection that an index is, by its name in the class."""
    for kept in of._z_kept_indexes():
        if kept.field == name:
            kind: Any = Unique if kept.is_unique else Index
            return space.root.open(kept.root_name(of._z_class), kind[kept.key, of])
    raise LookupError(f"{of.__name__} has no index {name!r}; it has {', '.join(kept.field for kept in of._z_kept_indexes()) or 'none'}")


def settle(space: Any, written: Iterable[Object], deleted: Iterable[Object]) -> None:
    """Brings the entries of what was written and deleted among the transaction's writes."""
    differences: list[tuple[Object, Keys, Keys]] = []
    for obj in deleted:
        differences.append((obj, obj._z_keys, {}))
        obj._z_keys = {}
    for obj in written:
        if obj._z_values is not None and type(obj)._z_kept_indexes():
            now, before = keys_of(obj), obj._z_keys
            gone = {name: {key: before[name][key] for key in before[name] if key not in now[name]} for name in before}
            there: Keys = before if obj._z_keys_there else {}
            new = {name: {key: now[name][key] for key in now[name] if key not in there.get(name, ())} for name in now}
            differences.append((obj, gone, new))
            obj._z_keys, obj._z_keys_there = now, True
    for obj, gone, _ in differences:
        for kept in type(obj)._z_kept_indexes():
            for key in gone.get(kept.name, {}).values():
                index = opened(space, type(obj), kept.field)
                if not kept.is_unique:
                    index.discard(key, obj)
                elif _owner(index, key) in (None, obj._z_oid):
                    index._z_delete(index._z_encoded(key))
    for obj, _, new in differences:
        for kept in type(obj)._z_kept_indexes():
            for key in new.get(kept.name, {}).values():
                index = opened(space, type(obj), kept.field)
                if not kept.is_unique:
                    index.add(key, obj)
                elif (owner := _owner(index, key)) in (None, obj._z_oid):
                    index.replace(key, obj)
                else:
                    raise Taken(f"{key!r} in the index {kept.name} of {obj._z_class} is that of object {owner:x}; choose another key")


def _owner(index: Any, key: Any) -> int | None:
    """Whose a unique key is."""
    owner = index.get(key)
    return None if owner is None else owner._z_oid
