"""Owns upgrade scripts as sites have them, with the loop put into ``evolve.each``: the code of docs/zodb.md, which ``test_recipes`` looks
after. Run as a program it is one that somebody stops.

    python scripts.py ADDRESS NAME       steps every document slowly, under that name
"""

from __future__ import annotations

import sys
from typing import Any

import transaction
from ZODB import DB

from zeolite import evolve
from zeolite.zodb import Storage

#: Where the disk of the machine is nearly full, a job would wait.
ANY_DISK = {"disk_pause_percent": 0, "disk_stop_percent": 0}


# repoze.evolution: the module evolve2 of a package, with the root of the database.
def evolve_repoze(root: Any) -> None:
    catalog = root["catalog"]

    def step(doc: Any) -> None:
        doc.title_lower = doc.title.lower()
        catalog.add(doc)

    evolve.each(root["docs"].values(), step, take_back=catalog.remove)


# zope.generations: the function evolve of a generation's module. It commits the transaction that it has begun itself, and so the loop
# takes a connection of its own.
def evolve_generation(context: Any) -> None:
    def step(doc: Any) -> None:
        doc.title_lower = doc.title.lower()

    connection = context.connection.db().open(transaction.TransactionManager())
    evolve.each(connection.root()["docs"].values(), step, name="generation 2")
    connection.close()


# GenericSetup: an upgrade step, with the setup tool; brains are woken in the chunk that steps them.
def upgrade_step(setup_tool: Any) -> None:
    def step(doc: Any) -> None:
        doc.reindexObject(idxs=["Title"])

    evolve.each(setup_tool.portal_catalog(portal_type="Document"), step, get=lambda brain: brain.getObject())


def main() -> None:
    address, name = sys.argv[1:]
    connection = DB(Storage(address)).open()

    def step(doc: Any) -> None:
        doc.views += 1

    def progress(done: int, total: int) -> None:
        print(done, total, flush=True)

    try:
        slow = {"chunk_objects_start": 5, "chunk_objects_max": 5, "rate_max": 40}
        evolve.each(connection.root()["docs"].values(), step, name=name, progress=progress, **slow, **ANY_DISK)
    except KeyboardInterrupt as stopped:
        print(f"stopped: {stopped}", flush=True)
    transaction.abort()


if __name__ == "__main__":
    main()
