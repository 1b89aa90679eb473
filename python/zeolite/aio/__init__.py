"""The same for asyncio: the verbs of ``zeolite`` with ``await``, without a thread for each call.

    db = await zeolite.aio.connect("127.0.0.1:7878")

    @db.transaction(note="web request")
    async def add(tx, title):
        page = await tx.create(Page(title=title))
        titles = await tx.root.unique("titles", Page)
        await titles.set(title, page)

    async with db.snapshot("2h") as old: ...
    await tx.run(function, ...)          plain code with plain objects, in this transaction: where it would wait, the task waits

A transaction belongs to the task that began it. docs/python.md has more; ``loop`` says how it waits.
"""

from .collections import (
    Blob,
    BoundedCounter,
    Counter,
    Greatest,
    Index,
    Least,
    List,
    Map,
    Queue,
    Set,
    SmallList,
    SmallSet,
    Unique,
    of,
)
from .database import Database, Snapshot, Transaction, connect

__all__ = [
    "Blob",
    "BoundedCounter",
    "Counter",
    "Database",
    "Greatest",
    "Index",
    "Least",
    "List",
    "Map",
    "Queue",
    "Set",
    "SmallList",
    "SmallSet",
    "Snapshot",
    "Transaction",
    "Unique",
    "connect",
    "of",
]
