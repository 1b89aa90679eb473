"""Owns the URI: ``zeolite://host:port,host:port/DATABASE?cache_size=256MB&server_sync=true&connection_pool_size=20``.

The keywords of the storage are those of the configuration section: what a connection is opened with (``zeolite.address``), and what is here.
All others are zodburi's own (``connection_*``, ``database_name``), and go to the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import zodburi

from zeolite import _zeolite
from zeolite.address import READERS, Reader, boolean, native, parsed, size
from zeolite.errors import BadValue

from .storage import Storage

_OF_STORAGES: Mapping[str, Reader] = {
    **READERS,
    "blob_cache_size": size,
    "blob_dir": str,
    "name": str,
    "pack_gc": boolean,
    "read_only": boolean,
    "read_only_fallback": boolean,
    "server_sync": boolean,
}


def resolve(uri: str, **defaults: Any) -> tuple[Callable[[], Storage], dict[str, str]]:
    """A factory of the storage, and what is left for the database."""
    servers, database, said, left = parsed(uri, _OF_STORAGES)
    return lambda: Storage(servers, database, **{**defaults, **said}), left


def check_words(uri: str) -> None:
    """Refuses what neither the storage nor the database has a use for; who opens a database by zodburi is told by that."""
    try:
        zodburi.resolve_uri(uri)
    except zodburi.UnknownDatabaseKeywords as error:
        known = ", ".join(_OF_STORAGES)
        raise BadValue(f"{', '.join(error.kw)} in {uri!r} is no word of a storage; that are {known}, and those of zodburi") from error


def connected(uri: str, role: str) -> tuple[_zeolite.Database, dict[str, Any]]:
    """A connection without a storage, for who acts as ``role`` unless the URI says otherwise; and the keywords."""
    check_words(uri)
    servers, database, said, _ = parsed(uri, _OF_STORAGES)
    if said.get("read_only"):
        raise ValueError(f"{uri!r} only reads; leave read_only out where a job is to be run")
    options = {name: value for name, value in said.items() if name in READERS}
    return native(servers, database=database, **{"role": role, **options}), said
