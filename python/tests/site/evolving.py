"""A classic evolve of that site, as repoze.evolution runs them: a new attribute and a new index, in chunks, beside the live site.

``evolving.py URI`` prints a line for each chunk that is committed. What is in its way is done again.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any

import transaction
import zodburi
from application import size_of
from repoze.catalog.indexes.field import CatalogFieldIndex
from transaction.interfaces import TransientError
from ZODB import DB

CHUNK = 5


def chunk(root: Any, after: str) -> str | None:
    """Evolves the next few documents; the last of them."""
    last = None
    for name, document in islice(root["documents"].items(after, excludemin=True), CHUNK):
        last = name
        if not hasattr(document, "size"):
            document.size = len(document.word)
        root["catalog"]["size"].index_doc(root["map"].docid_for_address(name), document)
    return last


def main() -> None:
    factory, keywords = zodburi.resolve_uri(sys.argv[1])
    root = DB(factory(), **keywords).open().root()
    retries, after, done = 0, "", 0
    while True:
        try:
            transaction.begin()
            if "size" not in root["catalog"]:
                root["catalog"]["size"] = CatalogFieldIndex(size_of)
            last = chunk(root, after)
            root["schema"] = done + 1
            transaction.commit()
        except TransientError:
            transaction.abort()
            retries += 1
            continue
        if last is None:
            print(f"done after {retries} retries", flush=True)
            return
        after, done = last, done + 1
        print(f"chunk {done}", flush=True)


if __name__ == "__main__":
    main()
