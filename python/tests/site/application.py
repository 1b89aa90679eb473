"""A small site as there are many: Pyramid on ZODB, documents in a BTree, a catalog beside it.

It was written for ZEO and knows nothing of Zeolite; only ``zodbconn.uri`` says where its database is.
"""

from __future__ import annotations

from typing import Any

from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.list import PersistentList
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPConflict, HTTPNotFound
from pyramid.request import Request
from pyramid_zodbconn import get_connection
from repoze.catalog.catalog import Catalog
from repoze.catalog.document import DocumentMap
from repoze.catalog.indexes.field import CatalogFieldIndex
from repoze.catalog.indexes.keyword import CatalogKeywordIndex
from repoze.catalog.query import Any as AnyOf
from repoze.catalog.query import Eq


class Document(Persistent):
    """A page; its history has what each edit was told."""

    def __init__(self, name: str, word: str):
        self.name = name
        self.word = word
        self.history = PersistentList()


def word_of(document: Document, default: Any) -> str:
    return document.word


def keywords_of(document: Document, default: Any) -> list[str]:
    return [document.name[:2], document.word]


def size_of(document: Document, default: Any) -> Any:
    """Of the index that the evolve adds."""
    return getattr(document, "size", default)


def site(root: Any) -> Any:
    """What is in the database, made at the first time."""
    if "documents" not in root:
        root["documents"] = OOBTree()
        root["count"] = Length()
        root["map"] = DocumentMap()
        root["catalog"] = Catalog()
        root["catalog"]["word"] = CatalogFieldIndex(word_of)
        root["catalog"]["keywords"] = CatalogKeywordIndex(keywords_of)
    return root


def add(request: Request) -> dict[str, Any]:
    root = site(get_connection(request).root())
    name = request.params["name"]
    if name in root["documents"]:
        raise HTTPConflict
    document = Document(name, request.params["word"])
    root["documents"][name] = document
    root["count"].change(1)
    root["catalog"].index_doc(root["map"].add(name), document)
    return {"added": name}


def edit(request: Request) -> dict[str, Any]:
    root = site(get_connection(request).root())
    document = root["documents"].get(request.params["name"])
    if document is None:
        raise HTTPNotFound
    document.word = request.params["word"]
    document.history.append(request.params["edit"])
    root["catalog"].reindex_doc(root["map"].docid_for_address(document.name), document)
    return {"edited": document.name}


def search(request: Request) -> dict[str, Any]:
    root = site(get_connection(request).root())
    word = request.params["word"]
    count, docids = root["catalog"].query(Eq("word", word) & AnyOf("keywords", [word]))
    found = [root["documents"][root["map"].address_for_docid(docid)] for docid in docids]
    # At one snapshot the catalog and the documents say the same.
    return {"count": count, "wrong": [document.name for document in found if document.word != word]}


def application(uri: str) -> Any:
    settings = {
        "zodbconn.uri": uri,
        "tm.manager_hook": "pyramid_tm.explicit_manager",
        "retry.attempts": 20,
    }
    with Configurator(settings=settings) as config:
        for part in ("pyramid_retry", "pyramid_tm", "pyramid_zodbconn"):
            config.include(part)
        for view in (add, edit, search):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
        return config.make_wsgi_app()
