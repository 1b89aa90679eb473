"""Zeolite for Python: objects and collections on a Zeolite server, in transactions.

    class Page(zeolite.Object, cls="wiki.Page"):
        title: str
        hits: zeolite.Counter

    db = zeolite.connect("127.0.0.1:7878")

    @db.transaction()
    def visit(tx, title):
        tx.root.unique("titles", Page)[title].hits += 1

docs/python.md is the page for users. ``zeolite.aio`` has the same for asyncio, ``zeolite.evolve`` migrations beside the live site,
``zeolite.errors`` the exceptions of everything in this package, ``zeolite.zodb`` the storage for ZODB.
"""

from . import errors as errors
from ._zeolite import __version__
from .database import Database, Transactions, connect
from .typed.annotations import I8, I16, I32, I64, U8, U16, U32, U64
from .typed.blobs import Blob
from .typed.collections import Index, Map, Set, Unique
from .typed.kept import indexed, indexed_by, unique
from .typed.lines import List, Queue
from .typed.numbers import BoundedCounter, Counter, Greatest, Least, bounds
from .typed.objects import Object, upgrade
from .typed.savepoints import Savepoint
from .typed.small import SmallList, SmallSet
from .typed.space import Snapshot, Space
from .typed.transaction import Transaction

from . import evolve as evolve  # isort: skip

__all__ = [
    "I8",
    "I16",
    "I32",
    "I64",
    "U8",
    "U16",
    "U32",
    "U64",
    "Blob",
    "BoundedCounter",
    "Counter",
    "Database",
    "Greatest",
    "Index",
    "Least",
    "List",
    "Map",
    "Object",
    "Queue",
    "Savepoint",
    "Set",
    "SmallList",
    "SmallSet",
    "Snapshot",
    "Space",
    "Transaction",
    "Transactions",
    "Unique",
    "__version__",
    "bounds",
    "connect",
    "errors",
    "evolve",
    "indexed",
    "indexed_by",
    "unique",
    "upgrade",
]
