"""Owns the URI: ``zeolite://host:port,host:port/DATABASE?cache_size=256MB&server_sync=true&connection_pool_size=20``.

The keywords of the storage are those of the configuration section; all others are zodburi's own (``connection_*``,
``database_name``), and go to the database. There is no keyword for a token itself: addresses are shown in logs and errors. It comes from
``token_file``, or from where the client library looks for it (docs/security.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ZConfig.datatypes import stock_datatypes

from zeolite import _zeolite

from .storage import Storage


def _boolean(text: str) -> bool:
    known = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}
    if text.lower() not in known:
        raise ValueError(f"{text!r} is neither true nor false")
    return known[text.lower()]


#: As in the configuration section.
_bytes = stock_datatypes["byte-size"]

_KEYWORDS: dict[str, Callable[[str], Any]] = {
    "blob_cache_size": _bytes,
    "blob_dir": str,
    "ca": str,
    "cache_size": _bytes,
    "cert": str,
    "client_label": str,
    "key": str,
    "name": str,
    "pack_gc": _boolean,
    "read_only": _boolean,
    "read_only_fallback": _boolean,
    "role": str,
    "server_sync": _boolean,
    "token_file": str,
    "wait": _boolean,
    "wait_timeout": float,
}


#: Of these, what a connection without a storage needs, as it calls them.
_OF_A_CONNECTION = {
    "ca": "ca",
    "cache_size": "cache_bytes",
    "cert": "cert",
    "client_label": "name",
    "key": "key",
    "token_file": "token_file",
    "wait": "wait",
}


def parsed(uri: str, **defaults: Any) -> tuple[list[str], str, dict[str, Any], dict[str, str]]:
    """The servers, the database, the keywords of the storage, and what is left. Defaults are keywords that the URI may say otherwise."""
    parts = urlsplit(uri)
    servers = [address for address in parts.netloc.split(",") if address]
    if parts.scheme != "zeolite" or not servers:
        raise ValueError(f"{uri!r} names no server; write zeolite://host:port/")
    keywords = defaults
    left: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _KEYWORDS:
            keywords[name] = _KEYWORDS[name](value)
        else:
            left[name] = value
    return servers, unquote(parts.path.strip("/")), keywords, left


def resolve(uri: str, **defaults: Any) -> tuple[Callable[[], Storage], dict[str, str]]:
    """A factory of the storage, and what is left for the database."""
    servers, database, keywords, left = parsed(uri, **defaults)
    return lambda: Storage(servers, database, **keywords), left


def connected(uri: str, role: str) -> tuple[_zeolite.Database, dict[str, Any]]:
    """A connection without a storage, for who acts as ``role`` unless the URI says otherwise; and the keywords."""
    servers, database, keywords, _ = parsed(uri, role=role)
    if keywords.get("read_only"):
        raise ValueError(f"{uri!r} only reads; leave read_only out where a job is to be run")
    said = {theirs: keywords[ours] for ours, theirs in _OF_A_CONNECTION.items() if ours in keywords}
    if "wait_timeout" in keywords:
        said["timeout_ms"] = max(1, int(keywords["wait_timeout"] * 1000))
    return _zeolite.Database(servers, database=database, role=keywords["role"], **said), keywords
