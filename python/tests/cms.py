"""Owns the application of the evolve tests, in three releases: ``CMS_RELEASE=1`` is the old one, 3 has left its last traces behind. Run
as a program it is the live site.

    python cms.py ADDRESS edit|index NUMBER OF      edits every OF-th document from NUMBER on, until its input ends; says what it did
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from typing import Any

import transaction
from BTrees.IOBTree import IOBTree
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB import DB
from ZODB.POSException import ConflictError

from zeolite.zodb import Storage

RELEASE = int(os.environ.get("CMS_RELEASE", "2"))


class Doc(Persistent):
    """A document. Release 2 knows its title in small letters."""

    def __init__(self, number: int):
        self.number = number
        self.title = f"Title {number}"
        self.views = 0

    if RELEASE > 1:
        _zeolite_version_ = 2

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__({"title_lower": state["title"].lower(), **state})

    def rename(self, title: str) -> None:
        self.title = title
        if RELEASE > 1:
            self.title_lower = title.lower()


class Note(Persistent):
    """Something that release 2 calls a memo; release 3 does not know the old name."""

    def __init__(self, text: str):
        self.text = text


if RELEASE > 1:

    class Memo(Persistent):
        """What was a note."""

        text: str

    Note = Memo  # type: ignore[assignment,misc]  # the old name, as long as records have it
    if RELEASE > 2:
        del Note


class Catalog(Persistent):
    """An index of titles, kept by the live site once it is there."""

    def __init__(self) -> None:
        self.titles = OOBTree()
        self.count = Length()

    def add(self, doc: Doc) -> None:
        if self.titles.get(doc.title) is None:
            self.titles[doc.title] = doc.number
            self.count.change(1)

    def remove(self, doc: Doc) -> None:
        if self.titles.get(doc.title) == doc.number:
            del self.titles[doc.title]
            self.count.change(-1)


def seed(address: str, count: int) -> None:
    """Makes documents, and an empty catalog."""
    database = DB(Storage(address))
    with database.transaction() as connection:
        docs = connection.root()["docs"] = IOBTree()
        connection.root()["catalog"] = Catalog()
        notes = connection.root()["notes"] = OOBTree()
        for number in range(40):
            notes[f"note {number}"] = Note(f"text {number}")
        for number in range(count):
            docs[number] = Doc(number)
    database.close()


class Live:
    """The site: renames documents and counts their views, one transaction each."""

    def __init__(self, address: str, what: str, number: int, of: int):
        self.database = DB(Storage(address))
        self.connection = self.database.open()
        self.indexes = what == "index"
        self.numbers = [n for n in self.connection.root()["docs"] if n % of == number]
        self.random = random.Random(number)
        self.done: dict[str, Any] = {"commits": 0, "conflicts": [], "titles": {}, "views": {}, "gated": 0}

    def once(self) -> None:
        number = self.random.choice(self.numbers)
        title = f"Edit {self.done['commits']} of {number}" if self.random.random() < 0.5 else None
        while True:
            try:
                transaction.begin()
                self.change(number, title)
                transaction.commit()
                break
            except ConflictError as error:
                self.done["conflicts"].append(str(error))
                transaction.abort()
        self.done["commits"] += 1
        if title:
            self.done["titles"][number] = title
        else:
            self.done["views"][number] = self.done["views"].get(number, 0) + 1

    def change(self, number: int, title: str | None) -> None:
        root = self.connection.root()
        doc, catalog = root["docs"][number], root["catalog"]
        if title is None:
            doc.views += 1
            return
        if self.indexes:
            catalog.remove(doc)
        doc.rename(title)
        if self.indexes:
            catalog.add(doc)


def main() -> None:
    address, what, number, of = sys.argv[1:]
    live, over = Live(address, what, int(number), int(of)), threading.Event()

    def watch() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    while not over.is_set():
        live.once()
        if live.done["commits"] == 1:
            print("running", flush=True)
    print(json.dumps(live.done), flush=True)
    transaction.abort()
    live.connection.close()
    live.database.close()


if __name__ == "__main__":
    # What it stores is of the module that others import.
    import cms

    cms.main()
