"""Owns when entries of kept indexes are written: with what has changed, and before an index is read.

    keys of the record as it was loaded ──┐                          gone: deletes, of a unique key if it is the object's own
    keys of the object as it is       ────┴─ compared, by object ──> new:  puts, of a unique key if it is free

All that goes is taken out before anything is put in, so two objects can exchange their keys. What is taken out is deleted also where nothing
is: somebody who fills the index meanwhile is then in the way, or gives way. The entries are those of ``Index`` and ``Unique``.

An index whose keys are not of text is looked for by the name without their kind as well, from before names told it.
Not here: entries of an index that has lost its name to an undo. A new one is made; Rust's client gives the name back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cache
from typing import Any

from zeolite.errors import BadValue, KeptElsewhere, Taken, Undecodable

from .collections import Index, Unique
from .kept import KEY_BYTES_MAX, Kept, Keys, keys_of, keys_there, root_name
from .objects import Object


def opened(space: Any, of: type[Object], name: str) -> Any:
    """The collection that an index is, by its name in the class."""
    for kept in of._z_kept_indexes():
        if kept.field == name:
            return _collection(space, of, kept)
    raise LookupError(f"{of.__name__} has no index {name!r}; it has {', '.join(kept.field for kept in of._z_kept_indexes()) or 'none'}")


def _collection(space: Any, of: type[Object], kept: Kept) -> Any:
    """By its name in the root; one without the kind of its keys is looked for as well, unless the class says that it is another's."""
    kind: Any = (Unique if kept.is_unique else Index)[kept.key, of]
    name, former = (root_name(of._z_class, one) for one in (kept.name, kept.bare_name))
    if name == former or kept.bare_name in of._z_indexes:
        return space.root.open(name, kind)
    index = space.root.open_either(name, former, kind)
    if index._z_owner._name == former:
        _check_kind(index, of, kept)
    return index


def _check_kind(index: Any, of: type[Object], kept: Kept) -> None:
    """Refuses one of text by that name: bytes of a text are in no order with those of other keys."""
    try:
        for reverse in (False, True):
            for _ in index.keys(reverse=reverse, limit=1):
                pass
    except Undecodable as error:
        raise KeptElsewhere(
            f"the index {kept.bare_name} of {of._z_class} has other keys than the class says, those of a former version: say so, "
            f"indexes=[{kept.bare_name!r}], and let Rust's evolve::reindex fill {kept.name}"
        ) from error


@dataclasses.dataclass
class _Changed:
    """One object's."""

    obj: Object
    before: Keys
    now: Keys
    are_there: bool = True

    def gone(self, kept: Kept) -> list[Any]:
        """Keys that go. One that is too long was never there."""
        now = self.now.get(kept.name, {})
        return [key for at, key in self.before.get(kept.name, {}).items() if at not in now and kept.length(at) <= KEY_BYTES_MAX]

    def new(self, kept: Kept) -> list[Any]:
        """Keys that come."""
        there = self.before.get(kept.name, {}) if self.are_there else {}
        new = {at: key for at, key in self.now.get(kept.name, {}).items() if at not in there}
        for at in new:
            if kept.length(at) > KEY_BYTES_MAX:
                raise BadValue(
                    f"{kept.told(self.obj)}: a key of {kept.length(at)} bytes, and a server takes {KEY_BYTES_MAX}; shorten what is indexed, "
                    f"or index a part of it, by a method with zeolite.indexed_by that gives the part"
                )
        return list(new.values())


def settle(space: Any, written: Iterable[Object], deleted: Iterable[Object]) -> None:
    """Brings the entries of what was written and deleted among the transaction's writes."""
    changes = [_Changed(obj, keys_there(obj)[0], {}) for obj in deleted]
    for obj in written:
        if obj._z_values is not None and type(obj)._z_kept_indexes():
            before, are_there = keys_there(obj)
            changes.append(_Changed(obj, before, keys_of(obj), are_there))
    by_index = [(change.obj, kept, change.gone(kept), change.new(kept)) for change in changes for kept in type(change.obj)._z_kept_indexes()]
    for change in changes:
        # Who goes on after an error has entries of both.
        names = {*change.before, *change.now}
        change.obj._z_keys = {name: {**change.before.get(name, {}), **change.now.get(name, {})} for name in names}
        change.obj._z_keys_there = False
    _write(space, by_index)
    for change in changes:
        change.obj._z_keys, change.obj._z_keys_there = change.now, True


def _write(space: Any, by_index: list[tuple[Object, Kept, list[Any], list[Any]]]) -> None:
    """What goes, of all of them; then what comes."""

    @cache
    def collection(of: Any, kept: Kept) -> Any:
        return _collection(space, of, kept)

    for obj, kept, gone, _ in by_index:
        of: Any = type(obj)
        for key in gone:
            index = collection(of, kept)
            if not kept.is_unique:
                index.discard(key, obj)
            elif _owner(index, key) in (None, obj._z_oid):
                index._z_delete(index._z_encoded(key))
    for obj, kept, _, new in by_index:
        of = type(obj)
        for key in new:
            index = collection(of, kept)
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
