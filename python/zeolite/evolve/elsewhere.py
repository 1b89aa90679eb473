"""Owns what a step sees of other databases: an object of its own may refer into them (ZODB's multidatabases, Zope's mounts), and a job
knows one database alone.

    own object ── ["m", ("archive", oid, class)] ──> a ghost of that class: handed on, compared, written again as the same reference
                                                     └── whoever looks into it, or writes there, is refused

Not here: contents of other databases. A commit of a chunk is one of one database; ``evolve.each`` runs where the site has them all open.
"""

from __future__ import annotations

from typing import Any

from ZODB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import Unsupported

#: What the job's database is called among them. Any other name may be in a reference, the default of ZODB's ("unnamed") as well, and would
#: be taken for this one.
OWN = "the database of this evolve"


class Databases(dict[str, DB]):
    """Whichever is asked for is there, and out of reach."""

    def __missing__(self, name: str) -> DB:
        storage = _OutOfReach(name)
        # It enters itself.
        database = DB(storage, databases=self, database_name=name)
        storage.is_made = True
        # Its first connection has made the root, and would remember it.
        database.cacheMinimize()
        return database


class _OutOfReach(MappingStorage):
    """Empty, and once its database is made neither read nor written."""

    is_made = False

    def _check(self) -> None:
        if self.is_made:
            told = f"a step reaches the objects of its own database, and this one is in {self.getName()!r}"
            raise Unsupported(f"{told}; run it in the site, with zeolite.evolve.each")

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:
        self._check()
        return super().loadBefore(oid, tid)

    def tpc_begin(self, transaction: Any, tid: bytes | None = None) -> None:
        self._check()
        super().tpc_begin(transaction, tid)
