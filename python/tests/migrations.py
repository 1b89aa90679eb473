"""Owns the steps of the evolve tests and of docs/zodb.md: the code there is the code here, which ``test_recipes`` looks after."""

from __future__ import annotations

from typing import Any

import cms  # noqa: F401  (the release whose versions count)

from zeolite import evolve


# An attribute for all objects of a class.
@evolve.step("cms.Doc", to=2)
def lower(doc: Any, tx: evolve.Tx) -> None:
    doc.title_lower = doc.title.lower()


# A new index, beside a site that keeps it.
@evolve.step("cms.Doc")
def index(doc: Any, tx: evolve.Tx) -> None:
    tx.root()["catalog"].add(doc)


@index.take_back
def unindex(doc: Any, tx: evolve.Tx) -> None:
    tx.root()["catalog"].remove(doc)


# An index that is wrong: each document anew.
@evolve.step("cms.Doc")
def reindex(doc: Any, tx: evolve.Tx) -> None:
    catalog = tx.root()["catalog"]
    catalog.remove(doc)
    catalog.add(doc)


# A class that has another name now: both names are there, and mean the new class.
@evolve.step("cms.Note")
def renamed(note: Any, tx: evolve.Tx) -> None:
    note._p_changed = True


# What refers to its objects tells the class as well.
@evolve.step("BTrees.OOBTree.OOBucket")
def referring(bucket: Any, tx: evolve.Tx) -> None:
    bucket._p_changed = True


# A class that goes: nothing refers to its objects any more, and the next pack takes them.
@evolve.step("cms.Note")
def dropped(note: Any, tx: evolve.Tx) -> None:
    notes = tx.root()["notes"]
    for name in [name for name, other in notes.items() if other is note]:
        del notes[name]
