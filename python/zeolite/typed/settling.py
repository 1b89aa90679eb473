"""Owns when entries of kept indexes are written: with what has changed, and before an index is read.

    keys of the record as it was loaded ──┐                          gone: deletes, of a unique key if it is the object's own
    keys of the object as it is       ────┴─ compared, by object ──> new:  puts, of a unique key if it is free

All that goes is taken out before anything is put in, so two objects can exchange their keys. What is taken out is deleted also where nothing
is: somebody who fills the index meanwhile is then in the way, or gives way. The entries are those of ``Index`` and ``Unique``.

A unique key is another object's where that one's record says so. An entry that was left behind is taken over, and the commit rests on that record:
its owner may come back to the key at the same time.

Where an index is, is asked of the native half, by the rules of Rust's client: it is made in a transaction of its own before its first
entry, so the first two objects of a class are no conflict; and one whose making was undone has its name again. Those of former
versions (``former=Note1``) lose the entries of what is written or deleted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from zeolite.errors import BadValue, FixRequest, GiveUp, KeptElsewhere, Taken, Undecodable, ZeoliteError

from .collections import Index, Unique
from .kept import Kept, Keys, keys_of, keys_there
from .objects import Object, known


def opened(space: Any, of: type[Object], name: str) -> Any:
    """The collection that an index is, by its name in the class."""
    for kept in of._z_kept_indexes():
        if kept.field == name:
            return _collection(space, of, kept)
    raise LookupError(f"{of.__name__} has no index {name!r}; it has {', '.join(kept.field for kept in of._z_kept_indexes()) or 'none'}")


def _collection(space: Any, of: type[Object], kept: Kept, *, make: bool = False) -> Any:
    """Looked for until it is there. Who is about to write looks and makes in one: so nothing is concluded from its not being there."""
    index = space.opened_indexes.get((of, kept.name))
    if index is None:
        owner = _Class(space, of, kept)
        kind: Any = (Unique if kept.is_unique else Index)[kept.key, of]
        index = space.opened_indexes[of, kept.name] = owner.index = (Unique if kept.is_unique else Index)._z_open(kind, owner, None)
    if index._z_oid is None:
        index._z_owner.find(make)
    return index


class _Class:
    """The owner of an index."""

    def __init__(self, space: Any, of: type[Object], kept: Kept):
        self._z_space = space
        self._of, self._kept = of, kept
        self.index: Any = None

    def find(self, make: bool) -> None:
        """Looks for it, and makes it where it is not."""
        of, kept = self._of, self._kept
        found = self._z_space.kept_index(of._z_class, kept.declared(of), make)
        if found is None:
            return
        self.index._z_oid, is_told = found
        # What was made meanwhile is not in the state that is read here.
        self.index._z_is_there = make
        if not is_told:
            self._check_kind()

    def _z_make(self) -> None:
        self.find(make=True)

    def _check_kind(self) -> None:
        """Refuses one of text by the name without a kind: bytes of a text are in no order with those of other keys."""
        of, kept = self._of, self._kept
        try:
            for reverse in (False, True):
                for _ in self.index.keys(reverse=reverse, limit=1):
                    pass
        except Undecodable as error:
            self.index._z_oid = None
            raise KeptElsewhere(
                f"the index {kept.bare_name} of {of._z_class} has other keys than the class says, those of a former version: name that "
                f"version's class, former=..., or say that they are written elsewhere, indexes=[{kept.bare_name!r}]"
            ) from error

    def __repr__(self) -> str:
        return f"the index {self._kept.name} of {self._of._z_class}"


@dataclasses.dataclass
class _Changed:
    """One object's."""

    obj: Object
    before: Keys
    #: The keys of before are in the indexes, as far as anybody knows.
    are_there: bool
    now: Keys
    key_bytes_max: int

    def gone(self, kept: Kept) -> list[Any]:
        """Keys that go. One that is too long was never there."""
        now = self.now.get(kept.name, {})
        return [key for at, key in self.before.get(kept.name, {}).items() if at not in now and kept.length(at) <= self.key_bytes_max]

    def new(self, kept: Kept) -> list[Any]:
        """Keys that come."""
        there = self.before.get(kept.name, {}) if self.are_there else {}
        new = {at: key for at, key in self.now.get(kept.name, {}).items() if at not in there}
        for at in new:
            if kept.length(at) > self.key_bytes_max:
                raise BadValue(
                    f"{kept.told(self.obj)}: a key of {kept.length(at)} bytes, and the server takes {self.key_bytes_max} "
                    f"(limits.key_bytes_max); shorten what is indexed, or index a part of it, by a method with zeolite.indexed_by that gives the part"
                )
        return list(new.values())


def settle(space: Any, written: Iterable[Object], deleted: Iterable[Object]) -> None:
    """Brings the entries of what was written and deleted among the transaction's writes."""
    longest = space.key_bytes_max()
    changes = [_Changed(obj, *keys_there(obj), {}, longest) for obj in deleted]
    for obj in written:
        if obj._z_values is not None and type(obj)._z_all_indexes():
            changes.append(_Changed(obj, *keys_there(obj), keys_of(obj), longest))
    by_index = [(change, kept, change.gone(kept), change.new(kept)) for change in changes for kept in type(change.obj)._z_all_indexes()]
    for change in changes:
        # Who goes on after an error has entries of both.
        names = {*change.before, *change.now}
        change.obj._z_keys = {name: {**change.before.get(name, {}), **change.now.get(name, {})} for name in names}
        change.obj._z_keys_there = False
    _write(space, by_index)
    for change in changes:
        change.obj._z_keys, change.obj._z_keys_there = change.now, True


def _write(space: Any, by_index: list[tuple[_Changed, Kept, list[Any], list[Any]]]) -> None:
    """What goes, of all of them; then what comes."""
    for change, kept, gone, _ in by_index:
        for key in gone:
            obj = change.obj
            index = _collection(space, type(obj), kept, make=change.are_there)
            if not kept.is_unique:
                index.discard(key, obj)
            elif _owner(index, key) in (None, obj._z_oid):
                index._z_delete(index._z_encoded(key))
    for change, kept, _, new in by_index:
        for key in new:
            obj = change.obj
            index = _collection(space, type(obj), kept, make=True)
            if not kept.is_unique:
                index.add(key, obj)
            else:
                owner = _owner(index, key)
                if owner not in (None, obj._z_oid):
                    _take_over(space, obj, kept, key, owner)
                index.replace(key, obj)


class _Oids:
    """In the place of a space: objects are their oids, of whatever class they are by now."""

    def reference(self, of: Any, oid: int) -> int:
        return oid


def _owner(index: Any, key: Any) -> Any:
    """The oid of the object that has a unique key."""
    found = index._z_read(index._z_encoded(key))
    return None if found is None else index._z_value_in(index._z_shape, index._z_entry, found, _Oids())


def _take_over(space: Any, obj: Object, kept: Kept, key: Any, owner: int) -> None:
    """Refuses a key that another object has. An entry alone does not make it that one's: its record has to say so."""
    record = space.get_record(owner, b"")
    doubt, has_it = None, False
    if record is not None and record[0] == obj._z_class:
        try:
            was = known(type(obj), space, owner)
            was._z_fill(record)
            has_it = kept.put(key) in keys_there(was)[0].get(kept.name, {})
        except Exception as error:
            if isinstance(error, ZeoliteError) and not isinstance(error, FixRequest | GiveUp):
                raise  # a matter of the server, which somebody repeats
            doubt = f"whether it still has the key cannot be told here ({error}): deploy the release that wrote it, or "
    if has_it or doubt:
        told = f"{key!r} in the index {kept.name} of {obj._z_class} is that of object {owner:x}"
        raise Taken(f"{told}; {doubt or ''}choose another key")
    space.rests_on(owner)
